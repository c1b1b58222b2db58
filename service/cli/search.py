"""The command that searches an index from the terminal."""

from typing import TYPE_CHECKING, Annotated

import typer

from service.cli import console
from service.cli.options import (
    CacheOption,
    DeviceOption,
    EncoderOption,
    IndexOrUrlOption,
    JsonOption,
    PassagePromptOption,
    QueryPromptOption,
    load_settings,
    pulled_index_folder,
)
from service.cli.tables import print_hits
from service.retrieval.progress import show_progress

if TYPE_CHECKING:  # their modules import torch
    from service.engine.page import Page
    from service.retrieval.corpus.filters import Filter
    from service.retrieval.hits import Hit
    from service.retrieval.searcher import Searcher

app = typer.Typer()


@app.command()
def search(
    query: Annotated[str, typer.Argument(help="A query in any language")],
    index: IndexOrUrlOption = None,
    encoder: EncoderOption = None,
    query_prompt: QueryPromptOption = None,
    passage_prompt: PassagePromptOption = None,
    top_k: Annotated[
        int, typer.Option(min=1, max=1000, envvar="CLEAR_TOP_K", help="Most hits to return")
    ] = 5,
    filter: Annotated[
        str | None,
        typer.Option(
            envvar="CLEAR_FILTER", help='JSON, such as {"country": "Kenya", "year": {"gte": 2000}}'
        ),
    ] = None,
    cache: CacheOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Search an index from the terminal."""
    with console.one_line_errors():
        _check_query(query)
        content = _json(filter, "--filter") if filter else None
        settings = load_settings(
            index=index,
            encoder=encoder,
            query_prompt=query_prompt,
            passage_prompt=passage_prompt,
            cache=cache,
            device=device,
        )
        folder = pulled_index_folder(settings)
        from service.components import index_options_of, load_encoder_of
        from service.engine.page import Page
        from service.retrieval.corpus.filters import parse_filter
        from service.retrieval.generation.generation import current_name, open_current
        from service.retrieval.searcher import Searcher

        # Checked before the encoder is loaded, which takes seconds.
        chosen = None if content is None else parse_filter(content)
        current_name(folder)
        with show_progress(is_transient=True) as on_progress:
            on_progress("load", 0, None)
            loaded = load_encoder_of(settings)
            on_progress("open", 0, None)
            searcher = Searcher(loaded, open_current(folder, index_options_of(settings, loaded)))
            on_progress("search", 0, None)
            searcher.prepare_relevance()
            page = Page(top_k, by_document=True, evidence=True).resolve([query], searcher)[0]
            hits = _find(searcher, query, page, chosen)
        console.print_warning(searcher.warning)
        print_hits(hits, not searcher.relevance.reason, as_json)


def _find(searcher: "Searcher", query: str, page: "Page", chosen: "Filter | None") -> "list[Hit]":
    """Return the page of a query's hits, folded as `/search` folds them, with their evidence."""
    from service.retrieval.identifiers.index import fuse

    if chosen:
        searcher.selections.select(chosen)  # which refuses fields that are not declared
    [embedding] = searcher.encoder.encode([query], "query").embeddings
    match, depth = searcher.match(query, chosen), page.depth
    while True:
        ranking = fuse(searcher.rank(embedding[None], depth, [chosen])[0], embedding, match)
        left = page.left(searcher.hits(ranking, page.min_score, page.most_hits))
        deeper = page.deeper(left, ranking, depth)
        if deeper is None:
            return searcher.with_evidence(page.cut(left), embedding)
        depth = deeper


def _check_query(query: str) -> None:
    """Refuse what the API refuses, in its words."""
    from pydantic import TypeAdapter, ValidationError

    from service.api.schemas import Text

    try:
        TypeAdapter(Text).validate_python(query)
    except ValidationError as error:
        console.fail(f"query: {error.errors()[0]['msg']}")


def _json(text: str, name: str) -> object:
    from service.retrieval.storage.json_lines import parse_json

    try:
        return parse_json(text)
    except ValueError as error:
        console.fail(
            f'{name} is not valid JSON: {error}, or quote it, as \'{{"country": "Kenya"}}\''
        )
