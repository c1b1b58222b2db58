"""Overload: twice the capacity for a minute; goodput, refusals, memory and recovery.

Run: python -m tests.bench.overload --seconds 60 --timeout-ms 2000

Capacity is the throughput of 64 clients in a closed loop. A slow stream of probes runs before and
after the load. Two seconds after the load ends, 64 clients measure the throughput again.
"""

import argparse
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.bench.arrivals import Exchange, percentiles, poisson, summarize
from tests.bench.client import request_bytes, run
from tests.bench.closed_loop import measure
from tests.bench.corpus import ensure_index
from tests.bench.meter import metered
from tests.bench.options import environment_of, parser, say
from tests.bench.record import write_result
from tests.bench.servers import Server, our_service, scrape, served
from tests.bench.texts import questions, search_bodies, write_bodies
from tests.bench.wrk import find_wrk, wrk

CLIENTS = 64
BEFORE_SECONDS = 5.0
RECOVERY_SECONDS = 2.0
WINDOW_SECONDS = 0.5
PROBE_SHARE = 0.1
ALLOWED = {"200", "429", "503", "504"}


def main() -> None:
    """Measure capacity, overload, recovery."""
    made = parser(__doc__)
    made.add_argument("--seconds", type=float, default=60.0)
    made.add_argument("--times", type=float, default=2.0, help="load as a multiple of capacity")
    made.add_argument("--timeout-ms", type=int, default=2_000, help="deadline of each request")
    made.add_argument("--capacity-seconds", type=float, default=15.0)
    options = made.parse_args()
    find_wrk()
    log = options.work / "logs" / "overload.log"
    index = ensure_index(options.work)
    with our_service(index, options.port, environment_of(options), log) as server:
        result = overload(server, options)
    for name, value in result.items():
        say(f"{name}: {value}")
    write_result("overload", options, result)


def overload(server: Server, options: argparse.Namespace) -> dict[str, object]:
    """Overload a running server and summarize its answers."""
    texts = questions(options.data)
    bodies = write_bodies(search_bodies(texts), options.work / "search-questions.jsonl")
    requests = [request_bytes("/search", body) for body in search_bodies(texts, options.timeout_ms)]
    first = measure(server, "search", bodies, CLIENTS, options.capacity_seconds, options.warm_up)
    capacity = float(str(first["requests_per_second"]))
    slow = max(2.0, capacity * PROBE_SHARE)
    ends = BEFORE_SECONDS + options.seconds
    loaded = poisson("load", requests, capacity * options.times, BEFORE_SECONDS, options.seconds)
    before = poisson("probe", requests, slow, 0.0, BEFORE_SECONDS, seed=2)
    after = poisson("probe", requests, slow, ends, RECOVERY_SECONDS, seed=3)
    counters = scrape(server)

    def ask_again() -> dict[str, float]:
        time.sleep(ends + RECOVERY_SECONDS)
        return wrk(f"{server.url}/search", bodies, CLIENTS, options.capacity_seconds / 2)

    timeout = options.timeout_ms / 1000 + 5.0
    with ThreadPoolExecutor() as pool, metered(server, rss_every_seconds=1.0) as meter:
        again = pool.submit(ask_again)
        run(options.port, [*before, *loaded, *after], timeout)
        speed = again.result()
    refusals = {
        series: value - counters.get(series, 0.0)
        for series, value in scrape(server).items()
        if series.startswith("clear_refusals_total")
    }
    found = summarize(loaded, BEFORE_SECONDS, options.seconds)
    return {
        "served": served(server),
        "capacity": first,
        "overload": found,
        "verdict": verdict(capacity, found, options.timeout_ms, speed["requests_per_second"]),
        "drained_after_seconds": round(max(each.done for each in loaded) - ends, 2),
        "probe_before_ms": percentiles([each.latency for each in before]),
        "probe_after_ms": _by_window(after, ends),
        "speed_after": speed,
        "rss": _memory(meter.rss_mib, options.seconds),
        "refusals_counted": refusals,
        "costs": meter.costs,
    }


def verdict(
    capacity: float, found: dict[str, object], timeout_ms: int, speed: float
) -> dict[str, object]:
    """Return the figures that the service makes promises about."""
    latency, statuses = found["latency_ms"], found["statuses"]
    assert isinstance(statuses, dict)
    p99 = latency["p99"] if isinstance(latency, dict) else None
    return {
        "goodput_of_capacity": round(float(str(found["goodput"])) / capacity, 3),
        "p99_ms_of_accepted": p99,
        "deadline_ms": timeout_ms,
        "other_answers": {key: n for key, n in statuses.items() if key not in ALLOWED},
        "without_retry_after": found["without_retry_after"],
        "speed_after_2_s_of_capacity": round(speed / capacity, 3),
    }


def _by_window(probes: Sequence[Exchange], start: float) -> list[object]:
    """Return the percentiles of each half second after the end of the load."""
    windows: list[list[float]] = [[] for _ in range(round(RECOVERY_SECONDS / WINDOW_SECONDS))]
    for each in probes:
        windows[min(len(windows) - 1, int((each.due - start) / WINDOW_SECONDS))].append(
            each.latency
        )
    return [percentiles(window) for window in windows]


def _memory(mebibytes: Sequence[float], seconds: float) -> dict[str, object]:
    """Return resident memory before the load, after a quarter of it, at its end, and by second."""
    quarter = min(len(mebibytes) - 1, int(BEFORE_SECONDS + seconds / 4))
    end = min(len(mebibytes) - 1, int(BEFORE_SECONDS + seconds))
    return {
        "before_mib": mebibytes[0],
        "quarter_mib": mebibytes[quarter],
        "end_mib": mebibytes[end],
        "growth_mib_after_quarter": round(mebibytes[end] - mebibytes[quarter], 1),
        "mib_by_second": list(mebibytes),
    }


if __name__ == "__main__":
    main()
