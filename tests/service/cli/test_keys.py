import inspect
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from service.auth.keyring import KeyRing
from service.auth.keys import SCOPES
from service.cli.keys import key_new
from service.cli.main import app
from service.settings.settings import Settings


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["key", *map(str, arguments)])


def test_a_new_key_is_printed_once_with_the_line_of_its_digest(tmp_path: Path) -> None:
    result = run("new", "page", "--scope", "search", "--requests-per-second", 20)

    secret, line = result.stdout.splitlines()
    (tmp_path / "keys").write_text(line)
    account = KeyRing(Settings(keys_file=tmp_path / "keys")).find(secret.encode())
    assert account is not None
    assert account.name == "page"
    assert account.key.scopes == {"search"}
    assert account.key.requests_per_second == 20
    assert secret not in line


def test_the_help_names_every_scope() -> None:
    [about] = inspect.signature(key_new).parameters["scope"].annotation.__metadata__

    assert [scope for scope in SCOPES if scope not in about.help] == []


def test_a_program_gets_both_as_json() -> None:
    made = json.loads(run("new", "page", "--scope", "search", "--json").stdout)

    assert set(made) == {"key", "line"}


def test_appended_keys_open_the_service_and_their_file_is_the_owner_s(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    secrets = [
        run("new", name, "--scope", "search", "--append", "--keys-file", path).stdout.strip()
        for name in ("one", "two")
    ]

    ring = KeyRing(Settings(keys_file=path))

    assert all(ring.find(secret.encode()) for secret in secrets)
    assert path.stat().st_mode & 0o077 == 0
    assert not any(secret in path.read_text() for secret in secrets)


def test_a_line_is_appended_to_a_file_that_does_not_end_with_one(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    line = run("new", "one", "--scope", "search").stdout.splitlines()[1]
    path.write_text(line)

    run("new", "two", "--scope", "search", "--append", "--keys-file", path)

    assert len(KeyRing(Settings(keys_file=path))) == 2


def test_a_name_that_is_taken_is_refused_and_the_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    run("new", "one", "--scope", "search", "--append", "--keys-file", path)
    before = path.read_text()

    result = run("new", "one", "--scope", "admin", "--append", "--keys-file", path)

    assert result.exit_code == 1
    assert f"{path} has a key one" in result.stderr
    assert path.read_text() == before


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["new", "two words", "--scope", "search"], "name"),
        (["new", "page", "--scope", "rule"], "rule"),
        (["new", "page"], "--scope"),
        (["new", "page", "--scope", "search", "--append"], "CLEAR_KEYS_FILE"),
        (["list", "--keys-file", "/nowhere"], "/nowhere"),
        (["list", "--keys-file", "/nowhere"], "key new NAME --scope search --append"),
    ],
)
def test_wrong_arguments_are_refused_by_name(arguments: list[str], word: str) -> None:
    result = run(*arguments)

    assert result.exit_code != 0
    assert word in result.stderr


def test_keys_are_listed_without_their_digests(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    given = ["--append", "--keys-file", path]
    run("new", "one", "--scope", "search", "--scope", "encode", "--max-tokens", 512, *given)
    run("new", "two", "--scope", "admin", *given)

    people = run("list", "--keys-file", path).stdout
    programs = run("list", "--keys-file", path, "--json").stdout.splitlines()

    assert people.splitlines() == ["one: search encode, max_tokens 512", "two: admin"]
    assert json.loads(programs[0]) == {
        "name": "one",
        "scopes": ["search", "encode"],
        "max_tokens": 512,
    }


@pytest.mark.parametrize("command", [["list"], ["new", "two", "--scope", "search", "--append"]])
def test_a_file_that_is_not_utf_8_is_one_line(tmp_path: Path, command: list[str]) -> None:
    path = tmp_path / "keys"
    path.write_bytes(b"one = '\xff'\n")

    result = run(*command, "--keys-file", path)

    assert result.exit_code == 1
    assert "it is not UTF-8" in result.stderr
    assert result.stderr.count("\n") == 1
    assert path.read_bytes() == b"one = '\xff'\n"


def test_a_missing_folder_is_one_line_and_no_key_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "keys"

    result = run("new", "one", "--scope", "search", "--append", "--keys-file", path)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"error: {path} cannot be written (No such file or directory)")
    assert result.stderr.count("\n") == 1
