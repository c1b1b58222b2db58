"""What relevance, identifiers and evidence cost: p50, throughput, processor time; in turns.

Run: python -m tests.bench.answers_cost --starts 3 --questions 2000 --clients 8 --rounds 4

Two services run at once on the demo's passages; the one that is not measured idles. The questions
are XQuAD's in eight languages, top_k 10. One client asks a few questions one way, then the same
questions the next way, so that all ways share what else the machine does; wrk asks for many
clients, one way after another. The services start anew a few times: equal ones differ by 1 %.

    none      an index without identifiers, whose calibration is not in force
    answers   hits have `relevance` and `matched`
    evidence  hits have evidence, too
"""

import argparse
import http.client
import json
import shutil
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from statistics import median

from service.demo.index import ensure_demo_index
from service.retrieval.encoder.loader import load_encoder
from service.retrieval.generation.manifest import IDENTIFIERS, MANIFEST
from service.retrieval.progress import ignore_progress
from service.retrieval.relevance.calibration import PACKAGED, read_calibration, write_calibration
from service.retrieval.relevance.choice import CALIBRATION
from tests.bench.options import environment_of, parser, say
from tests.bench.record import write_result
from tests.bench.servers import Server, cpu_seconds, our_service
from tests.bench.texts import questions, search_bodies, write_bodies
from tests.bench.wrk import find_wrk, settle, wrk
from tests.support.builds import live_directory, write_manifest

WAYS = ("none", "answers", "evidence")
TURN = 8  # questions


def main() -> None:
    """Measure the three ways in turns."""
    made = parser(__doc__)
    made.add_argument("--starts", type=int, default=3, help="times to start the services")
    made.add_argument("--questions", type=int, default=2000, help="of one client, at each start")
    made.add_argument("--clients", type=int, nargs="*", default=[8], help="at once, by wrk")
    made.add_argument("--rounds", type=int, default=4)
    made.add_argument("--seconds", type=float, default=6.0)
    options = made.parse_args()
    find_wrk()
    index, log = options.work / "answers-index", options.work / "answers_cost.log"
    ensure_demo_index(index, lambda: load_encoder("bundled", device="cpu"), ignore_progress)
    without = index_without_answers(index, options.work / "answers-none-index")
    bodies = bodies_of_ways(options)
    single: list[dict[str, dict[str, float]]] = []
    runs: dict[str, dict[str, list[dict[str, float]]]] = {}
    environment = environment_of(options)
    for start in range(options.starts):
        with (
            our_service(index, options.port, environment, log) as full,
            our_service(without, options.port + 1, environment, log) as plain,
        ):
            servers = {way: plain if way == "none" else full for way in WAYS}
            for way, server in servers.items():
                measure(server, bodies[way], 8, options.warm_up)
            single.append(ask_in_turns(servers, bodies, options.questions))
            say(f"1 client, start {start + 1}: {single[-1]}")
            for clients in options.clients:
                found = runs.setdefault(str(clients), defaultdict(list))
                for _ in range(options.rounds):
                    for way, server in servers.items():
                        found[way].append(measure(server, bodies[way], clients, options.seconds))
    for way in WAYS:
        say(f"1 client, {way}: p50 ratio {median(each[way]['ratio'] for each in single):.3f}")
    for name, found in runs.items():
        say_ratios(int(name), found)
    write_result("answers_cost", options, {"single": single, "runs": runs})


def ask_in_turns(
    servers: Mapping[str, Server], bodies: Mapping[str, Path], count: int
) -> dict[str, dict[str, float]]:
    """Ask the same questions each way, a few at a time; return each way's p50 and ratio to none."""
    asked = {way: bodies[way].read_bytes().splitlines()[:count] for way in servers}
    connections = {
        way: http.client.HTTPConnection("127.0.0.1", server.port) for way, server in servers.items()
    }
    spent: dict[str, list[float]] = {way: [] for way in servers}
    ways = list(servers)
    for first in range(0, count, TURN):
        for way in ways:
            # The first answer after another way's turn finds cold caches, and does not count.
            ask(connections[way], asked[way][first - 1])
            spent[way] += [ask(connections[way], each) for each in asked[way][first : first + TURN]]
        ways = [*ways[1:], ways[0]]
    medians = {way: median(each) for way, each in spent.items()}
    return {
        way: {"p50_ms": round(value, 3), "ratio": round(value / medians["none"], 4)}
        for way, value in medians.items()
    }


def ask(connection: http.client.HTTPConnection, body: bytes) -> float:
    """Send one request of `/search`; return the milliseconds until its answer is read."""
    began = time.perf_counter()
    connection.request("POST", "/search", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    content = response.read()
    if response.status != http.client.OK:
        raise SystemExit(f"/search answers {response.status}: {content!r}")
    return 1000 * (time.perf_counter() - began)


def index_without_answers(index: Path, copy: Path) -> Path:
    """Copy an index without its identifiers, and with the calibration of another encoder."""
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(index, copy)
    live = live_directory(copy)
    manifest = json.loads((live / MANIFEST).read_bytes())
    del manifest["files"][IDENTIFIERS]
    (live / IDENTIFIERS).unlink()
    (copy / "CURRENT").write_text(write_manifest(copy, manifest).name)
    other = read_calibration(PACKAGED / "bundled.json").model_copy(update={"fingerprint": "0" * 64})
    write_calibration(copy / CALIBRATION, other)
    return copy


def bodies_of_ways(options: argparse.Namespace) -> dict[str, Path]:
    """Write the bodies of requests; return their files by way."""
    plain = search_bodies(questions(options.data))
    asked = [body[:-1] + b',"evidence":true}' for body in plain]
    return {
        way: write_bodies(asked if way == "evidence" else plain, options.work / f"{way}.jsonl")
        for way in WAYS
    }


def measure(server: Server, bodies: Path, clients: int, seconds: float) -> dict[str, float]:
    """Run wrk; return what it counts, and the server's processor time of a request."""
    url = f"{server.url}/search"
    settle(url, bodies)
    before = cpu_seconds(server.process_id)
    found = wrk(url, bodies, clients, seconds)
    spent = cpu_seconds(server.process_id) - before
    return {**found, "processor_ms": round(1000 * spent / found["requests"], 3)}


def say_ratios(clients: int, found: dict[str, list[dict[str, float]]]) -> None:
    """Print the medians of each way, and those of the ratios to none in the same round."""
    for name in ("p50_ms", "requests_per_second", "processor_ms"):
        values = []
        for way, runs in found.items():
            pairs = zip(runs, found["none"], strict=True)
            ratio = median(run[name] / none[name] for run, none in pairs)
            values.append(f"{way} {median(run[name] for run in runs):.2f} ({ratio:.3f})")
        say(f"{clients} clients, {name}: {', '.join(values)}")


if __name__ == "__main__":
    main()
