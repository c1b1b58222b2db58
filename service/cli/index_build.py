"""The commands that write an index: build and update."""

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli import console
from service.cli.build_report import (
    NOTHING_WRITTEN,
    live_manifest,
    print_replaced,
    print_report,
    what_is_kept,
)
from service.cli.corpus import Corpus
from service.cli.options import (
    CacheOption,
    ChunkOverlapOption,
    ChunkTokensOption,
    DeduplicateOption,
    DeviceOption,
    EncoderOption,
    EvidenceOption,
    FactoryOption,
    FieldOption,
    IdFieldOption,
    IndexOption,
    JsonOption,
    LateChunkingOption,
    NoChunkOption,
    PassagePromptOption,
    PassagesArgument,
    QueryPromptOption,
    RayOption,
    SkipOption,
    TextFieldOption,
    TitleFieldOption,
    WorkersOption,
    chunk_limits,
    index_folder,
    load_settings,
)
from service.retrieval import interruption
from service.retrieval.progress import show_progress

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from service.retrieval.corpus.duplicates import Duplicates
    from service.retrieval.indexing.build import BuildReport
    from service.settings.settings import Settings

app = typer.Typer()


@app.command("build")
def index_build(
    passages: PassagesArgument,
    index: IndexOption = None,
    encoder: EncoderOption = None,
    query_prompt: QueryPromptOption = None,
    passage_prompt: PassagePromptOption = None,
    factory: FactoryOption = None,
    field: FieldOption = None,
    id_field: IdFieldOption = "",
    text_field: TextFieldOption = "",
    title_field: TitleFieldOption = "",
    chunk_tokens: ChunkTokensOption = None,
    chunk_overlap: ChunkOverlapOption = None,
    no_chunk: NoChunkOption = False,
    evidence: EvidenceOption = None,
    late_chunking: LateChunkingOption = None,
    deduplicate: DeduplicateOption = None,
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

        fields = parse_fields(field or [])
        build = partial(
            build_index,
            factory=settings.factory,
            fields=fields,
            evidence=bool(evidence),
            deduplicate=bool(deduplicate),
        )
        corpus = Corpus(passages, (id_field, text_field, title_field), fields, skip_invalid)
        chunks = chunk_limits(chunk_tokens, chunk_overlap, late_chunking, no_chunk)
        before = live_manifest(index_folder(settings))
        report = _write_index(build, corpus, settings, (workers, ray), as_json, chunks)
        print_replaced(before, report)


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
    id_field: IdFieldOption = "",
    text_field: TextFieldOption = "",
    title_field: TitleFieldOption = "",
    chunk_tokens: ChunkTokensOption = None,
    chunk_overlap: ChunkOverlapOption = None,
    no_chunk: NoChunkOption = False,
    evidence: EvidenceOption = None,
    late_chunking: LateChunkingOption = None,
    deduplicate: DeduplicateOption = None,
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
        from service.components import checkpoint_of, settings_for_update
        from service.retrieval.corpus.fields import parse_fields
        from service.retrieval.generation.generation import (
            check_passage_side,
            current_name,
            generations_directory,
        )
        from service.retrieval.generation.manifest import read_manifest
        from service.retrieval.indexing.build import update_index

        folder = index_folder(settings)
        before = generations_directory(folder) / current_name(folder)
        live = read_manifest(before)
        settings = settings_for_update(settings, live.encoder.runtime)
        fields = parse_fields(field) if field else live.fields
        kept: dict[str, Any] = {"evidence": evidence, "deduplicate": deduplicate}
        update = partial(update_index, factory=factory, fields=fields, **kept)
        corpus = Corpus(passages, (id_field, text_field, title_field), fields, skip_invalid)
        chunks = chunk_limits(chunk_tokens, chunk_overlap, late_chunking, no_chunk)
        _write_index(
            *(update, corpus, settings, (workers, ray), as_json, chunks),
            lambda: check_passage_side(live.encoder, checkpoint_of(settings)),
            before,
        )


def _write_index(
    write: "Callable[..., BuildReport]",
    corpus: "Corpus",
    settings: "Settings",
    workers: tuple[int | None, str | None],
    as_json: bool,
    chunks: tuple[int | None, int | None, bool | None],
    before_load: "Callable[[], None]" = lambda: None,
    before: "Path | None" = None,
) -> "BuildReport":
    from service.components import index_options_of, load_encoder_of, shard_encoder_of
    from service.retrieval.corpus.chunks.chunking import Chunking
    from service.retrieval.indexing.push import push_if_configured
    from service.retrieval.mapped_files import release_program_pages

    folder = index_folder(settings)
    duplicates: list[Duplicates] = []
    with interruption.reporting(what_is_kept(folder)), show_progress() as on_progress:
        passages = corpus.read()
        on_progress("load", 0, None)
        before_load()
        loaded = load_encoder_of(settings)
        release_program_pages()  # read to load, and not needed again
        console.print_prompts(loaded.prompts_in_force)
        options = index_options_of(settings, loaded)
        chunking = None
        if chunks != (None, None, None):
            chunking = Chunking.of(loaded.side("passage").max_tokens, *chunks)
        report = write(
            passages,
            folder,
            loaded,
            chunking=chunking,
            shard_encoder=shard_encoder_of(settings, loaded, *workers),
            before_publish=partial(push_if_configured, options=options, on_progress=on_progress),
            on_invalid=corpus.on_invalid,
            on_progress=on_progress,
            on_duplicates=duplicates.append,
        )
    print_report(report, corpus.num_skipped, as_json, next(iter(duplicates), None), before)
    return report
