"""The right to write the changes of an index: one process has it, until it ends."""

import os
import socket
from pathlib import Path

from filelock import FileLock, Timeout

from service.retrieval.storage import artifact

LOCK, HOLDER = ".lock", "WRITER"


class Lease:
    """The lease of one folder of changes; the kernel takes it back from a process that dies."""

    def __init__(self, folder: Path) -> None:
        """Name the folder; nothing is created yet."""
        self._folder = folder
        self._lock = FileLock(folder / LOCK, timeout=0, thread_local=False)

    @property
    def is_held(self) -> bool:
        """Return whether this process has the lease."""
        return self._lock.is_locked

    @property
    def holder(self) -> str:
        """Return the host and process that took the lease last; empty if none did."""
        try:
            name = (self._folder / HOLDER).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        return name.strip()

    def take(self) -> bool:
        """Take the lease; return whether this process has it.

        Raises:
            OSError: the folder cannot be written.
        """
        if self.is_held:
            return True
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire()
        except Timeout:
            return False
        name = f"{socket.gethostname()}, process {os.getpid()}"
        artifact.replace_file(self._folder / HOLDER, f"{name}\n".encode())
        return True

    def give_back(self) -> None:
        """Let another process take the lease."""
        self._lock.release()
