"""The command index upload: the live generation of a folder, sent to an object store."""

import json
from typing import Annotated

import typer

from service.cli import console
from service.cli.options import IndexOption, JsonOption, index_folder, load_settings
from service.retrieval.progress import show_progress

app = typer.Typer()


@app.command("upload")
def index_upload(
    url: Annotated[
        str, typer.Argument(help="s3://bucket/prefix, likewise gs, az, hf, or file for a share")
    ],
    index: IndexOption = None,
    is_forced: Annotated[
        bool, typer.Option("--force", help="Send files again that are there with their hash")
    ] = False,
    keep: Annotated[
        int | None,
        typer.Option(
            min=0, help="Former generations to keep at the URL; by default none is removed"
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Upload the live generation; services whose CLEAR_INDEX is the URL take it over."""
    with console.one_line_errors("interrupted: run it again, files that are there are not sent"):
        folder = index_folder(load_settings(index=index))
        from service.retrieval.remote.address import parse_url
        from service.retrieval.remote.store import Store
        from service.retrieval.remote.upload import upload

        try:
            store = Store(parse_url(url))
        except ValueError as error:
            console.fail(str(error))
        with show_progress() as on_progress:
            done = upload(folder, store, is_forced=is_forced, keep=keep, on_progress=on_progress)
        if as_json:
            facts = {"generation": done.generation, "sent": done.sent, "kept": done.kept}
            typer.echo(json.dumps(facts | {"bytes": done.num_bytes, "removed": done.removed}))
            return
        typer.echo(
            f"generation {done.generation} is live at {store.url}: {len(done.sent)} files sent, "
            f"{done.num_bytes / 2**20:.1f} MiB, {len(done.kept)} were there"
        )
        if done.removed:
            typer.echo(f"{console.count_of(len(done.removed), 'old generation')} removed there")
