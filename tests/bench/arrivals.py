"""Open-loop load: Poisson arrival times, and the summary of the answers."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

TIMED_OUT = 0
BROKEN = -1
OK = 200
# Statuses that must carry a Retry-After header.
WITH_RETRY_AFTER = (429, 503)


@dataclass(slots=True)
class Exchange:
    """A request, its arrival time and its outcome; times in seconds from the start."""

    phase: str
    due: float
    request: bytes
    sent: float = 0.0
    done: float = 0.0
    status: int = TIMED_OUT
    retry_after: float | None = None
    is_second_try: bool = False

    @property
    def latency(self) -> float:
        """Return the seconds from the arrival time to the last byte of the answer."""
        return self.done - self.due


def poisson(
    phase: str, requests: Sequence[bytes], rate: float, start: float, seconds: float, seed: int = 1
) -> list[Exchange]:
    """Return arrivals with exponential gaps, `rate` a second; the requests repeat in order."""
    generator = random.Random(seed)
    exchanges: list[Exchange] = []
    due = start + generator.expovariate(rate)
    while due < start + seconds:
        exchanges.append(Exchange(phase, due, requests[len(exchanges) % len(requests)]))
        due += generator.expovariate(rate)
    return exchanges


def summarize(exchanges: Sequence[Exchange], start: float, seconds: float) -> dict[str, object]:
    """Summarize one interval of load.

    Returns:
        `offered` and `goodput` per second: goodput counts the answers with status 200 before the
        end of the interval; latency of the 200s from the arrival time, in ms; latency of the
        refusals; `late_ms`, the delay of the client in sending (if high, the client is the
        bottleneck); answers by status, `timed_out` and `broken`; refusals without Retry-After.
    """
    answered = [each for each in exchanges if each.status == OK]
    refused = [each for each in exchanges if each.status > OK]
    in_time = sum(each.done <= start + seconds for each in answered)
    waits = [each.retry_after for each in refused if each.retry_after is not None]
    lacking = sum(each.retry_after is None for each in refused if each.status in WITH_RETRY_AFTER)
    statuses = Counter(_name(each.status) for each in exchanges)
    return {
        "offered": round(len(exchanges) / seconds, 2),
        "goodput": round(in_time / seconds, 2),
        "latency_ms": percentiles([each.latency for each in answered]),
        "refusal_ms": percentiles([each.latency for each in refused]),
        "late_ms": percentiles([each.sent - each.due for each in exchanges]),
        "statuses": dict(sorted(statuses.items())),
        "statuses_by_second": _by_second(exchanges, start),
        "without_retry_after": lacking,
        "retry_after_seconds": [min(waits), max(waits)] if waits else None,
        "n": len(exchanges),
    }


def percentiles(seconds: Sequence[float]) -> dict[str, float] | None:
    """Return p50, p95, p99 and the maximum in ms; None without values."""
    if not seconds:
        return None
    p50, p95, p99 = np.percentile(seconds, [50, 95, 99]) * 1000
    highest = max(seconds) * 1000
    found = {"p50": p50, "p95": p95, "p99": p99, "max": highest}
    return {name: round(float(value), 2) for name, value in found.items()}


def _by_second(exchanges: Sequence[Exchange], start: float) -> list[dict[str, int]]:
    """Return the answers by status, for each second of arrival times."""
    seconds: list[Counter[str]] = []
    for each in exchanges:
        second = int(each.due - start)
        seconds += (Counter() for _ in range(second + 1 - len(seconds)))
        seconds[second][_name(each.status)] += 1
    return [dict(sorted(second.items())) for second in seconds]


def _name(status: int) -> str:
    return {TIMED_OUT: "timed_out", BROKEN: "broken"}.get(status, str(status))
