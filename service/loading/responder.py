"""The small process that answers at the ports while this one loads.

Loading holds the interpreter's lock for long, as in the call that reads a tokenizer's file, so that
this process could not answer in time.
"""

import json
import logging
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from service.loading.answers import answers
from service.settings.settings import Settings

logger = logging.getLogger(__name__)
PROGRAM = Path(__file__).parent / "program.py"
STOP_SECONDS = 5.0


class Responder:
    """The process, or nothing if it could not be started: then the ports are silent."""

    def __init__(
        self,
        process: "subprocess.Popen[bytes] | None",
        settings: Settings,
        listeners: list[socket.socket],
    ) -> None:
        """Let the process answer from now on."""
        self._process = process
        self._settings = settings
        self._ports: list[int] = [listener.getsockname()[1] for listener in listeners]
        self.begin("starting")

    def begin(self, step: str) -> None:
        """Answer that this step of loading has begun."""
        self._write(json.dumps([answers(self._settings, port, step) for port in self._ports]))

    def stop(self) -> None:
        """Let the process accept no more connections, answer those that are open, and end.

        Connections that come from now on wait in the sockets for this process.
        """
        if self._process is None:
            return
        self._write("")
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], STOP_SECONDS)[0]:
            self._process.kill()
        threading.Thread(target=self._process.wait, name="responder", daemon=True).start()

    def _write(self, line: str) -> None:
        """Write to the process; if it was killed, the service goes on without it."""
        if self._process is not None:
            assert self._process.stdin is not None
            with suppress(BrokenPipeError):
                self._process.stdin.write(line.encode() + b"\n")
                self._process.stdin.flush()


@contextmanager
def answering(settings: Settings, listeners: list[socket.socket]) -> Iterator[Responder]:
    """Answer at the ports by another process, until it is stopped, or at the latest to the end.

    If this process is killed, the pipe to the other one closes, and it ends as well.
    """
    descriptors = [listener.fileno() for listener in listeners]
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(PROGRAM), *map(str, descriptors)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=descriptors,
            start_new_session=True,  # Ctrl-C is for this process
        )
    except OSError as error:
        logger.warning("nothing is answered until the service is ready: %s", error)
        yield Responder(None, settings, listeners)
        return
    try:
        yield Responder(process, settings, listeners)
    finally:
        process.kill()
        with suppress(BrokenPipeError):
            process.communicate()
