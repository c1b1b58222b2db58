"""The command line `clear-service`; each command imports what it needs when it runs."""

import logging
import os
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli import (
    bench,
    build_report,
    console,
    index_admin,
    index_apply,
    index_build,
    index_check,
    index_upload,
    keys,
    search,
)
from service.cli.options import (
    CacheOption,
    DeviceOption,
    EncoderOption,
    HostOption,
    IndexOrUrlOption,
    JsonOption,
    PassagePromptOption,
    PortOption,
    QueryPromptOption,
    load_settings,
)
from service.cli.tables import print_findings
from service.retrieval import interruption
from service.retrieval.progress import show_progress

if TYPE_CHECKING:
    from service.retrieval.encoder.encoder import Encoder
    from service.settings.settings import Settings

logger = logging.getLogger(__name__)
app = typer.Typer(
    help="Search English passages by queries in any language.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog="`--json` (CLEAR_JSON=1) prints JSON for programs: `search`, `doctor`, `bench` and all "
    "commands of `index` and `key` take it.",
)
index_app = typer.Typer(help="Build and administer an index.", no_args_is_help=True)
index_app.add_typer(index_build.app)
index_app.add_typer(index_apply.app)
index_app.add_typer(index_check.app)
index_app.add_typer(index_admin.app)
index_app.add_typer(index_upload.app)
app.add_typer(search.app)
app.add_typer(bench.app)
app.add_typer(index_app, name="index")
app.add_typer(keys.app, name="key")


def main() -> None:
    """Run the command line; a signal unwinds the command."""
    console.print_any_text()
    with interruption.unwinding():
        app()


def _print_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"clear-service {version('clear-search')}")
        raise typer.Exit


@app.callback()
def options(
    is_version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit"
        ),
    ] = False,
) -> None:
    """Take the options of the program."""


@app.command()
def serve(
    index: IndexOrUrlOption = None,
    encoder: EncoderOption = None,
    query_prompt: QueryPromptOption = None,
    passage_prompt: PassagePromptOption = None,
    host: HostOption = None,
    port: PortOption = None,
    cache: CacheOption = None,
    device: DeviceOption = None,
) -> None:
    """Serve an index over HTTP, with the search page."""
    with console.one_line_errors():
        from service.process import configure_openmp

        configure_openmp()
        settings = load_settings(
            index=index,
            encoder=encoder,
            query_prompt=query_prompt,
            passage_prompt=passage_prompt,
            host=host,
            port=port,
            cache=cache,
            device=device,
        )
        _serve(settings)


@app.command()
def demo(
    index: Annotated[
        Path | None, typer.Option("--index", help="The index folder; by default in the cache")
    ] = None,
    host: HostOption = None,
    port: PortOption = None,
    cache: CacheOption = None,
    build_only: Annotated[
        bool,
        typer.Option("--build-only", envvar="CLEAR_BUILD_ONLY", help="Build the index and stop"),
    ] = False,
) -> None:
    """Serve the CIA World Factbook with the bundled encoder; build its index the first time."""
    with console.one_line_errors():
        from service.process import configure_allocator, configure_openmp

        configure_openmp()
        configure_allocator()
        from service.components import load_encoder_of
        from service.demo.index import demo_index_name, ensure_demo_index

        settings = load_settings(host=host, port=port, cache=cache)
        folder = index or settings.cache / demo_index_name(settings.encoder)
        kept = interruption.reporting(build_report.what_is_kept(folder))
        with kept, show_progress() as on_progress:
            encoder = ensure_demo_index(folder, lambda: load_encoder_of(settings), on_progress)
        if not build_only:
            _serve(settings.model_copy(update={"index": folder}), encoder)


@app.command()
def doctor(
    index: IndexOrUrlOption = None,
    encoder: EncoderOption = None,
    query_prompt: QueryPromptOption = None,
    passage_prompt: PassagePromptOption = None,
    cache: CacheOption = None,
    with_reference: Annotated[
        bool,
        typer.Option(
            "--reference",
            help="Compare embeddings of 32 texts with sentence-transformers, or with those that "
            "are published beside the encoder",
        ),
    ] = False,
    with_memory: Annotated[
        bool,
        typer.Option("--memory", help="Measure what each part of a service takes in memory"),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check devices, packages, encoder and index, and say what to fix."""
    with console.one_line_errors():
        from service.cli.doctor.examine import examine

        settings = load_settings(
            index=index,
            encoder=encoder,
            query_prompt=query_prompt,
            passage_prompt=passage_prompt,
            cache=cache,
        )
        if with_memory:
            from service.cli.doctor.memory import examine_memory

            print_findings(list(examine_memory(settings)), as_json)
            return
        findings = examine(settings)
        if with_reference:
            from service.cli.doctor.reference import check_reference

            findings += check_reference(settings)
        print_findings(findings, as_json)
        if any(finding.is_wrong for finding in findings):
            raise typer.Exit(1)


@app.command()
def mcp(
    url: Annotated[
        str, typer.Option(envvar="CLEAR_URL", help="URL of the running service")
    ] = "http://127.0.0.1:8000",
    allow_changes: Annotated[
        bool, typer.Option("--allow-changes", help="Let it put and delete documents, too")
    ] = False,
) -> None:
    """Let an assistant search a running service, by the Model Context Protocol on stdin and stdout.

    The service's API key, if it needs one, is read from CLEAR_API_KEY.
    """
    with console.one_line_errors():
        from service.client import AsyncClient

        try:
            from service.integrations.mcp import create_server
        except ImportError:
            console.fail("the extra `mcp` is missing: pip install 'clear-search[mcp]'")
        client = AsyncClient(url, os.environ.get("CLEAR_API_KEY"))
        create_server(client, version("clear-search"), allow_changes).run()


def _serve(settings: "Settings", encoder: "Encoder | None" = None) -> None:
    """Serve an index, with an encoder that has been loaded by the settings or is loaded now."""
    from service.listeners import listening
    from service.loading.responder import answering
    from service.process import configure_allocator
    from service.settings.settings import injected_by_kubernetes

    configure_allocator()
    console.start_logging(settings.log_level, settings.log_format)
    if injected := injected_by_kubernetes(os.environ):
        logger.debug("variables of Kubernetes are ignored: %s", ", ".join(injected))
    with listening(settings) as listeners, answering(settings, listeners) as responder:
        from service.server import serve as run_server  # takes a second: the ports answer already

        run_server(settings, listeners, responder, encoder)
