"""Throughput and latency of clients that send again as soon as they are answered (wrk).

Run: python -m tests.bench.closed_loop --clients 1 8 64 --seconds 20
     python -m tests.bench.closed_loop --route encode --texts mixed --clients 64   (padding share)

`--texts mixed` sends 5 to 400 tokens in eight languages instead of questions.
"""

import argparse
from pathlib import Path

from tokenizers import Tokenizer

from tests.bench.corpus import ensure_index
from tests.bench.meter import metered
from tests.bench.options import checkpoint_of, environment_of, parser, say
from tests.bench.record import write_result
from tests.bench.servers import Server, our_service, scrape, served
from tests.bench.texts import (
    Text,
    encode_bodies,
    mixed_texts,
    questions,
    search_bodies,
    write_bodies,
)
from tests.bench.wrk import find_wrk, settle, wrk

BATCH_TOKENS = 'clear_batch_tokens_total{kind="%s",lane="%s"}'
COUNTERS = (
    "clear_batch_tokens_total",
    "clear_batch_items_count",
    "clear_batch_items_sum",
    "clear_batch_duration_seconds_sum",
    "clear_refusals_total",
)


def measure(
    server: Server, route: str, bodies: Path, clients: int, seconds: float, warm_up: float
) -> dict[str, object]:
    """Warm a running server up, then measure it under the load of some clients."""
    url = f"{server.url}/{route}"
    if warm_up:
        wrk(url, bodies, clients, warm_up)
        settle(url, bodies)
    before = scrape(server)
    with metered(server) as meter:
        found = wrk(url, bodies, clients, seconds)
    settle(url, bodies)
    counters = counter_changes(before, scrape(server))
    say(f"{server.name} /{route} {found} {meter.costs} {counters}")
    return {**found, "costs": meter.costs, **counters}


def counter_changes(before: dict[str, float], after: dict[str, float]) -> dict[str, object]:
    """Return the changes of the service's counters in an interval, and the padding by lane."""
    deltas = {
        series: round(value - before.get(series, 0.0), 4)
        for series, value in after.items()
        if series.startswith(COUNTERS) and value != before.get(series, 0.0)
    }
    padding = {}
    for lane in ("query", "bulk"):
        text, filler = (deltas.get(BATCH_TOKENS % (kind, lane), 0) for kind in ("text", "padding"))
        if text:
            padding[lane] = round(filler / (text + filler), 4)
    return {"counters": deltas, "padding_share": padding}


def write_request_bodies(options: argparse.Namespace) -> Path:
    """Write the request bodies; return their file."""
    if options.texts == "mixed":
        tokenizer = Tokenizer.from_file(str(checkpoint_of(options) / "tokenizer.json"))
        texts: list[Text] = mixed_texts(options.data, tokenizer)
    else:
        texts = questions(options.data)
    is_search = options.route == "search"
    role = "passage" if options.texts == "mixed" else "query"
    bodies = search_bodies(texts) if is_search else encode_bodies(texts, role)
    return write_bodies(bodies, options.work / f"{options.route}-{options.texts}.jsonl")


def main() -> None:
    """Start the service and measure it with each number of clients."""
    made = parser(__doc__)
    made.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    made.add_argument("--seconds", type=float, default=20.0)
    made.add_argument("--route", choices=["search", "encode"], default="search")
    made.add_argument("--texts", choices=["questions", "mixed"], default="questions")
    options = made.parse_args()
    find_wrk()
    index, bodies = ensure_index(options.work), write_request_bodies(options)
    log = options.work / "logs" / "closed_loop.log"
    results = []
    with our_service(index, options.port, environment_of(options), log) as server:
        facts = served(server)
        for clients in options.clients:
            found = measure(
                server, options.route, bodies, clients, options.seconds, options.warm_up
            )
            results.append(found)
    write_result(
        f"closed_loop-{options.route}-{options.texts}", options, {"served": facts, "runs": results}
    )


if __name__ == "__main__":
    main()
