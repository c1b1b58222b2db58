"""The keys that open the service, read again when their file changes."""

import logging
import time
from pathlib import Path

import numpy as np

from service.auth.keys import SCOPES, Key, digest, read_keys
from service.auth.quotas import Account
from service.errors import SettingsError
from service.settings.settings import Settings

logger = logging.getLogger(__name__)
LOOK_EVERY_SECONDS = 1.0
DIGEST_WORDS = 4  # of 64 bits, in a SHA-256
VARIABLE_KEY = "CLEAR_API_KEY"
Stamp = tuple[int, int, int]


class KeyRing:
    """Finds the account of a presented key."""

    def __init__(self, settings: Settings) -> None:
        """Read the keys of the settings.

        Raises:
            SettingsError: the file cannot be read, or holds something wrong.
        """
        self._file = settings.keys_file
        self._fixed = _keys_of_variables(settings)
        self._stamp = _stamp(self._file) if self._file else None
        self._hold(self._open({}))
        self._look_again = time.monotonic() + LOOK_EVERY_SECONDS

    def __len__(self) -> int:
        """Count the keys."""
        return len(self._accounts)

    def find(self, presented: bytes) -> Account | None:
        """Find a key's account, in a time that does not tell how near to a key it was.

        Every digest is compared, and nothing branches on the outcome, not even Python on a zero:
        what is right takes as long as what is wrong.
        """
        looked_for = np.frombuffer(digest(presented), np.uint64)
        is_equal = np.bitwise_or.reduce(self._digests ^ looked_for, axis=1) == 0
        return self._results[1 + int(np.max(is_equal * self._positions, initial=0))]

    def refresh(self) -> None:
        """Read the file again if it has changed; where it cannot be read, the keys stay."""
        now = time.monotonic()
        if self._file is None or now < self._look_again:
            return
        self._look_again = now + LOOK_EVERY_SECONDS
        stamp = _stamp(self._file)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            known = {account.name: account for account in self._accounts}
            self._hold(self._open(known))
        except SettingsError as error:
            logger.error("the keys stay as they were: %s", error)
        else:
            logger.warning("the keys were read again: there are %d", len(self))

    def _hold(self, accounts: list[Account]) -> None:
        self._accounts = accounts
        joined = b"".join(account.key.digest for account in accounts)
        self._digests = np.frombuffer(joined, np.uint64).reshape(-1, DIGEST_WORDS)
        self._positions = np.arange(1, len(accounts) + 1)
        self._results = [None, None, *accounts]

    def _open(self, known: dict[str, Account]) -> list[Account]:
        """Give each key an account; one whose key is as it was keeps its use."""
        keys = self._fixed
        if self._file:
            keys = _join(_read_file(self._file), str(self._file), keys)
        return [
            account if (account := known.get(name)) and account.key == key else Account(name, key)
            for name, key in keys.items()
        ]


def _keys_of_variables(settings: Settings) -> dict[str, Key]:
    keys: dict[str, Key] = {}
    if settings.api_key:
        secret = settings.api_key.get_secret_value().encode()
        keys[VARIABLE_KEY] = Key(sha256=digest(secret).hex(), scopes=frozenset(SCOPES))
    if settings.keys:
        text = settings.keys.get_secret_value()
        keys = _join(read_keys(text, "CLEAR_KEYS"), "CLEAR_KEYS", keys)
    return keys


def _join(keys: dict[str, Key], where: str, others: dict[str, Key]) -> dict[str, Key]:
    if both := keys.keys() & others.keys():
        raise SettingsError(f"{where}: {min(both)} is a key of CLEAR_KEYS, too: rename one of them")
    return others | keys


def _read_file(path: Path) -> dict[str, Key]:
    try:
        return read_keys(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise SettingsError(
            f"CLEAR_KEYS_FILE={path}: {reason}: make one with clear-service key new NAME --append"
        ) from None


def _stamp(path: Path) -> Stamp | None:
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_mtime_ns, facts.st_size, facts.st_ino
