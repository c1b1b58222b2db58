"""The commands that write an index: build and update."""

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli import console
from service.cli.options import (
    CacheOption,
    DeviceOption,
    EncoderOption,
    FactoryOption,
    FieldOption,
    IndexOption,
    JsonOption,
    PassagePromptOption,
    PassagesArgument,
    QueryPromptOption,
    RayOption,
    SkipOption,
    WorkersOption,
    index_folder,
)
from service.retrieval import interruption
from service.retrieval.progress import show_progress
from service.settings.settings import Settings, load_settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.retrieval.indexing.build import BuildReport

app = typer.Typer()
NOTHING_WRITTEN = "interrupted: nothing was written"


@app.command("build")
def index_build(
    passages: PassagesArgument,
    index: IndexOption = None,
    encoder: EncoderOption = None,
    query_prompt: QueryPromptOption = None,
    passage_prompt: PassagePromptOption = None,
    factory: FactoryOption = None,
    field: FieldOption = None,
    skip_invalid: SkipOption = False,
    workers: WorkersOption = None,
    ray: RayOption = None,
    cache: CacheOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Embed passages and publish them as the live generation of the index."""
    with console.one_line_errors(NOTHING_WRITTEN):
        settings = load_settings(
            index=index,
            encoder=encoder,
            query_prompt=query_prompt,
            passage_prompt=passage_prompt,
            factory=factory,
            cache=cache,
            device=device,
        )
        from service.retrieval.corpus.fields import parse_fields
        from service.retrieval.indexing.build import build_index

        build = partial(build_index, factory=settings.factory, fields=parse_fields(field or []))
        _write_index(build, passages, settings, (workers, ray), skip_invalid, as_json)


@app.command("update")
def index_update(
    passages: PassagesArgument,
    index: IndexOption = None,
    encoder: EncoderOption = None,
    query_prompt: QueryPromptOption = None,
    passage_prompt: PassagePromptOption = None,
    factory: Annotated[
        str | None, typer.Option("--factory", help="FAISS factory string; by default unchanged")
    ] = None,
    field: FieldOption = None,
    skip_invalid: SkipOption = False,
    workers: WorkersOption = None,
    ray: RayOption = None,
    cache: CacheOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Publish a changed corpus; only new and changed passages are embedded."""
    with console.one_line_errors(NOTHING_WRITTEN):
        settings = load_settings(
            index=index,
            encoder=encoder,
            query_prompt=query_prompt,
            passage_prompt=passage_prompt,
            cache=cache,
            device=device,
        )
        from service.retrieval.corpus.fields import parse_fields
        from service.retrieval.generation.generation import current_name
        from service.retrieval.indexing.build import update_index

        current_name(index_folder(settings))  # before the encoder is loaded: there is an index
        fields = parse_fields(field) if field else None  # None: unchanged
        update = partial(update_index, factory=factory, fields=fields)
        _write_index(update, passages, settings, (workers, ray), skip_invalid, as_json)


def what_is_kept(index: Path) -> "Callable[[], str]":
    """Return a function that says, at the end of an interrupted build, what it leaves."""
    from service.retrieval.generation.generation import CURRENT
    from service.retrieval.generation.history import UNFINISHED

    def describe() -> str:
        has_live, has_shards = (index / CURRENT).exists(), any((index / UNFINISHED).glob("[!.]*"))
        live = "the live generation is unchanged" if has_live else "no index was written"
        return f"interrupted: {live}{', the encoded shards are kept' if has_shards else ''}"

    return describe


def _write_index(
    write: "Callable[..., BuildReport]",
    passages: Path,
    settings: Settings,
    workers: tuple[int | None, str | None],
    skip_invalid: bool,
    as_json: bool,
) -> None:
    from service.components import index_options_of, load_encoder_of, shard_encoder_of
    from service.retrieval.corpus.reader import read_ahead, read_passages
    from service.retrieval.errors import PassageError
    from service.retrieval.indexing.push import push_if_configured

    skipped: list[str] = []

    def skip(error: PassageError) -> None:
        skipped.append(str(error))
        if len(skipped) <= 10:
            console.stderr_console().print(f"skipped: {error}", soft_wrap=True, markup=False)

    def refuse(error: PassageError) -> None:
        raise PassageError(f"{error}, or give --skip-invalid")

    on_invalid = skip if skip_invalid else refuse
    folder = index_folder(settings)
    with interruption.reporting(what_is_kept(folder)), show_progress() as on_progress:
        read = read_ahead(read_passages(passages, on_invalid), passages)
        on_progress("load", 0, None)
        loaded = load_encoder_of(settings)
        console.print_prompts(loaded.prompts_in_force)
        options = index_options_of(settings, loaded)
        report = write(
            read,
            folder,
            loaded,
            shard_encoder=shard_encoder_of(settings, loaded, *workers),
            before_publish=partial(push_if_configured, options=options, on_progress=on_progress),
            on_invalid=on_invalid,
            on_progress=on_progress,
        )
    _print_report(report, len(skipped), as_json)


def _print_report(report: "BuildReport", num_skipped: int, as_json: bool) -> None:
    if as_json:
        facts = {
            "generation": report.directory.name,
            "passages": report.counts.num_passages,
            "truncated": report.counts.num_truncated,
            "reused": report.counts.num_reused,
            "encoded": report.counts.num_encoded,
            "skipped": num_skipped,
            "unembedded": report.counts.num_unembedded,
        }
        typer.echo(json.dumps(facts))
        return
    out = console.stderr_console()
    counts = report.counts
    out.print(
        f"generation {report.directory.name}: {counts.num_passages} passages, "
        f"{counts.num_encoded} embedded, {counts.num_reused} reused"
    )
    if counts.num_truncated:
        out.print(f"{counts.num_truncated} passages were truncated at the encoder's token limit")
    if num_skipped:
        out.print(f"{num_skipped} invalid passages were skipped")
    if counts.num_unembedded:
        out.print(f"{counts.num_unembedded} of them got no unit vector from the encoder")
