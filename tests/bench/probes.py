"""Probes: one request after the other from a thread, while something else happens."""

import http.client
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import cycle

PROBE_SECONDS = 30.0  # a probe that waits longer has failed


class Probes:
    """Asks a path again and again, on a new connection each time."""

    def __init__(
        self, port: int, path: str, bodies: Sequence[bytes] = (), pause_seconds: float = 0.01
    ) -> None:
        """Ask by GET, or by POST with the bodies in turn; pause after each answer."""
        self._port = port
        self._path = path
        self._bodies = cycle(bodies) if bodies else None
        self._pause_seconds = pause_seconds
        self._started = time.monotonic()
        self.seconds: list[float] = []
        self.failures = 0
        self.first_answer_seconds: float | None = None

    def ask(self) -> None:
        """Send one request and record its outcome."""
        body = next(self._bodies) if self._bodies else None
        headers = {"Content-Type": "application/json"} if body else {}
        started = time.monotonic()
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PROBE_SECONDS)
            with closing(connection):
                connection.request("POST" if body else "GET", self._path, body, headers)
                response = connection.getresponse()
                response.read()
        except (OSError, http.client.HTTPException) as error:
            # Before the first answer nobody listens yet.
            is_early = isinstance(error, ConnectionRefusedError) and not self.seconds
            self.failures += not is_early
            return
        ended = time.monotonic()
        if response.status != http.client.OK:
            self.failures += 1
            return
        self.seconds.append(ended - started)
        if self.first_answer_seconds is None:
            self.first_answer_seconds = round(ended - self._started, 3)

    def ask_until(self, is_over: threading.Event) -> None:
        """Send requests, at least one, until the event is set."""
        while True:
            self.ask()
            if is_over.wait(self._pause_seconds):
                return

    def summary(self) -> dict[str, object]:
        """Return the number, the median and the slowest in ms, and the share of failures."""
        asked = len(self.seconds) + self.failures
        return {
            "n": asked,
            "median_ms": _milliseconds(statistics.median(self.seconds)) if self.seconds else None,
            "slowest_ms": _milliseconds(max(self.seconds)) if self.seconds else None,
            "failed_share": round(self.failures / asked, 5) if asked else None,
        }


@contextmanager
def probing(
    port: int, path: str, bodies: Sequence[bytes] = (), pause_seconds: float = 0.01
) -> Iterator[Probes]:
    """Send probes while the block runs."""
    probes, is_over = Probes(port, path, bodies, pause_seconds), threading.Event()
    thread = threading.Thread(target=probes.ask_until, args=(is_over,), daemon=True)
    thread.start()
    try:
        yield probes
    finally:
        is_over.set()
        thread.join()


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 2)
