"""The command line `clear-service`: what a person or a script calls; the work is done elsewhere."""

import json
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service import console
from service.issuing import app as key_app
from service.retrieval.cores import available_cores
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
app.add_typer(key_app, name="key")

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
FieldOption = Annotated[
    list[str] | None,
    typer.Option(
        "--field",
        envvar="CLEAR_FIELD",
        help="NAME:KIND to filter by (string, number, boolean, strings), or a .toml or .json "
        "file of them; may be repeated",
    ),
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
    field: FieldOption = None,
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
        from service.retrieval.fields import parse_fields

        build = partial(build_index, factory=settings.factory, fields=parse_fields(field or []))
        _write_index(build, passages, settings, (workers, ray), skip_invalid, as_json)


@index_app.command("update")
def index_update(
    passages: PassagesArgument,
    index: IndexOption = None,
    encoder: EncoderOption = None,
    factory: Annotated[
        str | None, typer.Option("--factory", help="FAISS factory string, by default as it is")
    ] = None,
    field: FieldOption = None,
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
        from service.retrieval.fields import parse_fields

        fields = parse_fields(field) if field else None  # by default as they are
        update = partial(update_index, factory=factory, fields=fields)
        _write_index(update, passages, settings, (workers, ray), skip_invalid, as_json)


def _write_index(
    write: "Callable[..., BuildReport]",
    passages: Path,
    settings: Settings,
    workers: tuple[int | None, str | None],
    skip_invalid: bool,
    as_json: bool,
) -> None:
    from service.loading import index_options_of, shard_encoder_of
    from service.retrieval.passages import read_passages, refuse
    from service.retrieval.pushing import push_where_asked

    skipped: list[str] = []

    def skip(error: "PassageError") -> None:
        skipped.append(str(error))
        if len(skipped) <= 10:
            console.messages().print(f"skipped: {error}", soft_wrap=True, markup=False)

    on_invalid = skip if skip_invalid else refuse
    with console.build_progress() as on_progress:
        folder, loaded = _index_folder(settings), _load_encoder(settings)
        options = index_options_of(settings, loaded)
        report = write(
            read_passages(passages, on_invalid),
            folder,
            loaded,
            shard_encoder=shard_encoder_of(settings, loaded, *workers),
            before_publish=partial(push_where_asked, options=options, on_progress=on_progress),
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


@index_app.command("push")
def index_push(index: IndexOption = None, as_json: JsonOption = False) -> None:
    """Load the live generation into Milvus (CLEAR_MILVUS_URI) and set the alias on it."""
    with console.one_line_errors("interrupted: run it again, it begins anew"):
        settings = load_settings(index=index, index_backend="milvus")
        folder = _index_folder(settings)
        from service.loading import index_options_of
        from service.retrieval.generation import (
            current_name,
            generations_directory,
            verify_generation,
        )
        from service.retrieval.pushing import push_generation

        name = current_name(folder)
        directory = generations_directory(folder) / name
        verify_generation(directory)
        with console.build_progress() as on_progress:
            options = index_options_of(settings)
            collection = push_generation(directory, name, options, on_progress)
        if as_json:
            typer.echo(json.dumps({"generation": name, "collection": collection}))
        else:
            console.messages().print(f"generation {name} is in Milvus as {collection}")


@index_app.command("plan")
def index_plan(
    passages: Annotated[int, typer.Option(min=1, help="How many there will be")],
    dimension: Annotated[int, typer.Option(min=1, help="Of an embedding")] = 384,
    memory: Annotated[float, typer.Option(min=0.001, help="GiB that the vectors may take")] = 8.0,
    on_gpu: Annotated[bool, typer.Option("--gpu", help="The memory is a GPU's")] = False,
    as_json: JsonOption = False,
) -> None:
    """Advise which index suits a corpus: size, recall and time of each kind."""
    with console.one_line_errors():
        from service.plans import print_plans
        from service.retrieval.index.plan import plan

        print_plans(plan(passages, dimension, memory, on_gpu), as_json)


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
    """Ask one question in the terminal."""
    with console.one_line_errors():
        settings = load_settings(index=index, encoder=encoder, cache=cache, device=device)
        from service.hits import print_hits
        from service.loading import index_options_of
        from service.retrieval.filters import parse_filter
        from service.retrieval.generation import open_current
        from service.retrieval.searcher import Searcher

        folder = _index_folder(settings)
        loaded = _load_encoder(settings)
        searcher = Searcher(loaded, open_current(folder, index_options_of(settings, loaded)))
        chosen = parse_filter(_json(filter, "--filter")) if filter else None
        print_hits(searcher.search([query], top_k, filter=chosen)[0], as_json)


@app.command()
def demo(
    index: Annotated[
        Path | None, typer.Option("--index", help="Its folder; one in the cache by default")
    ] = None,
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
        folder = index or settings.cache / demo_index_name(settings.encoder)
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


@app.command()
def mcp(
    url: Annotated[
        str, typer.Option(envvar="CLEAR_URL", help="Of the running service to search")
    ] = "http://127.0.0.1:8000",
) -> None:
    """Let an assistant search a running service: the Model Context Protocol on stdin and stdout.

    Where the service asks for a key, it is read from CLEAR_API_KEY.
    """
    with console.one_line_errors():
        from importlib.metadata import version

        from service.client import AsyncClient

        try:
            from service.integrations.mcp import create_server
        except ImportError:
            console.fail("the extra is missing: pip install 'clear-search[mcp]'")
        client = AsyncClient(url, os.environ.get("CLEAR_API_KEY"))
        create_server(client, version("clear-search")).run()


def _share_cores() -> None:
    """Have torch's threads sleep between their tasks; must come before torch is imported.

    By default they spin for milliseconds, and take the cores from the threads that serve.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if (cores := available_cores()) < len(os.sched_getaffinity(0)):  # a container's limit
        os.environ.setdefault("OMP_NUM_THREADS", str(cores))


def _serve(settings: Settings) -> None:
    from service.server import serve as run_server

    console.start_logging(settings.log_level, settings.log_format)
    run_server(settings)


def _index_folder(settings: Settings) -> Path:
    if settings.index is None:
        console.fail("no index is named: give --index DIR or set CLEAR_INDEX")
    return settings.index


def _json(text: str, name: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        console.fail(f'{name} is not valid JSON: quote it, as in \'{{"country": "Kenya"}}\'')


def _load_encoder(settings: Settings) -> "Encoder":
    from service.loading import load_encoder_of

    return load_encoder_of(settings)
