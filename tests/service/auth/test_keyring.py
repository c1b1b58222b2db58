import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from pydantic import SecretStr

from service.auth import keyring
from service.auth.keyring import KeyRing
from service.auth.keys import Scope, digest, make_key, write_line
from service.errors import SettingsError
from service.settings.settings import Settings


def write_keys(path: Path, *names: str, scopes: tuple[Scope, ...] = ("search",)) -> list[str]:
    """Write a keys file and return the secrets."""
    made = [make_key(scopes) for _ in names]
    lines = [write_line(name, key) for name, (_, key) in zip(names, made, strict=True)]
    path.write_text("\n".join(lines) + "\n")
    return [secret for secret, _ in made]


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring, "CHECK_EVERY_SECONDS", 0.0)


def test_only_a_key_finds_its_account(tmp_path: Path) -> None:
    secrets = write_keys(tmp_path / "keys", "one", "two", "three")
    ring = KeyRing(Settings(keys_file=tmp_path / "keys"))

    found = [account.name if (account := ring.find(each.encode())) else "" for each in secrets]

    assert found == ["one", "two", "three"]
    assert ring.find(b"") is None
    assert ring.find(secrets[0].encode()[:-1]) is None
    assert ring.find(secrets[0].encode() + b" ") is None


def steps_of(call: Callable[[], object]) -> list[tuple[str, int]]:
    """Return the bytecode instructions that a call runs, by function and offset."""
    steps: list[tuple[str, int]] = []

    def trace(frame: FrameType, event: str, _: object) -> Any:
        frame.f_trace_opcodes = True
        if event == "opcode":
            steps.append((frame.f_code.co_qualname, frame.f_lasti))
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return steps


def test_a_right_key_takes_the_same_steps_as_a_wrong_one(tmp_path: Path) -> None:
    secrets = write_keys(tmp_path / "keys", *(f"key-{i}" for i in range(9)))
    ring = KeyRing(Settings(keys_file=tmp_path / "keys"))
    presented = [secrets[0], secrets[-1], secrets[0][:-1], "wrong", ""]

    steps = [steps_of(partial(ring.find, each.encode())) for each in presented]

    assert [bool(ring.find(each.encode())) for each in presented] == [True, True] + [False] * 3
    assert {name for name, _ in steps[0]} >= {"KeyRing.find", "digest"}
    assert all(each == steps[0] for each in steps)


@pytest.mark.parametrize("byte", range(32))
def test_a_digest_that_differs_in_one_bit_is_another_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, byte: int
) -> None:
    secrets = write_keys(tmp_path / "keys", "one", "two")
    ring = KeyRing(Settings(keys_file=tmp_path / "keys"))
    near = bytearray(digest(secrets[1].encode()))
    monkeypatch.setattr(keyring, "digest", bytes)
    account = ring.find(bytes(near))
    near[byte] ^= 1

    assert account is not None
    assert account.name == "two"
    assert ring.find(bytes(near)) is None


def test_a_key_in_both_variable_and_file_is_accepted_as_one_of_them(tmp_path: Path) -> None:
    secrets = write_keys(tmp_path / "keys", "one", "two")
    ring = KeyRing(Settings(keys_file=tmp_path / "keys", api_key=SecretStr(secrets[0])))
    account = ring.find(secrets[0].encode())

    assert account is not None
    assert account.name in ("one", "CLEAR_API_KEY")


def test_the_one_variable_is_a_key_with_all_scopes() -> None:
    account = KeyRing(Settings(api_key=SecretStr("x" * 16))).find(b"x" * 16)

    assert account is not None
    assert account.name == "CLEAR_API_KEY"
    assert account.key.scopes == {"search", "encode", "write", "admin"}
    assert account.key.max_tokens is None


def test_keys_of_variables_and_file_are_all_accepted(tmp_path: Path) -> None:
    [in_file] = write_keys(tmp_path / "keys", "one")
    secret, key = make_key(["encode"])
    ring = KeyRing(
        Settings(
            keys_file=tmp_path / "keys",
            keys=SecretStr(write_line("two", key)),
            api_key=SecretStr("x" * 16),
        )
    )

    assert len(ring) == 3
    assert all(ring.find(each.encode()) for each in (in_file, secret, "x" * 16))


def test_a_name_in_both_file_and_variable_is_refused(tmp_path: Path) -> None:
    write_keys(tmp_path / "keys", "one")
    _, key = make_key(["encode"])

    with pytest.raises(SettingsError, match="one is also a key of CLEAR_KEYS"):
        KeyRing(Settings(keys_file=tmp_path / "keys", keys=SecretStr(write_line("one", key))))


@pytest.mark.parametrize("content", [None, b"\xff", b"page"])
def test_a_bad_file_is_refused_at_start(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "keys").write_bytes(content)

    with pytest.raises(SettingsError, match=str(tmp_path)):
        KeyRing(Settings(keys_file=tmp_path / "keys"))


@pytest.mark.usefixtures("_impatient")
def test_a_changed_file_is_reloaded_and_an_unchanged_key_keeps_its_use(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    [stays, goes] = write_keys(path, "stays", "goes")
    ring = KeyRing(Settings(keys_file=path))
    before = ring.find(stays.encode())
    new, key = make_key(["admin"])

    path.write_text(path.read_text().splitlines()[0] + "\n" + write_line("new", key) + "\n")
    ring.refresh()

    assert ring.find(stays.encode()) is before
    assert ring.find(goes.encode()) is None
    assert ring.find(new.encode()) is not None


@pytest.mark.usefixtures("_impatient")
def test_a_file_replaced_by_one_of_the_same_size_and_time_is_reloaded(tmp_path: Path) -> None:
    """Kubernetes mounts a new secret this way: it changes the target of a symbolic link."""
    [old] = write_keys(tmp_path / "first", "one")
    [new] = write_keys(tmp_path / "second", "one")
    os.utime(tmp_path / "first", ns=(1, 1))
    os.utime(tmp_path / "second", ns=(1, 1))
    link = tmp_path / "keys"
    link.symlink_to(tmp_path / "first")
    ring = KeyRing(Settings(keys_file=link))

    link.unlink()
    link.symlink_to(tmp_path / "second")
    ring.refresh()

    assert ring.find(old.encode()) is None
    assert ring.find(new.encode()) is not None


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("content", [None, "page = {"])
def test_an_invalid_changed_file_keeps_the_keys_and_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str | None
) -> None:
    path = tmp_path / "keys"
    [secret] = write_keys(path, "one")
    ring = KeyRing(Settings(keys_file=path))

    path.unlink() if content is None else path.write_text(content)
    ring.refresh()
    ring.refresh()

    assert ring.find(secret.encode()) is not None
    assert caplog.text.count("the previous keys stay valid") == 1
    assert str(path) in caplog.text


@pytest.mark.usefixtures("_impatient")
def test_an_emptied_file_accepts_no_key(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    [secret] = write_keys(path, "one")
    ring = KeyRing(Settings(keys_file=path))

    path.write_text("")
    ring.refresh()

    assert len(ring) == 0
    assert ring.find(secret.encode()) is None


def test_the_file_is_checked_at_most_once_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "keys"
    monkeypatch.setattr(keyring.time, "monotonic", lambda: 100.0)
    write_keys(path, "one")
    ring = KeyRing(Settings(keys_file=path))
    write_keys(path, "one", "two")
    counts = []

    for now in (100.0, 100.5, 100.9, 101.0):
        monkeypatch.setattr(keyring.time, "monotonic", lambda now=now: now)
        ring.refresh()
        counts.append(len(ring))

    assert counts == [1, 1, 1, 2]
