"""Open loops: when requests are due (Poisson), and what a series of them says."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

TIMED_OUT = 0
BROKEN = -1
OK = 200
# These tell the client when to come back.
WITH_RETRY_AFTER = (429, 503)


@dataclass(slots=True)
class Exchange:
    """One request, when it was due, and what became of it; times in seconds from the start."""

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
        """Tell the time from the moment due to the last byte."""
        return self.done - self.due


def poisson(
    phase: str, requests: Sequence[bytes], rate: float, start: float, seconds: float, seed: int = 1
) -> list[Exchange]:
    """Draw arrivals with exponential gaps, `rate` a second; requests go round."""
    generator = random.Random(seed)
    exchanges: list[Exchange] = []
    due = start + generator.expovariate(rate)
    while due < start + seconds:
        exchanges.append(Exchange(phase, due, requests[len(exchanges) % len(requests)]))
        due += generator.expovariate(rate)
    return exchanges


def summarize(exchanges: Sequence[Exchange], start: float, seconds: float) -> dict[str, object]:
    """Sum up one stretch of load.

    Returns:
        `offered` and `goodput` a second, where goodput counts what was answered with 200 before
        the stretch was over; latency of the 200s from the moment due, in ms; the same of the
        refusals; `late_ms`, how late the client itself sent (high values: the client is the
        limit); answers by status, `timed_out` and `broken`; refusals that lack Retry-After.
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
    """Give p50, p95, p99 and the maximum in ms; None for no values."""
    if not seconds:
        return None
    p50, p95, p99 = np.percentile(seconds, [50, 95, 99]) * 1000
    most = max(seconds) * 1000
    found = {"p50": p50, "p95": p95, "p99": p99, "max": most}
    return {name: round(float(value), 2) for name, value in found.items()}


def _by_second(exchanges: Sequence[Exchange], start: float) -> list[dict[str, int]]:
    """Count answers by status for each second in which requests were due."""
    seconds: list[Counter[str]] = []
    for each in exchanges:
        second = int(each.due - start)
        seconds += (Counter() for _ in range(second + 1 - len(seconds)))
        seconds[second][_name(each.status)] += 1
    return [dict(sorted(second.items())) for second in seconds]


def _name(status: int) -> str:
    return {TIMED_OUT: "timed_out", BROKEN: "broken"}.get(status, str(status))
