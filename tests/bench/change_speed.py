"""Documents changed a second over HTTP with the bundled encoder, by the size of a request.

Run: python -m tests.bench.change_speed --sizes 1 100 1000

The service has the demo's passages and its default settings. Each request puts documents with new
texts of the demo's lengths and waits until they are live.
"""

import argparse
import itertools
import json
import shutil
import time
import urllib.request
from pathlib import Path
from statistics import median

from tests.bench.corpus import corpus_passages, ensure_index
from tests.bench.meter import metered
from tests.bench.options import environment_of, parser, say
from tests.bench.record import write_result
from tests.bench.servers import Server, our_service, served

MAX_DOCUMENTS = 1000


def put(server: Server, documents: list[dict[str, str]]) -> float:
    """Put documents; return the seconds until they are live."""
    body = json.dumps({"put": documents, "wait": True, "timeout_ms": 60_000}).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{server.url}/documents", body, headers)
    started = time.monotonic()
    with urllib.request.urlopen(request, timeout=120) as response:
        answer = json.load(response)
    if answer["state"] != "applied":
        raise SystemExit(f"the change is {answer['state']}: {answer['reason']}")
    return time.monotonic() - started


def run(server: Server, size: int, requests: int, options: argparse.Namespace) -> dict[str, object]:
    """Send requests of one size, one after another."""
    entries = itertools.cycle(corpus_passages())
    times = []
    with metered(server) as meter:
        for number in range(requests):
            some = itertools.islice(entries, size)
            times.append(
                put(server, [{**each, "text": f"{time.time_ns()} {each['text']}"} for each in some])
            )
            say(f"{size} documents: {times[-1]:.2f} s ({number + 1} of {requests})")
    return {
        "documents": size,
        "requests": requests,
        "median_seconds": round(median(times), 2),
        "documents_per_second": round(size * requests / sum(times), 1),
        "costs": meter.costs,
    }


def main() -> None:
    """Start the service on a copy of the demo's index, change it, record the times."""
    made = parser(__doc__)
    made.add_argument("--sizes", type=int, nargs="+", default=[1, 100, MAX_DOCUMENTS])
    made.add_argument("--requests", type=int, default=3, help="of each size")
    options = made.parse_args()
    index: Path = options.work / "changed-index"
    shutil.rmtree(index, ignore_errors=True)
    shutil.copytree(ensure_index(options.work), index)
    environment = {
        "CLEAR_DOCUMENTS": "open",
        "CLEAR_MAX_BODY_BYTES": str(2**24),
        "CLEAR_MAX_TIMEOUT_MS": "60000",
        **environment_of(options),
    }
    log = options.work / "logs" / "change_speed.log"
    with our_service(index, options.port, environment, log) as server:
        facts = served(server)
        put(server, [{"id": "warm-up", "text": "A first change."}])
        runs = [run(server, size, options.requests, options) for size in options.sizes]
    write_result("change_speed", options, {"served": facts, "runs": runs})


if __name__ == "__main__":
    main()
