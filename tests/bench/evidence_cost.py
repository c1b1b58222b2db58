"""p50 of `/search` with and without evidence, in turns (A B A B), on the demo's passages.

Run: python -m tests.bench.evidence_cost --rounds 4 --requests 300

There is one client with a keep-alive connection; XQuAD's questions in eight languages, top_k 10.
"""

import itertools
import json
import time
from collections.abc import Iterator, Sequence
from http.client import HTTPConnection
from statistics import median

from service.demo.index import ensure_demo_index
from service.retrieval.encoder.loader import load_encoder
from service.retrieval.progress import ignore_progress
from tests.bench.options import environment_of, parser, say
from tests.bench.record import write_result
from tests.bench.servers import our_service
from tests.bench.texts import questions


def main() -> None:
    """Measure both ways in turns."""
    made = parser(__doc__)
    made.add_argument("--rounds", type=int, default=4)
    made.add_argument("--requests", type=int, default=300, help="of each way in a round")
    options = made.parse_args()
    index = options.work / "evidence-index"
    ensure_demo_index(index, lambda: load_encoder("bundled", device="cpu"), ignore_progress)
    texts = itertools.cycle([each.text for each in questions(options.data)])
    found: dict[str, list[float]] = {"without": [], "with": []}
    log = options.work / "evidence.log"
    with our_service(index, options.port, environment_of(options), log) as server:
        connection = HTTPConnection("127.0.0.1", server.port)
        for number in range(options.rounds + 1):  # the first round warms up
            queries = list(itertools.islice(texts, options.requests))
            for way, seconds in found.items():
                p50 = median(ask(connection, queries, way == "with"))
                if number:
                    seconds.append(p50)
                    say(f"{way:>8} p50 {1000 * p50:.3f} ms")
    ratio = median(found["with"]) / median(found["without"])
    say(f"with evidence / without: {ratio:.4f}")
    write_result("evidence_cost", options, {"p50_seconds": found, "ratio": ratio})


def ask(connection: HTTPConnection, queries: Sequence[str], evidence: bool) -> Iterator[float]:
    """Yield the seconds of requests one after another."""
    headers = {"Content-Type": "application/json"}
    for query in queries:
        body = json.dumps({"query": query, "top_k": 10, "evidence": evidence})
        started = time.perf_counter()
        connection.request("POST", "/search", body, headers)
        response = connection.getresponse()
        content = response.read()
        yield time.perf_counter() - started
        assert response.status == 200, content


if __name__ == "__main__":
    main()
