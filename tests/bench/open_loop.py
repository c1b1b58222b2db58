"""Latency by offered load: Poisson arrivals at one rate or at several.

Run: python -m tests.bench.open_loop --rates 20 40 60 80 100 --seconds 30

Each request has one short question. Rates may be shares of the capacity, as in
--capacity 200 --rates .2 .5 .9
"""

import argparse

from tests.bench.arrivals import poisson, summarize
from tests.bench.client import request_bytes, run
from tests.bench.corpus import ensure_index
from tests.bench.meter import metered
from tests.bench.options import environment_of, parser, say
from tests.bench.plot import plot
from tests.bench.record import write_result
from tests.bench.servers import Server, our_service, served
from tests.bench.texts import questions, search_bodies

CLIENT_EXTRA_SECONDS = 5.0
# Pause between two rates, so that queued work of the first does not affect the second.
PAUSE_SECONDS = 2.0


def measure(
    server: Server,
    port: int,
    requests: list[bytes],
    rate: float,
    seconds: float,
    timeout_seconds: float,
) -> dict[str, object]:
    """Load a running server at one rate and summarize the answers."""
    exchanges = poisson("load", requests, rate, 0.5, seconds)
    with metered(server) as meter:
        run(port, exchanges, timeout_seconds)
    return {"rate": rate} | summarize(exchanges, 0.5, seconds) | {"costs": meter.costs}


def describe(found: dict[str, object]) -> str:
    """Return the result of one rate in one line."""
    return (
        f"offered {found['offered']}/s: {found['goodput']}/s answered, "
        f"latency {found['latency_ms']}, client late {found['late_ms']}, {found['statuses']}, "
        f"costs {found['costs']}"
    )


def main() -> None:
    """Start the service, warm it up, and measure each rate."""
    made = parser(__doc__)
    made.add_argument("--rates", type=float, nargs="+", default=[10, 20, 40, 60, 80, 100])
    made.add_argument("--capacity", type=float, default=1.0, help="rates are multiples of this")
    made.add_argument("--seconds", type=float, default=30.0)
    made.add_argument("--timeout-ms", type=int, default=10_000, help="deadline of each request")
    options = made.parse_args()
    requests = [
        request_bytes("/search", body)
        for body in search_bodies(questions(options.data), options.timeout_ms)
    ]
    path = write_result("open_loop", options, _sweep(options, requests))
    plot([path], path.with_suffix(".png"))


def _sweep(options: argparse.Namespace, requests: list[bytes]) -> dict[str, object]:
    index = ensure_index(options.work)
    timeout = options.timeout_ms / 1000 + CLIENT_EXTRA_SECONDS
    rates = [rate * options.capacity for rate in options.rates]
    log = options.work / "logs" / "open_loop.log"
    found = []
    with our_service(index, options.port, environment_of(options), log) as server:
        facts = served(server)
        measure(server, options.port, requests, min(rates), options.warm_up, timeout)
        for rate in rates:
            run(options.port, poisson("pause", requests, 2.0, 0.0, PAUSE_SECONDS), timeout)
            found.append(measure(server, options.port, requests, rate, options.seconds, timeout))
            say(describe(found[-1]))
    return {"served": facts, "rates": found}


if __name__ == "__main__":
    main()
