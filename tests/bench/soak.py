"""Soak test: memory, descriptors and threads must stay flat under mixed traffic.

Run: python -m tests.bench.soak --seconds 600
     python -m tests.bench.soak --seconds 600 --tiny     (a random two-layer encoder: more requests)

Eight clients do the actions of `tests.bench.soak_traffic`, in random order with a fixed seed. No
answer may be missing or be a 5xx, except the 504 of a deadline of 2 ms. Readings begin after ten
minutes of warm-up, in which batch shapes occur for the first time and each tokenizer fills its
cache of 10,000 words (17 MiB). A reading is flat if its slope over the last two thirds is not above
zero by more than its error, or is below 0.1 % a minute. This holds for the service's own memory;
pages of files, which the operating system can reclaim, are only reported. The sum of both is
`total_mib`: its mean over the last two thirds may not exceed `--limit-mib`.
"""

import argparse
import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import numpy as np

from service.auth.keys import make_key, write_line
from tests.bench.corpus import ensure_index
from tests.bench.options import environment_of, parser, say
from tests.bench.record import write_result
from tests.bench.servers import Server, memory_bytes, our_service, process_tree, scrape
from tests.bench.soak_traffic import ACTS, TIMEOUT_SECONDS, raw

MEBIBYTE = 2**20
CLIENTS = 8
BLOCKS = 12
LEAST_SECONDS = 60
LIMIT_MIB = 1024.0
FLAT_SHARE_A_MINUTE = 0.001
READ_SECONDS = 2
READINGS = ("own_memory_mib", "descriptors", "threads", "files_mib", "total_mib")
FLAT = READINGS[:3]  # the operating system can reclaim the pages of files
WARM_UP_SECONDS = 600.0


class Clients:
    """Eight threads that do random actions, and the counts of their outcomes."""

    def __init__(self, port: int, key: str, seconds: float, pause: float) -> None:
        """Start the threads; each pauses after an action, for `pause` seconds on average."""
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []
        self._port = port
        self._key = key
        self._ends = time.monotonic() + seconds
        self._pause = pause
        self._threads = [
            threading.Thread(target=self._run, args=(seed,)) for seed in range(CLIENTS)
        ]
        for thread in self._threads:
            thread.start()

    def wait(self) -> None:
        """Wait until all threads end."""
        for thread in self._threads:
            thread.join()

    def _run(self, seed: int) -> None:
        rng = random.Random(seed)
        acts, weights = zip(*ACTS, strict=True)
        connection = _Connection(self._port, self._key)
        while time.monotonic() < self._ends:
            [act] = rng.choices(acts, weights)
            name = act.__name__
            if self._pause:
                time.sleep(rng.uniform(0, 2 * self._pause))
            if act is raw:  # may outlast the server's keep-alive time
                connection.close()
            try:
                kind, status = act(rng, connection)
            except (TimeoutError, OSError, HTTPException) as error:
                self._fault(f"{name}: {type(error).__name__}: {error}")
                connection.close()
                continue
            self.counts[f"{name} {status or kind}"] += 1
            if status is not None and status >= 500:
                self._fault(f"{name}: status {status}")
        connection.close()

    def _fault(self, what: str) -> None:
        self.counts["faults"] += 1
        self.faults.append(what)


class _Connection(HTTPConnection):
    """A keep-alive connection that sends the key unless a request has its own."""

    def __init__(self, port: int, key: str) -> None:
        super().__init__("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
        self._bearer = f"Bearer {key}"

    def request(self, method: str, url: str, body=None, headers=None, **more) -> None:  # type: ignore[no-untyped-def,override]
        super().request(method, url, body, {"Authorization": self._bearer, **(headers or {})})


def read(server: Server) -> tuple[float, int, int, float, float]:
    """Return memory, descriptors, threads, file pages and total memory of the processes."""
    tree = process_tree(server.process_id)
    descriptors = threads = 0
    for each in tree:
        descriptors += sum(1 for _ in Path(f"/proc/{each}/fd").iterdir())
        threads += sum(1 for _ in Path(f"/proc/{each}/task").iterdir())
    own, files = (round(count / MEBIBYTE, 2) for count in memory_bytes(server.process_id))
    return own, descriptors, threads, files, round(own + files, 2)


def slope(seconds: Sequence[float], values: Sequence[float]) -> dict[str, float]:
    """Fit a line through block means of the last two thirds; return slope and error per minute.

    Neighboring readings are correlated, so a fit through all of them would underestimate the error.
    """
    first = len(values) // 3
    blocks = zip(
        np.array_split(np.asarray(seconds[first:]) / 60, BLOCKS),
        np.array_split(np.asarray(values[first:], float), BLOCKS),
        strict=True,
    )
    x, y = np.array([(minutes.mean(), value.mean()) for minutes, value in blocks]).T
    centered = x - x.mean()
    gradient = float(centered @ y / (centered @ centered))
    residuals = y - y.mean() - gradient * centered
    error = float(np.sqrt(residuals @ residuals / (BLOCKS - 2) / (centered @ centered)))
    return {
        "per_minute": round(gradient, 4),
        "error": round(2 * error, 4),
        "mean": float(y.mean()),
    }


def is_flat(found: dict[str, float]) -> bool:
    """Return whether a slope is within its error or below the limit."""
    excess = found["per_minute"] - found["error"]
    return excess <= 0 or found["per_minute"] <= FLAT_SHARE_A_MINUTE * found["mean"]


def replace(path: Path, text: str) -> None:
    """Replace a file atomically, because the service may read it at any moment."""
    temporary = path.with_suffix(".new")
    temporary.write_text(text)
    temporary.replace(path)


def server_faults(server: Server) -> list[str]:
    """Return the 5xx answers that the server itself counted, whether a client saw them or not."""
    return [
        f"{count:.0f} times {series}"
        for series, count in scrape(server).items()
        if series.startswith("clear_request_duration_seconds_count")
        and 'status="5' in series
        and 'status="504"' not in series
    ]


def soak(server: Server, keys: Path, options: argparse.Namespace) -> dict[str, object]:
    """Let the clients loose, and once warm look at the server every second."""
    secret, key = make_key(["search", "encode", "admin"])
    replace(keys, write_line("soak", key) + "\n")
    time.sleep(1.5)  # the service checks the file every second
    seconds = options.seconds
    clients = Clients(options.port, secret, options.warm_up + seconds, options.pause)
    time.sleep(options.warm_up)
    started = time.monotonic()
    times: list[float] = []
    readings: list[tuple[float, ...]] = []
    while (now := time.monotonic() - started) < seconds:
        times.append(round(now, 2))
        readings.append(read(server))
        if len(times) % 10 == 0:  # add and remove a key
            other = write_line("other", make_key(["search"])[1])
            replace(keys, "\n".join([write_line("soak", key), other]) + "\n")
        time.sleep(1.0)
    clients.wait()
    time.sleep(READ_SECONDS + 1)
    clients.faults += server_faults(server)
    columns = dict(zip(READINGS, map(list, zip(*readings, strict=True)), strict=True))
    slopes = {name: slope(times, column) for name, column in columns.items()}
    return {
        "requests": sum(clients.counts.values()),
        "counts": dict(sorted(clients.counts.items())),
        "faults": clients.faults[:20],
        "slopes": slopes,
        "is_flat": {name: is_flat(slopes[name]) for name in FLAT},
        "most_mib": max(columns["total_mib"]),
        "after": dict(zip(READINGS, read(server), strict=True)),
        "seconds": times,
        **columns,
    }


def plot(result: dict[str, object], to: Path) -> None:
    """Plot the readings over time."""
    try:
        import matplotlib
    except ImportError:
        say("no plot: pip install -e '.[bench]'")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(
        len(READINGS), 1, sharex=True, figsize=(7, 9), layout="constrained"
    )
    for panel, name in zip(panels, READINGS, strict=True):
        panel.plot(result["seconds"], result[name], linewidth=0.8)
        found = result["slopes"][name]  # type: ignore[index]
        panel.set(
            ylabel=name.replace("_", ", "),
            title=f"{found['per_minute']:+.3f} ± {found['error']:.3f} a minute",
        )
        panel.set_ylim(bottom=0)
        panel.grid(alpha=0.3)
    panels[-1].set_xlabel(f"seconds; {result['requests']} requests")
    figure.savefig(to, dpi=120)
    say(f"plot written to {to}")


@contextlib.contextmanager
def soaked_service(options: argparse.Namespace, keys: Path) -> Iterator[Server]:
    """Run the service with short timeouts for slow clients."""
    environment = environment_of(options) | {
        "CLEAR_KEYS_FILE": str(keys),
        "CLEAR_READ_SECONDS": str(READ_SECONDS),
        "CLEAR_WRITE_SECONDS": str(READ_SECONDS),
        "CLEAR_KEEP_ALIVE_SECONDS": "5",
        "CLEAR_TIMEOUT_MS": "20000",  # long enough that a 504 is a fault even on a slow machine
        "CLEAR_QUERY_CACHE_ENTRIES": "1000",
        "CLEAR_LOG_LEVEL": "error",
    }
    if options.tiny:
        from tests.bench.tiny_service import tiny_service

        index, settings = tiny_service(options.work / "tiny")
        environment |= settings
    else:
        index = ensure_index(options.work)
    keys.write_text(write_line("first", make_key(["search"])[1]) + "\n")
    log = options.work / "logs" / "soak.log"
    with our_service(index, options.port, environment, log) as server:
        yield server


def main() -> None:
    """Run the soak test, print and plot it; exit with 1 if a reading grew or a request failed."""
    made = parser(__doc__)
    made.add_argument("--seconds", type=float, default=600.0)
    made.set_defaults(warm_up=WARM_UP_SECONDS)
    made.add_argument("--pause", type=float, default=0.0, help="of a client, seconds on average")
    made.add_argument("--tiny", action="store_true", help="a random encoder, twelve passages")
    made.add_argument("--limit-mib", type=float, default=LIMIT_MIB, help="mean of the total memory")
    options = made.parse_args()
    if options.seconds < LEAST_SECONDS:
        made.error(f"--seconds {options.seconds:g}: a slope needs {LEAST_SECONDS}")
    options.work.mkdir(parents=True, exist_ok=True)
    keys = options.work / "soak-keys.toml"
    with soaked_service(options, keys) as server:
        result = soak(server, keys, options)
    for name in ("requests", "counts", "faults", "slopes", "is_flat", "most_mib", "after"):
        say(f"{name}: {result[name]}")
    written = write_result("soak", options, result)
    plot(result, written.with_suffix(".png"))
    mean = result["slopes"]["total_mib"]["mean"]  # type: ignore[index]
    if mean > options.limit_mib:
        say(f"total_mib: {mean:.0f} is above --limit-mib {options.limit_mib:g}")
    is_flat = all(result["is_flat"].values())  # type: ignore[attr-defined]
    if result["faults"] or not is_flat or mean > options.limit_mib:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
