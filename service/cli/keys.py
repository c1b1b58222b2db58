"""The commands `clear-service key`: a key is shown once, and its digest kept."""

import json
from pathlib import Path
from typing import Annotated

import typer

from service.auth.keys import PLAIN_NAME, SCOPES, Key, make_key, read_keys, write_line
from service.cli import console
from service.cli.options import JsonOption
from service.errors import SettingsError
from service.settings.settings import load_settings

app = typer.Typer(help="Make API keys and look after them.", no_args_is_help=True)
FileOption = Annotated[
    Path | None, typer.Option("--keys-file", help="Where keys are kept (CLEAR_KEYS_FILE)")
]


@app.command("new")
def key_new(
    name: Annotated[str, typer.Argument(help="For logs and metrics: A-Z a-z 0-9 _ -")],
    scope: Annotated[
        list[str],
        typer.Option("--scope", help="search, encode or admin: what it is for; may be repeated"),
    ],
    requests_per_second: Annotated[
        float | None, typer.Option(min=0.001, help="How often it may ask, in each process")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens that it may have in the works")
    ] = None,
    append: Annotated[
        bool, typer.Option("--append", help="Write the line to the file instead of the terminal")
    ] = False,
    keys_file: FileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key; print it once, and the line with its digest for CLEAR_KEYS_FILE."""
    with console.one_line_errors():
        if not PLAIN_NAME.fullmatch(name):
            console.fail("a key's name is 1 to 64 of A-Z a-z 0-9 _ -")
        if unknown := set(scope) - set(SCOPES):
            console.fail(f"--scope {min(unknown)}: there are {', '.join(SCOPES)}")
        scopes = [each for each in SCOPES if each in scope]
        secret, key = make_key(scopes, requests_per_second, max_tokens)
        line = write_line(name, key)
        if append:
            _append(_file(keys_file), name, line)
        if as_json:
            typer.echo(json.dumps({"key": secret, "line": line}))
            return
        out = console.stderr_console()
        out.print("The key; it is nowhere else, and will not be shown again:")
        typer.echo(secret)
        if not append:
            out.print("Its line for the file that CLEAR_KEYS_FILE names:")
            typer.echo(line)


@app.command("list")
def key_list(keys_file: FileOption = None, as_json: JsonOption = False) -> None:
    """Tell whose keys a file holds, and what they may do."""
    with console.one_line_errors():
        path = _file(keys_file)
        for name, key in _read(path).items():
            facts = key.model_dump(mode="json", exclude={"sha256", "scopes"}, exclude_none=True)
            scopes = [scope for scope in SCOPES if scope in key.scopes]
            if as_json:
                typer.echo(json.dumps({"name": name, "scopes": scopes, **facts}))
            else:
                limits = "".join(f", {limit} {value}" for limit, value in facts.items())
                typer.echo(f"{name}: {' '.join(scopes)}{limits}")


def _file(given: Path | None) -> Path:
    path = given or load_settings().keys_file
    if path is None:
        console.fail("no file is named: give --keys-file FILE or set CLEAR_KEYS_FILE")
    return path


def _append(path: Path, name: str, line: str) -> None:
    """Add a line; the file is made for its owner alone."""
    if path.exists() and name in _read(path):
        raise SettingsError(f"{path} has a key {name}: take another name, or remove its line")
    if not path.exists():
        path.touch(mode=0o600)
    text = path.read_text(encoding="utf-8")
    with path.open("a", encoding="utf-8") as file:
        file.write("\n" * (bool(text) and not text.endswith("\n")) + line + "\n")


def _read(path: Path) -> dict[str, Key]:
    try:
        return read_keys(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from None
