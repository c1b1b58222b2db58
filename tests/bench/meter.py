"""CPU time of the server, the client and other processes in an interval, and the memory.

If `other_cores` is above .05, the machine was not idle: measure again.
"""

import os
import resource
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.servers import Server, cpu_seconds, rss_bytes

MEBIBYTE = 2**20


class Meter:
    """The costs of an interval; `costs` is set when the interval ends."""

    def __init__(self, server: Server) -> None:
        """Take the first readings."""
        self._server = server
        self._started = time.monotonic()
        self._first = self._read()
        self.rss_mib: list[float] = [self.rss_now()]
        self.costs: dict[str, float] = {}

    def rss_now(self) -> float:
        """Return the server's resident memory in MiB."""
        return round(rss_bytes(self._server.process_id) / MEBIBYTE, 1)

    def stop(self) -> None:
        """Take the last readings and compute the costs, in units of one core."""
        seconds = time.monotonic() - self._started
        server, client, busy, stolen = (
            (last - first) / seconds for last, first in zip(self._read(), self._first, strict=True)
        )
        self.rss_mib.append(self.rss_now())
        self.costs = {
            "seconds": round(seconds, 2),
            "server_cores": round(server, 3),
            "client_cores": round(client, 3),
            "other_cores": round(max(0.0, busy - server - client), 3),
            "stolen_cores": round(stolen, 3),
            "rss_mib": self.rss_mib[-1],
        }

    def _read(self) -> tuple[float, float, float, float]:
        own = resource.getrusage(resource.RUSAGE_SELF)
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        client = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
        return (cpu_seconds(self._server.process_id), client, *_machine_seconds())


@contextmanager
def metered(server: Server, rss_every_seconds: float | None = None) -> Iterator[Meter]:
    """Measure the costs of the block; optionally also sample the memory."""
    meter = Meter(server)
    is_over = threading.Event()

    def sample() -> None:
        while rss_every_seconds and not is_over.wait(rss_every_seconds):
            meter.rss_mib.append(meter.rss_now())

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    try:
        yield meter
    finally:
        is_over.set()
        sampler.join()
        meter.stop()


def _machine_seconds() -> tuple[float, float]:
    """Return the busy seconds of all cores, and the seconds stolen by the hypervisor."""
    # user nice system idle iowait irq softirq steal
    ticks = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    per_second = os.sysconf("SC_CLK_TCK")
    return (sum(ticks) - ticks[3] - ticks[4] - ticks[7]) / per_second, ticks[7] / per_second
