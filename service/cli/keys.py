"""The commands `clear-service key`: a new key is shown once; only its digest is stored."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli import console
from service.cli.options import JsonOption, load_settings
from service.errors import SettingsError

if TYPE_CHECKING:
    from service.auth.keys import Key

app = typer.Typer(help="Create and list API keys.", no_args_is_help=True)
FileOption = Annotated[
    Path | None, typer.Option("--keys-file", help="The file of keys (CLEAR_KEYS_FILE)")
]


@app.command("new")
def key_new(
    name: Annotated[str, typer.Argument(help="For logs and metrics: A-Z a-z 0-9 _ -")],
    scope: Annotated[
        list[str],
        typer.Option("--scope", help="search, encode, write or admin; may be repeated"),
    ],
    requests_per_second: Annotated[
        float | None, typer.Option(min=0.001, help="Rate limit, in each process")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Most tokens in flight")] = None,
    append: Annotated[
        bool, typer.Option("--append", help="Append the line to the file instead of printing it")
    ] = False,
    keys_file: FileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Create a key; print it once, and the line with its digest for CLEAR_KEYS_FILE."""
    with console.one_line_errors():
        from service.auth.keys import PLAIN_NAME, SCOPES, make_key, write_line

        if not PLAIN_NAME.fullmatch(name):
            console.fail(f"the name {name!r} is not valid: use 1 to 64 of A-Z a-z 0-9 _ -")
        if unknown := set(scope) - set(SCOPES):
            console.fail(f"--scope {min(unknown)} is unknown: use {', '.join(SCOPES)}")
        scopes = [each for each in SCOPES if each in scope]
        secret, key = make_key(scopes, requests_per_second, max_tokens)
        line = write_line(name, key)
        if append:
            _append(_file(keys_file), name, line)
        if as_json:
            typer.echo(json.dumps({"key": secret, "line": line}))
            return
        out = console.stderr_console()
        out.print("The key; it is not stored and will not be shown again:")
        typer.echo(secret)
        if not append:
            out.print("Its line for the file that CLEAR_KEYS_FILE names:")
            typer.echo(line)


@app.command("list")
def key_list(keys_file: FileOption = None, as_json: JsonOption = False) -> None:
    """List the keys of a file: names, scopes and limits."""
    with console.one_line_errors():
        from service.auth.keys import SCOPES

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
    """Append a line; a new file is readable by its owner only."""
    if path.exists() and name in _read(path):
        raise SettingsError(
            f"{path} has a key {name} already: use another name, or remove its line"
        )
    try:
        if not path.exists():
            path.touch(mode=0o600)
        text = path.read_text(encoding="utf-8")
        with path.open("a", encoding="utf-8") as file:
            file.write("\n" * (bool(text) and not text.endswith("\n")) + line + "\n")
    except OSError as error:
        raise SettingsError(
            f"{path} cannot be written ({error.strerror}): create its folder, or name another file"
        ) from None


def _read(path: Path) -> "dict[str, Key]":
    from service.auth.keys import read_keys

    try:
        return read_keys(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SettingsError(
            f"{path} cannot be read ({reason}): "
            "create a key with clear-service key new NAME --scope search --append"
        ) from None
