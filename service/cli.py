"""The command line `clear-service`: what a person or a script calls; the work is done elsewhere."""

import json
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service import console
from service.settings import Settings, load_settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.retrieval.building import BuildReport
    from service.retrieval.encoder import Encoder
    from service.retrieval.errors import PassageError

app = typer.Typer(
    help="Ask in any language, search English passages.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
index_app = typer.Typer(help="Build an index and look after it.", no_args_is_help=True)
app.add_typer(index_app, name="index")

EncoderOption = Annotated[
    str | None,
    typer.Option("--encoder", help="bundled, a folder, or name@revision (CLEAR_ENCODER)"),
]
IndexOption = Annotated[Path | None, typer.Option("--index", help="The index folder (CLEAR_INDEX)")]
CacheOption = Annotated[
    Path | None, typer.Option("--cache", help="Folder for what is made once (CLEAR_CACHE)")
]
DeviceOption = Annotated[
    str | None, typer.Option("--device", help="auto, cpu, cuda or cuda:N (CLEAR_DEVICE)")
]
HostOption = Annotated[str | None, typer.Option("--host", help="Address (CLEAR_HOST)")]
PortOption = Annotated[int | None, typer.Option("--port", help="Port (CLEAR_PORT)")]
JsonOption = Annotated[
    bool, typer.Option("--json", envvar="CLEAR_JSON", help="Print JSON, for a program")
]


def main() -> None:
    """Run the command line."""
    app()


PassagesArgument = Annotated[
    Path, typer.Argument(help=".jsonl, .jsonl.gz, .parquet or a BEIR folder")
]
FactoryOption = Annotated[
    str | None, typer.Option("--factory", help="FAISS factory string (CLEAR_FACTORY)")
]
SkipOption = Annotated[
    bool,
    typer.Option(
        "--skip-invalid", envvar="CLEAR_SKIP_INVALID", help="Count invalid passages and go on"
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        envvar="CLEAR_WORKERS",
        help="Processes that encode, each with its share of the cores or a GPU",
    ),
]
RayOption = Annotated[
    str | None,
    typer.Option("--ray", envvar="CLEAR_RAY", help="Encode on this Ray cluster: auto or host:port"),
]
NO_INDEX_WRITTEN = "interrupted: the live generation is unchanged, what was encoded is kept"


@index_app.command("build")
def index_build(
    passages: PassagesArgument,
    index: IndexOption = None,
    encoder: EncoderOption = None,
    factory: FactoryOption = None,
    skip_invalid: SkipOption = False,
    workers: WorkersOption = None,
    ray: RayOption = None,
    cache: CacheOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Embed passages and publish them as the index's live generation."""
    with console.one_line_errors(NO_INDEX_WRITTEN):
        settings = load_settings(
            index=index, encoder=encoder, factory=factory, cache=cache, device=device
        )
        from service.retrieval.building import build_index

        build = partial(build_index, factory=settings.factory)
        _write_index(build, passages, settings, (workers, ray), skip_invalid, as_json)


@index_app.command("update")
def index_update(
    passages: PassagesArgument,
    index: IndexOption = None,
    encoder: EncoderOption = None,
    factory: Annotated[
        str | None, typer.Option("--factory", help="FAISS factory string, by default as it is")
    ] = None,
    skip_invalid: SkipOption = False,
    workers: WorkersOption = None,
    ray: RayOption = None,
    cache: CacheOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Publish the whole corpus anew; only new and changed passages are embedded."""
    with console.one_line_errors(NO_INDEX_WRITTEN):
        settings = load_settings(index=index, encoder=encoder, cache=cache, device=device)
        from service.retrieval.building import update_index

        update = partial(update_index, factory=factory)
        _write_index(update, passages, settings, (workers, ray), skip_invalid, as_json)


def _write_index(
    write: "Callable[..., BuildReport]",
    passages: Path,
    settings: Settings,
    workers: tuple[int | None, str | None],
    skip_invalid: bool,
    as_json: bool,
) -> None:
    from service.loading import shard_encoder_of
    from service.retrieval.passages import read_passages, refuse

    skipped: list[str] = []

    def skip(error: "PassageError") -> None:
        skipped.append(str(error))
        if len(skipped) <= 10:
            console.messages().print(f"skipped: {error}", soft_wrap=True, markup=False)

    on_invalid = skip if skip_invalid else refuse
    with console.build_progress() as on_progress:
        folder, loaded = _index_folder(settings), _load_encoder(settings)
        report = write(
            read_passages(passages, on_invalid),
            folder,
            loaded,
            shard_encoder=shard_encoder_of(settings, loaded, *workers),
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
        }
        typer.echo(json.dumps(facts))
        return
    out = console.messages()
    out.print(f"generation {report.directory.name}: {report.counts.num_passages} passages")
    if report.counts.num_truncated:
        out.print(
            f"{report.counts.num_truncated} passages were cut at the encoder's limit of tokens"
        )
    if num_skipped:
        out.print(f"{num_skipped} invalid passages were skipped")


@index_app.command("verify")
def index_verify(index: IndexOption = None, as_json: JsonOption = False) -> None:
    """Hold every file of the live generation against its hash."""
    with console.one_line_errors():
        folder = _index_folder(load_settings(index=index))
        from service.retrieval.generation import open_current

        generation = open_current(folder)
        facts = {
            "generation": generation.name,
            "passages": len(generation.passages),
            "encoder": generation.manifest["encoder"],
            "factory": generation.manifest["factory"],
            "created": generation.created.isoformat(timespec="seconds"),
        }
        if as_json:
            typer.echo(json.dumps(facts))
        else:
            typer.echo(f"generation {generation.name} is whole: {facts['passages']} passages")


@index_app.command("list")
def index_list(index: IndexOption = None, as_json: JsonOption = False) -> None:
    """List the generations, newest first; files are measured, `verify` hashes them."""
    with console.one_line_errors():
        folder = _index_folder(load_settings(index=index))
        from service.listing import print_generations
        from service.retrieval.publication import list_generations

        print_generations(list_generations(folder), as_json)


@index_app.command("rollback")
def index_rollback(
    index: IndexOption = None,
    to: Annotated[
        str | None, typer.Option(help="A generation's name; by default the one live before")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a former generation live again, once its files are verified."""
    with console.one_line_errors():
        folder = _index_folder(load_settings(index=index))
        from service.retrieval.publication import roll_back

        name = roll_back(folder, to)
        typer.echo(json.dumps({"generation": name}) if as_json else f"generation {name} is live")


@index_app.command("gc")
def index_gc(
    index: IndexOption = None,
    keep: Annotated[
        int, typer.Option(min=0, help="How many former generations stay to roll back to")
    ] = 1,
    as_json: JsonOption = False,
) -> None:
    """Remove old generations and what interrupted builds left."""
    with console.one_line_errors():
        folder = _index_folder(load_settings(index=index))
        from service.retrieval.publication import collect_garbage

        removed = collect_garbage(folder, keep)
        if as_json:
            typer.echo(json.dumps({"removed": removed.names, "bytes": removed.num_bytes}))
        else:
            typer.echo(
                f"{len(removed.names)} generations removed, {removed.num_bytes / 2**20:.1f} MiB"
            )


@app.command()
def serve(
    index: IndexOption = None,
    encoder: EncoderOption = None,
    host: HostOption = None,
    port: PortOption = None,
    cache: CacheOption = None,
    device: DeviceOption = None,
) -> None:
    """Serve an index over HTTP, with the search page."""
    with console.one_line_errors():
        _share_cores()
        settings = load_settings(
            index=index, encoder=encoder, host=host, port=port, cache=cache, device=device
        )
        _serve(settings)


@app.command()
def search(
    query: Annotated[str, typer.Argument(help="A question, in any language")],
    index: IndexOption = None,
    encoder: EncoderOption = None,
    top_k: Annotated[
        int, typer.Option(min=1, max=1000, envvar="CLEAR_TOP_K", help="Hits at the most")
    ] = 5,
    cache: CacheOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask one question in the terminal."""
    with console.one_line_errors():
        settings = load_settings(index=index, encoder=encoder, cache=cache, device=device)
        from service.hits import print_hits
        from service.retrieval.generation import open_current
        from service.retrieval.searcher import Searcher

        folder = _index_folder(settings)
        loaded = _load_encoder(settings)
        searcher = Searcher(loaded, open_current(folder, str(loaded.device)))
        print_hits(searcher.search([query], top_k)[0], as_json)


@app.command()
def demo(
    host: HostOption = None,
    port: PortOption = None,
    cache: CacheOption = None,
    build_only: Annotated[
        bool,
        typer.Option("--build-only", envvar="CLEAR_BUILD_ONLY", help="Build the index and stop"),
    ] = False,
) -> None:
    """Serve the CIA World Factbook with the bundled encoder; builds its index the first time."""
    with console.one_line_errors("interrupted"):
        _share_cores()
        from service.demo import demo_index_name, ensure_demo_index

        settings = load_settings(host=host, port=port, cache=cache)
        folder = settings.cache / demo_index_name(settings.encoder)
        with console.build_progress() as on_progress:
            ensure_demo_index(folder, lambda: _load_encoder(settings), on_progress)
        if not build_only:
            _serve(settings.model_copy(update={"index": folder}))


@app.command()
def doctor(
    index: IndexOption = None,
    encoder: EncoderOption = None,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look at devices, builds, encoder and index, and say what to mend."""
    with console.one_line_errors():
        from service.doctor import examine, print_findings

        findings = examine(load_settings(index=index, encoder=encoder, cache=cache))
        print_findings(findings, as_json)
        if any(finding.is_wrong for finding in findings):
            raise typer.Exit(1)


def _share_cores() -> None:
    """Have torch's threads sleep between their tasks; must come before torch is imported.

    By default they spin for milliseconds, and take the cores from the threads that serve.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _serve(settings: Settings) -> None:
    from service.server import serve as run_server

    console.start_logging(settings.log_level)
    run_server(settings)


def _index_folder(settings: Settings) -> Path:
    if settings.index is None:
        console.fail("no index is named: give --index DIR or set CLEAR_INDEX")
    return settings.index


def _load_encoder(settings: Settings) -> "Encoder":
    from service.loading import load_encoder_of

    return load_encoder_of(settings)
