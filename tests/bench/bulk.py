"""Latency of queries while /encode is saturated, and the throughput that bulk keeps.

Run: python -m tests.bench.bulk --rate 20 --seconds 30

Queries are an open loop with a fixed mean rate; bulk is a closed loop of 4 connections with
400-token passages. Three intervals: queries alone, bulk alone, both.
"""

import argparse
import time
from concurrent.futures import ThreadPoolExecutor

from tokenizers import Tokenizer

from tests.bench.arrivals import poisson, summarize
from tests.bench.client import request_bytes, run
from tests.bench.closed_loop import counter_changes
from tests.bench.corpus import ensure_index
from tests.bench.meter import metered
from tests.bench.options import checkpoint_of, environment_of, parser, say
from tests.bench.record import write_result
from tests.bench.servers import Server, our_service, scrape, served
from tests.bench.texts import encode_bodies, mixed_texts, questions, search_bodies, write_bodies
from tests.bench.wrk import find_wrk, settle, wrk

# Bulk starts this long before the first query and ends this long after the last one.
EDGE_SECONDS = 1.0
TIMEOUT_SECONDS = 15.0


def main() -> None:
    """Start the service and measure the three intervals."""
    made = parser(__doc__)
    made.add_argument("--rate", type=float, default=20.0, help="queries per second")
    made.add_argument("--seconds", type=float, default=30.0)
    made.add_argument("--connections", type=int, default=4)
    made.add_argument("--tokens", type=int, default=400)
    made.add_argument("--texts", type=int, default=4, help="texts per bulk request")
    options = made.parse_args()
    find_wrk()
    log = options.work / "logs" / "bulk.log"
    index = ensure_index(options.work)
    with our_service(index, options.port, environment_of(options), log) as server:
        result = bulk(server, options)
    write_result("bulk", options, result)


def bulk(server: Server, options: argparse.Namespace) -> dict[str, object]:
    """Load a running server and compare the intervals."""
    tokenizer = Tokenizer.from_file(str(checkpoint_of(options) / "tokenizer.json"))
    texts = mixed_texts(options.data, tokenizer, 1024, options.tokens, options.tokens)
    bodies = write_bodies(
        encode_bodies(texts, "passage", options.texts), options.work / "encode-bulk.jsonl"
    )
    requests = [request_bytes("/search", body) for body in search_bodies(questions(options.data))]

    def query(seconds: float) -> dict[str, object]:
        exchanges = poisson("query", requests, options.rate, 0.0, seconds)
        run(options.port, exchanges, TIMEOUT_SECONDS)
        return summarize(exchanges, 0.0, seconds)

    def load(seconds: float) -> dict[str, float]:
        url = f"{server.url}/encode"
        found = wrk(url, bodies, options.connections, seconds)
        settle(url, bodies)
        return found | {"texts_per_second": found["requests_per_second"] * options.texts}

    query(options.warm_up)
    with metered(server) as quiet:
        alone = query(options.seconds)
    say(f"queries alone: {alone} {quiet.costs}")
    load(options.warm_up)
    bulk_alone = load(options.seconds)
    say(f"bulk alone: {bulk_alone}")
    before = scrape(server)
    with ThreadPoolExecutor() as pool, metered(server) as busy:
        loading = pool.submit(load, options.seconds + 2 * EDGE_SECONDS)
        time.sleep(EDGE_SECONDS)
        beside = query(options.seconds)
        bulk_beside = loading.result()
    say(f"queries beside bulk: {beside} {busy.costs}")
    say(f"bulk beside queries: {bulk_beside}")
    verdict = {
        "p99_times": _times(beside, alone, "p99"),
        "p50_times": _times(beside, alone, "p50"),
        "bulk_share": round(bulk_beside["texts_per_second"] / bulk_alone["texts_per_second"], 3),
    }
    say(f"verdict: {verdict}")
    return {
        "served": served(server),
        "verdict": verdict,
        "queries_alone": alone,
        "queries_beside_bulk": beside,
        "bulk_alone": bulk_alone,
        "bulk_beside_queries": bulk_beside,
        "metrics_beside": counter_changes(before, scrape(server)),
        "costs": {"alone": quiet.costs, "beside": busy.costs},
    }


def _times(found: dict[str, object], base: dict[str, object], percentile: str) -> float | None:
    latency, reference = found["latency_ms"], base["latency_ms"]
    if not isinstance(latency, dict) or not isinstance(reference, dict):
        return None
    return round(float(latency[percentile]) / float(reference[percentile]), 2)


if __name__ == "__main__":
    main()
