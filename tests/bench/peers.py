"""Comparison with Infinity: the same weights, precision, questions and cores, in turns.

Run: python -m tests.bench.peers --setup              (once: installs Infinity)
     python -m tests.bench.peers --precision fp32 --rounds 2 --seconds 20

In a round, first our service and then Infinity is started, warmed up, loaded by 1 and by 64 clients
(wrk) and stopped. Our service answers /search: it tokenizes, encodes, searches the index and
returns passages. Infinity only returns the vector.
"""

import argparse
import json
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from tests.bench.closed_loop import measure
from tests.bench.corpus import default_work, ensure_index
from tests.bench.options import checkpoint_of, environment_of, parser, say
from tests.bench.record import write_result
from tests.bench.servers import (
    INFINITY_MODEL,
    INFINITY_TYPES,
    Server,
    infinity,
    our_service,
    served,
)
from tests.bench.texts import (
    Text,
    encode_bodies,
    infinity_bodies,
    questions,
    search_bodies,
    write_bodies,
)
from tests.bench.wrk import find_wrk

Vectors = NDArray[np.float32]
PACKAGES = ("torch==2.13.0", "infinity-emb[server,torch]==0.0.78")
NUM_COMPARED = 16


def set_up(venv: Path) -> None:
    """Install Infinity in its own environment, because it pins older libraries."""
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    subprocess.run([str(venv / "bin" / "pip"), "install", "--quiet", *PACKAGES], check=True)
    say(f"Infinity is in {venv}")


def main() -> None:
    """Install Infinity, or measure both servers in turns (A B A B)."""
    made = parser(__doc__)
    made.add_argument("--setup", action="store_true", help="install Infinity and exit")
    made.add_argument("--infinity", type=Path, default=default_work().parent / "infinity-venv")
    made.add_argument("--precision", choices=list(INFINITY_TYPES), default="fp32", help="of both")
    made.add_argument("--rounds", type=int, default=2)
    made.add_argument("--clients", type=int, nargs="+", default=[1, 64])
    made.add_argument("--seconds", type=float, default=20.0)
    made.add_argument("--route", choices=["search", "encode"], default="search")
    options = made.parse_args()
    if options.setup:
        set_up(options.infinity)
        return
    if not (options.infinity / "bin" / "infinity_emb").is_file():
        raise SystemExit(f"Infinity is not in {options.infinity}: run with --setup first")
    find_wrk()
    vectors: dict[str, Vectors] = {}
    runs = [
        {"round": number, "server": name, **found}
        for number in range(1, options.rounds + 1)
        for name in ("clear", "infinity")
        for found in _one(name, options, vectors)
    ]
    cosine = float((vectors["clear"] * vectors["infinity"]).sum(axis=1).min())
    say(f"lowest cosine of our vectors with Infinity's: {cosine:.5f}")
    medians = compare(runs, options.clients)
    for line in medians:
        say(str(line))
    facts = {"infinity": PACKAGES, "least_cosine": round(cosine, 5)}
    write_result("peers", options, {**facts, "medians": medians, "runs": runs})


def compare(runs: list[dict[str, object]], clients: list[int]) -> list[dict[str, object]]:
    """Return each server's median over the rounds, and our speed as a multiple of Infinity's."""
    lines = []
    for number in clients:
        line: dict[str, object] = {"clients": number}
        speeds = {}
        for name in ("clear", "infinity"):
            own = [run for run in runs if (run["server"], run["clients"]) == (name, number)]
            speeds[name] = median(float(str(run["requests_per_second"])) for run in own)
            line[name] = {
                key: median(float(str(run[key])) for run in own)
                for key in ("requests_per_second", "p50_ms", "p95_ms", "p99_ms")
            }
        line["times"] = round(speeds["clear"] / speeds["infinity"], 2)
        lines.append(line)
    return lines


def _one(
    name: str, options: argparse.Namespace, vectors: dict[str, Vectors]
) -> list[dict[str, object]]:
    texts = questions(options.data)
    route, bodies = options.route, search_bodies(texts)
    if name == "infinity":
        route, bodies = "embeddings", infinity_bodies(texts, INFINITY_MODEL)
    elif route == "encode":
        bodies = encode_bodies(texts, "query")
    path = write_bodies(bodies, options.work / f"peers-{route}.jsonl")
    with _server(name, options) as server:
        facts = {"served": served(server)} if name == "clear" else {}
        vectors[name] = _vectors(server, texts[:NUM_COMPARED])
        return [
            measure(server, route, path, clients, options.seconds, options.warm_up) | facts
            for clients in options.clients
        ]


def _vectors(server: Server, texts: Sequence[Text]) -> Vectors:
    """Request embeddings, to check that both servers compute the same."""
    if server.name == "infinity":
        path, bodies = "/embeddings", infinity_bodies(texts, INFINITY_MODEL)
    else:
        path, bodies = "/encode", encode_bodies(texts, "query")
    rows = []
    for body in bodies:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(server.url + path, body, headers)
        with urllib.request.urlopen(request, timeout=60) as response:
            answer = json.load(response)
        rows.append(answer["data"][0]["embedding"] if "data" in answer else answer["embeddings"][0])
    return np.asarray(rows, dtype=np.float32)


def _server(name: str, options: argparse.Namespace) -> AbstractContextManager[Server]:
    log = options.work / "logs" / f"peers-{name}.log"
    if name == "infinity":
        return infinity(
            options.infinity, checkpoint_of(options), options.precision, options.port + 1, log
        )
    index = ensure_index(options.work)
    # The same weights as Infinity's: without the adapter.
    environment = {
        **environment_of(options),
        "CLEAR_ENCODER": "bundled-base",
        "CLEAR_PRECISION": options.precision,
    }
    return our_service(index, options.port, environment, log)


if __name__ == "__main__":
    main()
