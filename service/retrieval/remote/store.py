"""An object store below a URL, by fsspec; its errors in words. Only this room imports fsspec.

Credentials are those that the store's own library finds: variables, profiles, roles.
"""

import importlib
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any

from service.retrieval.errors import MissingObjectError, StoreError
from service.retrieval.remote.address import LIBRARIES, scheme_of
from service.retrieval.storage import artifact

BLOCK_BYTES = 8 * 2**20
WAIT_SECONDS = 0.2  # between two looks at whether to stop
# With `S3_TRIES` of s3fs itself a store that does not answer is given up within a minute.
S3_CONFIG = {
    "connect_timeout": 5,
    "read_timeout": 15,
    "retries": {"mode": "standard", "total_max_attempts": 2},
}
S3_TRIES = 2
# Parts of 50 MiB that are in memory at once.
OPTIONS: dict[str, dict[str, Any]] = {"s3": {"config_kwargs": S3_CONFIG, "max_concurrency": 3}}
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

    def __init__(self, url: str, stopped: threading.Event | None = None) -> None:
        """Load the library of the URL's kind; nothing is asked of the store yet.

        Args:
            url: where.
            stopped: once it is set, what waits for the store gives up.

        Raises:
            StoreError: the library is not installed.
        """
        from fsspec.core import url_to_fs

        self.url = url
        self._stopped = stopped or threading.Event()
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
        if self._scheme == "s3":
            self._files.retries = S3_TRIES
            logging.getLogger("aiobotocore").setLevel(logging.WARNING)  # where credentials are from

    @property
    def folder(self) -> Path | None:
        """Return the folder that the URL names, or None where it leads to an object store."""
        return Path(self._root) if self._scheme == "file" else None

    def read(self, name: str) -> bytes:
        """Return the content of a small object.

        Raises:
            MissingObjectError: there is none of the name.
            StoreError: the store cannot be reached, or refuses.
        """
        self._files.invalidate_cache()
        content: bytes = self._ask(name, self._files.cat_file, self._path(name))
        return content

    def size_bytes(self, name: str) -> int | None:
        """Return the size of an object, or None where there is none; raises as `read`."""
        self._files.invalidate_cache()
        try:
            return int(self._ask(name, self._files.info, self._path(name))["size"])
        except MissingObjectError:
            return None

    def blocks(self, name: str) -> Iterator[bytes]:
        """Yield the content of an object in blocks; raises as `read`."""
        file = self._ask(name, self._files.open, self._path(name), "rb", block_size=BLOCK_BYTES)
        with file:
            while block := self._ask(name, file.read, BLOCK_BYTES):
                yield block

    def write(self, name: str, content: bytes) -> None:
        """Replace an object at once: a reader sees the old content or the new. Raises as `read`."""
        self._make_folder(name)
        if self._scheme == "file":
            self._ask(name, artifact.replace_file, Path(self._path(name)), content)
        else:
            self._ask(name, self._files.pipe_file, self._path(name), content)

    def send(self, path: Path, name: str, on_bytes: Callable[[int], None]) -> None:
        """Send a file; call `on_bytes` with the bytes of each part. Raises as `read`."""
        from fsspec.callbacks import Callback

        class Count(Callback):  # type: ignore[misc]
            def relative_update(self, inc: int = 1) -> None:
                on_bytes(inc)

        self._make_folder(name)
        self._ask(name, self._files.put_file, str(path), self._path(name), callback=Count())

    def names(self, folder: str) -> list[str]:
        """Return the names of what lies in a folder; raises as `read`."""
        self._files.invalidate_cache()
        try:
            found = self._ask(folder, self._files.ls, self._path(folder), detail=False)
        except MissingObjectError:
            return []
        return [str(each).rstrip("/").rpartition("/")[2] for each in found]

    def remove(self, name: str) -> None:
        """Remove an object, if there is one, or a folder with all that it holds."""
        try:
            self._ask(name, self._files.rm, self._path(name), recursive=True)
        except MissingObjectError:
            return

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _make_folder(self, name: str) -> None:
        """Create the folder of a name in a file system; an object store has no folders."""
        if self._scheme != "file":
            return
        folder = self._path(name).rpartition("/")[0]
        try:
            self._ask(name, self._files.makedirs, folder, exist_ok=True)
        except MissingObjectError:
            raise StoreError(
                f"{self.url} cannot be written: no folder can be made there; name another place"
            ) from None

    def _ask(self, name: str, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Call a function of the library; raise its errors as those of this program.

        A message is the same for the same cause: it holds no number of a request.
        """
        place = f"{self.url}/{name}"
        try:
            return self._wait(lambda: function(*arguments, **options))
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

    def _wait(self, work: Callable[[], Any]) -> Any:
        """Wait for work in a thread that the end of the program does not wait for.

        A store that does not answer would else hold up the end of a service for a minute.
        """
        future: Future[Any] = Future()

        def run() -> None:
            try:
                future.set_result(work())
            except (OSError, *self._errors) as error:
                future.set_exception(error)
            finally:
                if not future.done():  # an error of the program, which the thread prints
                    future.set_exception(StoreError(f"{self.url} could not be asked: see above"))

        threading.Thread(target=run, name="store", daemon=True).start()
        while not wait([future], WAIT_SECONDS).done:
            if self._stopped.is_set():
                raise StoreError(f"{self.url} was not waited for: the program ends")
        return future.result()
