"""Options that several commands share, each with the setting that it stands before."""

from pathlib import Path
from typing import Annotated

import typer

from service.cli import console
from service.settings.settings import Settings

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


def index_folder(settings: Settings) -> Path:
    """Name the index's folder, or end with one line where none is named."""
    if settings.index is None:
        console.fail("no index is named: give --index DIR or set CLEAR_INDEX")
    return settings.index
