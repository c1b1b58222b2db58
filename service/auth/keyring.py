"""The key ring: all API keys of the service, reloaded when their file changes."""

import logging
import time
from pathlib import Path

import numpy as np

from service.auth.keys import SCOPES, Key, digest, read_keys
from service.auth.quotas import Account
from service.errors import SettingsError
from service.settings.settings import Settings

logger = logging.getLogger(__name__)
CHECK_EVERY_SECONDS = 1.0
DIGEST_WORDS = 4  # of 64 bits, in a SHA-256
VARIABLE_KEY = "CLEAR_API_KEY"
Stamp = tuple[int, int, int]  # time of change, size, inode


class KeyRing:
    """Maps presented keys to their accounts."""

    def __init__(self, settings: Settings) -> None:
        """Read the keys that the settings name.

        Raises:
            SettingsError: the keys file cannot be read, or a key is invalid.
        """
        self._file = settings.keys_file
        self._fixed = _keys_of_variables(settings)
        self._stamp = _file_stamp(self._file) if self._file else None
        self._set_accounts(self._read_accounts({}))
        self._next_check = time.monotonic() + CHECK_EVERY_SECONDS

    def __len__(self) -> int:
        """Return the number of keys."""
        return len(self._accounts)

    def find(self, presented: bytes) -> Account | None:
        """Return the account of a key, or None, in constant time.

        Every digest is compared and no branch depends on the result, so that the time reveals
        nothing about the keys.
        """
        wanted = np.frombuffer(digest(presented), np.uint64)
        is_equal = np.bitwise_or.reduce(self._digests ^ wanted, axis=1) == 0
        return self._results[1 + int(np.max(is_equal * self._positions, initial=0))]

    def refresh(self) -> None:
        """Reload the file if it has changed; keep the current keys if it cannot be read."""
        now = time.monotonic()
        if self._file is None or now < self._next_check:
            return
        self._next_check = now + CHECK_EVERY_SECONDS
        stamp = _file_stamp(self._file)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            known = {account.name: account for account in self._accounts}
            self._set_accounts(self._read_accounts(known))
        except SettingsError as error:
            logger.error("the keys file was not reloaded; the previous keys stay valid: %s", error)
        else:
            logger.warning("the keys file was reloaded: %d keys", len(self))

    def _set_accounts(self, accounts: list[Account]) -> None:
        self._accounts = accounts
        joined = b"".join(account.key.digest for account in accounts)
        self._digests = np.frombuffer(joined, np.uint64).reshape(-1, DIGEST_WORDS)
        self._positions = np.arange(1, len(accounts) + 1)
        self._results = [None, None, *accounts]

    def _read_accounts(self, known: dict[str, Account]) -> list[Account]:
        """Return an account for each key; an unchanged key keeps its account and its use."""
        keys = self._fixed
        if self._file:
            keys = _merge(_read_file(self._file), str(self._file), keys)
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
        keys = _merge(read_keys(text, "CLEAR_KEYS"), "CLEAR_KEYS", keys)
    return keys


def _merge(keys: dict[str, Key], where: str, others: dict[str, Key]) -> dict[str, Key]:
    if both := keys.keys() & others.keys():
        raise SettingsError(f"{where}: {min(both)} is also a key of CLEAR_KEYS: rename one of them")
    return others | keys


def _read_file(path: Path) -> dict[str, Key]:
    try:
        return read_keys(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise SettingsError(
            f"CLEAR_KEYS_FILE={path}: {reason}: "
            "create a key with clear-service key new NAME --scope search --append"
        ) from None


def _file_stamp(path: Path) -> Stamp | None:
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_mtime_ns, facts.st_size, facts.st_ino
