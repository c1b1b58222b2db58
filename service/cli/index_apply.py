"""The command index apply: changes of a corpus in, a new generation of its index out."""

from typing import TYPE_CHECKING

import typer

from service.cli import console
from service.cli.build_report import NOTHING_WRITTEN, print_report, what_is_kept
from service.cli.corpus import Corpus
from service.cli.options import (
    CacheOption,
    ChangesArgument,
    DeviceOption,
    EncoderOption,
    IdFieldOption,
    IndexOption,
    JsonOption,
    PassagePromptOption,
    QueryPromptOption,
    RayOption,
    SkipOption,
    TextFieldOption,
    TitleFieldOption,
    WorkersOption,
    index_folder,
    load_settings,
)
from service.retrieval import interruption
from service.retrieval.progress import show_progress

if TYPE_CHECKING:
    from pathlib import Path

    from service.retrieval.indexing.build import BuildReport
    from service.settings.settings import Settings

app = typer.Typer()


@app.command("apply")
def index_apply(
    changes: ChangesArgument,
    index: IndexOption = None,
    encoder: EncoderOption = None,
    query_prompt: QueryPromptOption = None,
    passage_prompt: PassagePromptOption = None,
    id_field: IdFieldOption = "",
    text_field: TextFieldOption = "",
    title_field: TitleFieldOption = "",
    skip_invalid: SkipOption = False,
    workers: WorkersOption = None,
    ray: RayOption = None,
    cache: CacheOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put and delete some documents of the live generation; the others are kept as they are."""
    with console.one_line_errors(NOTHING_WRITTEN):
        settings = load_settings(
            index=index,
            encoder=encoder,
            query_prompt=query_prompt,
            passage_prompt=passage_prompt,
            cache=cache,
            device=device,
        )
        names = (id_field, text_field, title_field)
        report, num_skipped, before = _apply(changes, names, settings, skip_invalid, (workers, ray))
        print_report(report, num_skipped, as_json, before=before)


def _apply(
    changes: ChangesArgument,
    names: tuple[str, str, str],
    settings: "Settings",
    skip_invalid: bool,
    workers: tuple[int | None, str | None],
) -> "tuple[BuildReport, int, Path]":
    """Apply the changes; return the report, how many were skipped, and what was live before."""
    from functools import partial

    from service.components import (
        checkpoint_of,
        index_options_of,
        load_encoder_of,
        settings_for_update,
        shard_encoder_of,
    )
    from service.retrieval.generation.generation import (
        check_passage_side,
        current_name,
        generations_directory,
    )
    from service.retrieval.generation.manifest import read_manifest
    from service.retrieval.indexing.apply import apply_changes
    from service.retrieval.indexing.push import push_if_configured

    folder = index_folder(settings)
    before = generations_directory(folder) / current_name(folder)
    live = read_manifest(before)
    settings = settings_for_update(settings, live.encoder.runtime)
    corpus = Corpus(changes, names, live.fields, skip_invalid)
    with interruption.reporting(what_is_kept(folder)), show_progress() as on_progress:
        found = corpus.read_changes()
        check_passage_side(live.encoder, checkpoint_of(settings))
        if live.factory != "Flat":
            console.stderr_console().print(
                f"{live.factory} is made again from all {live.count} vectors; only Flat is copied",
                markup=False,
            )
        on_progress("load", 0, None)
        loaded = load_encoder_of(settings)
        console.print_prompts(loaded.prompts_in_force)
        options = index_options_of(settings, loaded)
        report = apply_changes(
            found,
            folder,
            loaded,
            shard_encoder=shard_encoder_of(settings, loaded, *workers),
            before_publish=partial(push_if_configured, options=options, on_progress=on_progress),
            on_invalid=corpus.on_invalid,
            on_progress=on_progress,
        )
    return report, corpus.num_skipped, before
