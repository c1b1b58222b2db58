"""API keys with their scopes and limits. The file holds digests, never the keys.

One key per line, in TOML: `page = {sha256 = "9f86...", scopes = ["search"], max_tokens = 4096}`.
"""

import hashlib
import re
import secrets
import tomllib
from collections.abc import Sequence
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from service.errors import SettingsError

Scope = Literal["search", "encode", "write", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
KEY_PREFIX = "clear_"
KEY_BYTES = 32
PLAIN_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Key(BaseModel):
    """A key's digest, its scopes and its limits."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    scopes: Annotated[frozenset[Scope], Field(min_length=1)]
    requests_per_second: Annotated[float | None, Field(gt=0, strict=True)] = None
    max_tokens: Annotated[int | None, Field(ge=1, strict=True)] = None

    @property
    def digest(self) -> bytes:
        """Return the SHA-256 of the key as bytes."""
        return bytes.fromhex(self.sha256)


def digest(key: bytes) -> bytes:
    """Return the SHA-256 of a key; equal lengths hide the key's length from comparisons.

    A key has 256 random bits, so that brute force is infeasible and no slow hash is needed.
    """
    return hashlib.sha256(key).digest()


def read_keys(text: str, where: str) -> dict[str, Key]:
    """Parse keys, by name.

    Args:
        text: TOML, one key per line or per table.
        where: the file or the variable, for messages.

    Raises:
        SettingsError: the text is not TOML, a field is invalid, or two names have the same key.
    """
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{where}: not TOML: {error}") from None
    for name in content:
        if not PLAIN_NAME.fullmatch(name):
            raise SettingsError(
                f"{_place(where, text, name)}: the key's name must be 1 to 64 of A-Z a-z 0-9 _ -"
            )
    try:
        keys = TypeAdapter(dict[str, Key]).validate_python(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name, *path = map(str, first["loc"])
        field = ".".join([name, *path])
        raise SettingsError(f"{_place(where, text, name)}: {field}: {first['msg']}") from None
    names: dict[str, str] = {}
    for name, key in keys.items():
        if (other := names.setdefault(key.sha256, name)) != name:
            raise SettingsError(
                f"{_place(where, text, name)}: {name} has the key of {other}: remove one of them"
            )
    return keys


def make_key(
    scopes: Sequence[Scope],
    requests_per_second: float | None = None,
    max_tokens: int | None = None,
) -> tuple[str, Key]:
    """Return a new random secret, and the key for it."""
    secret = KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)
    key = Key(
        sha256=digest(secret.encode()).hex(),
        scopes=frozenset(scopes),
        requests_per_second=requests_per_second,
        max_tokens=max_tokens,
    )
    return secret, key


def write_line(name: str, key: Key) -> str:
    """Return a key as a line of the keys file.

    >>> write_line("page", Key(sha256="0" * 64, scopes=frozenset(["search"]), max_tokens=512))[-42:]
    '0", scopes = ["search"], max_tokens = 512}'
    """
    scopes = ", ".join(f'"{scope}"' for scope in SCOPES if scope in key.scopes)
    limits = "".join(
        f", {field} = {value}"
        for field in ("requests_per_second", "max_tokens")
        if (value := getattr(key, field)) is not None
    )
    return f'{name} = {{sha256 = "{key.sha256}", scopes = [{scopes}]{limits}}}'


def _place(where: str, text: str, name: str) -> str:
    """Return the file and the line on which a key begins."""
    begins = re.compile(rf"""\s*\[?\s*["']?{re.escape(name)}["']?\s*[\]=.]""")
    numbers = (i for i, line in enumerate(text.splitlines(), 1) if begins.match(line))
    number = next(numbers, None)
    return f"{where}:{number}" if number else where
