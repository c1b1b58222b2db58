"""An object store below a URL, by fsspec; its errors in words. Only this room imports fsspec.

Credentials are those that the store's own library finds: variables, profiles, roles.
"""

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from service.retrieval.errors import MissingObjectError, StoreError
from service.retrieval.remote.address import LIBRARIES, scheme_of
from service.retrieval.storage import artifact

BLOCK_BYTES = 8 * 2**20
# s3fs itself tries five times; a store that cannot be reached is given up within a minute.
S3_CONFIG = {
    "connect_timeout": 5,
    "read_timeout": 15,
    "retries": {"mode": "standard", "total_max_attempts": 2},
}
OPTIONS: dict[str, dict[str, Any]] = {"s3": {"config_kwargs": S3_CONFIG}}
EXTRAS = {"s3": "clear-search[s3]"}  # the others are installed by the name of their package
# Errors of the libraries that are no OSError.
LIBRARY_ERRORS = {
    "s3": (
        ("botocore.exceptions", "BotoCoreError"),
        ("botocore.exceptions", "ClientError"),
        ("aiohttp", "ClientError"),
        ("builtins", "ValueError"),  # a bucket's name that none can have
    ),
    "gs": (
        ("gcsfs.retry", "HttpError"),
        ("google.auth.exceptions", "GoogleAuthError"),
        ("aiohttp", "ClientError"),
    ),
    "az": (("azure.core.exceptions", "AzureError"),),
    "hf": (("huggingface_hub.errors", "HfHubHTTPError"),),
}
CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or the machine's role",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or the machine's service account",
    "az": "AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY, or the machine's identity",
    "hf": "HF_TOKEN",
    "file": "the rights of the folder",
}


class Store:
    """The objects below a URL, by names such as `generations/NAME/manifest.json`."""

    def __init__(self, url: str) -> None:
        """Load the library of the URL's kind; nothing is asked of the store yet.

        Raises:
            StoreError: the library is not installed.
        """
        from fsspec.core import url_to_fs

        self.url = url
        self._scheme = scheme_of(url)
        options = OPTIONS.get(self._scheme, {})
        try:
            self._files, self._root = url_to_fs(
                url, use_listings_cache=False, skip_instance_cache=True, **options
            )
            self._errors = tuple(
                getattr(importlib.import_module(module), name)
                for module, name in LIBRARY_ERRORS.get(self._scheme, ())
            )
        except ImportError:
            package = EXTRAS.get(self._scheme, LIBRARIES[self._scheme])
            raise StoreError(
                f"{url} needs the package {LIBRARIES[self._scheme]}: pip install '{package}'"
            ) from None

    def read(self, name: str) -> bytes:
        """Return the content of a small object.

        Raises:
            MissingObjectError: there is none of the name.
            StoreError: the store cannot be reached, or refuses.
        """
        with self._errors_in_words(name):
            self._files.invalidate_cache()
            content: bytes = self._files.cat_file(self._path(name))
            return content

    def size_bytes(self, name: str) -> int | None:
        """Return the size of an object, or None where there is none; raises as `read`."""
        try:
            with self._errors_in_words(name):
                self._files.invalidate_cache()
                return int(self._files.info(self._path(name))["size"])
        except MissingObjectError:
            return None

    def blocks(self, name: str) -> Iterator[bytes]:
        """Yield the content of an object in blocks; raises as `read`."""
        with self._errors_in_words(name):
            file = self._files.open(self._path(name), "rb", block_size=BLOCK_BYTES)
        with file:
            while True:
                with self._errors_in_words(name):
                    block: bytes = file.read(BLOCK_BYTES)
                if not block:
                    return
                yield block

    def write(self, name: str, content: bytes) -> None:
        """Replace an object at once: a reader sees the old content or the new. Raises as `read`."""
        with self._errors_in_words(name):
            self._make_folder(name)
            if self._scheme == "file":
                artifact.replace_file(Path(self._path(name)), content)
            else:
                self._files.pipe_file(self._path(name), content)

    def send(self, path: Path, name: str, on_bytes: Callable[[int], None]) -> None:
        """Send a file; call `on_bytes` with the bytes of each part. Raises as `read`."""
        from fsspec.callbacks import Callback

        class Count(Callback):  # type: ignore[misc]
            def relative_update(self, inc: int = 1) -> None:
                on_bytes(inc)

        with self._errors_in_words(name):
            self._make_folder(name)
            self._files.put_file(str(path), self._path(name), callback=Count())

    def names(self, folder: str) -> list[str]:
        """Return the names of what lies in a folder; raises as `read`."""
        try:
            with self._errors_in_words(folder):
                self._files.invalidate_cache()
                found = self._files.ls(self._path(folder), detail=False)
        except MissingObjectError:
            return []
        return [str(each).rstrip("/").rpartition("/")[2] for each in found]

    def remove(self, name: str) -> None:
        """Remove an object, if there is one, or a folder with all that it holds."""
        try:
            with self._errors_in_words(name):
                self._files.rm(self._path(name), recursive=True)
        except MissingObjectError:
            return

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _make_folder(self, name: str) -> None:
        """Create the folder of a name in a file system; an object store has no folders."""
        if self._scheme == "file":
            self._files.makedirs(self._path(name).rpartition("/")[0], exist_ok=True)

    @contextmanager
    def _errors_in_words(self, name: str) -> Iterator[None]:
        """Raise errors of the store's library as those of this program.

        A message is the same for the same cause: it holds no number of a request.
        """
        place = f"{self.url}/{name}"
        try:
            yield
        except FileNotFoundError:
            raise MissingObjectError(f"{place} is missing: upload the index again") from None
        except PermissionError:
            raise StoreError(
                f"access to {place} is denied: check the rights of the credentials "
                f"({CREDENTIALS[self._scheme]})"
            ) from None
        except (OSError, *self._errors) as error:
            kind = type(error).__name__
            if "Credentials" in kind or "credentials" in str(error):
                raise StoreError(
                    f"there are no usable credentials for {self.url} ({kind}): set "
                    f"{CREDENTIALS[self._scheme]}"
                ) from None
            raise StoreError(
                f"{place} cannot be read or written ({kind}): check the bucket, the network and "
                "the store's address"
            ) from None
