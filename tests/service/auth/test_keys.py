import hashlib

import pytest

from service.auth.keys import SCOPES, Key, make_key, read_keys, write_line
from service.errors import SettingsError

DIGEST = "ab" * 32
OTHER = "cd" * 32


def line(name: str = "page", digest: str = DIGEST, scopes: str = '"search"', rest: str = "") -> str:
    return f'{name} = {{sha256 = "{digest}", scopes = [{scopes}]{rest}}}\n'


def test_a_new_key_is_random_and_its_line_holds_only_the_digest() -> None:
    (secret, key), (other, _) = make_key(["search"]), make_key(["search"])

    text = write_line("page", key)

    assert secret != other
    assert len(secret) >= 43
    assert secret not in text
    assert key.sha256 == hashlib.sha256(secret.encode()).hexdigest()


@pytest.mark.parametrize(
    "key",
    [
        Key(sha256=DIGEST, scopes=frozenset(["search"])),
        Key(sha256=DIGEST, scopes=frozenset(SCOPES), requests_per_second=0.5),
        Key(sha256=DIGEST, scopes=frozenset(["admin"]), max_tokens=1, requests_per_second=20),
    ],
)
def test_a_written_line_is_read_back_as_the_same_key(key: Key) -> None:
    assert read_keys(write_line("page", key), "keys") == {"page": key}


def test_keys_may_be_tables_with_comments() -> None:
    text = f'# the page\n[page]\nsha256 = "{DIGEST}"\nscopes = ["search", "encode"]\n'

    assert read_keys(text, "keys")["page"].scopes == {"search", "encode"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("page", "keys: not TOML: "),
        (line() + line("two", OTHER, '"rule"'), r"keys:2: two\.scopes.*'search', 'encode'"),
        (line() + line("two", OTHER, ""), "keys:2: two.scopes: .*at least 1"),
        (line() + line("two", "AB" * 32), "keys:2: two.sha256: "),
        (line() + line("two", "ab"), "keys:2: two.sha256: "),
        (line(rest=", max_tokens = 0"), "keys:1: page.max_tokens: .*greater"),
        (line(rest=", max_tokens = 1.5"), "keys:1: page.max_tokens: "),
        (line(rest=', max_tokens = "5"'), "keys:1: page.max_tokens: "),
        (line(rest=", requests_per_second = inf"), "keys:1: page.requests_per_second: "),
        (line(rest=", requests_per_second = -1"), "keys:1: page.requests_per_second: "),
        (line(rest=", limit = 1"), "keys:1: page.limit: Extra"),
        ("\n\n[page]\nscopes = ['search']\n", "keys:3: page.sha256: Field required"),
        (line('"two words"'), "keys:1: the key's name must be"),
        ("page = 5\n", "keys:1: page: "),
        (line() + line("two"), "keys:2: two has the key of page"),
    ],
)
def test_an_invalid_key_is_reported_with_its_line(text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        read_keys(text, "keys")


def test_a_message_never_repeats_a_value() -> None:
    """A key that is written in place of its digest must not appear in a log."""
    with pytest.raises(SettingsError) as caught:
        read_keys(line(digest="clear_the-key-itself"), "keys")

    assert "the-key-itself" not in str(caught.value)
