"""Changes of documents under load: failures, mixed or short answers, latency, seconds to live.

Run: python -m tests.bench.changes --clients 32 --seconds 20 --rate 167

Turns without and with changes alternate. A request puts all documents of a group in a new version;
a search for a group, by its filter, must find all of them in one version. Encoder and index are
random and tiny: what is measured is the service around them. The client runs on the same cores.
"""

import argparse
import asyncio
import itertools
import json
import random
import statistics
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from service.retrieval.corpus.reader import Passage
from service.retrieval.encoder.loader import load_encoder
from service.retrieval.indexing.build import build_index
from tests.bench.client import request_bytes
from tests.bench.options import parser, say
from tests.bench.record import write_result
from tests.conftest import make_checkpoint
from tests.support.processes import running

GROUP_SIZE = 5
SETTINGS = {
    "CLEAR_DOCUMENTS": "open",
    "CLEAR_CPU_ENGINE": "torch",
    "CLEAR_PRECISION": "fp32",
    "CLEAR_QUERY_CACHE_ENTRIES": "0",
}


@dataclass
class Turn:
    """What clients observed in one turn."""

    seconds: list[float] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    live_seconds: list[float] = field(default_factory=list)
    num_changed: int = 0
    generations: set[str] = field(default_factory=set)

    def summary(self) -> dict[str, object]:
        """Return counts, and percentiles in milliseconds."""
        cuts = statistics.quantiles(self.seconds, n=1000)
        return {
            "answers": len(self.seconds),
            "p50_ms": round(cuts[499] * 1000, 2),
            "p99_ms": round(cuts[989] * 1000, 2),
            "faults": dict(self.faults),
            "documents_changed": self.num_changed,
            "generations": len(self.generations),
            "most_seconds_to_live": round(max(self.live_seconds, default=0.0), 2),
        }


class Connection:
    """A connection that sends one request after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Keep both ends."""
        self._reader, self._writer = reader, writer

    async def ask(self, path: str, body: dict[str, Any] | None) -> tuple[int, dict[str, Any]]:
        """Send a request; return the status and the body of the answer."""
        if body is None:
            self._writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        else:
            self._writer.write(request_bytes(path, json.dumps(body).encode()))
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        return int(head[9:12]), json.loads(await self._reader.readexactly(length))


async def connect(port: int) -> Connection:
    """Connect to the service."""
    return Connection(*await asyncio.open_connection("127.0.0.1", port))


def documents(group: int, version: int) -> list[dict[str, Any]]:
    """Return a group's documents in one version."""
    return [
        {"id": f"{group}-{row}", "text": f"tea {group} {row} {version}", "group": str(group),
         "version": version}
        for row in range(GROUP_SIZE)
    ]  # fmt: skip


async def search(turn: Turn, port: int, seed: int, groups: int, end: float) -> None:
    """Search for one group after the other; each answer must hold all of one version."""
    dice, connection = random.Random(seed), await connect(port)
    while time.monotonic() < end:
        group = dice.randrange(groups)
        body = {"query": f"tea {group} {dice.random()}", "filter": {"group": str(group)}}
        started = time.monotonic()
        status, answer = await connection.ask("/search", body)
        turn.seconds.append(time.monotonic() - started)
        if status != 200:
            turn.faults[f"status {status}"] += 1
            continue
        hits = answer["results"][0]["hits"]
        turn.generations.add(answer["index"]["generation"])
        turn.faults["short"] += len(hits) != GROUP_SIZE
        turn.faults["mixed"] += len({hit["metadata"]["version"] for hit in hits}) != 1


async def change(turn: Turn, port: int, groups: int, rate: float, end: float) -> None:
    """Put new versions of groups at a rate of documents a second."""
    connection, waiting = await connect(port), deque[tuple[int, float]]()
    follower = asyncio.create_task(follow(turn, port, waiting, end))
    started = time.monotonic()
    for number in itertools.count():
        at = started + number * GROUP_SIZE / rate
        if at > end:
            break
        await asyncio.sleep(max(0.0, at - time.monotonic()))
        put = documents(number % groups, time.time_ns())
        status, answer = await connection.ask("/documents", {"put": put})
        if status != 202:
            turn.faults[f"change {status}"] += 1
            continue
        turn.num_changed += len(put)
        waiting.append((answer["change"], time.monotonic()))
    await follower


async def follow(turn: Turn, port: int, waiting: deque[tuple[int, float]], end: float) -> None:
    """Ask for each change until it is live."""
    connection = await connect(port)
    while waiting or time.monotonic() < end:
        await asyncio.sleep(0.05)
        while waiting:
            number, since = waiting[0]
            _, answer = await connection.ask(f"/changes/{number}", None)
            if answer["state"] == "waiting":
                break
            turn.faults["refused"] += answer["state"] != "applied"
            turn.live_seconds.append(time.monotonic() - since)
            waiting.popleft()


async def run_turn(port: int, options: argparse.Namespace, rate: float) -> Turn:
    """Search with all clients, and change documents if the rate is above 0."""
    turn, end = Turn(), time.monotonic() + options.seconds
    work = [search(turn, port, seed, options.groups, end) for seed in range(options.clients)]
    if rate:
        work.append(change(turn, port, options.groups, rate, end))
    await asyncio.gather(*work)
    return turn


def main() -> None:
    """Run the turns and record them."""
    made = parser(__doc__)
    made.add_argument("--clients", type=int, default=32)
    made.add_argument("--seconds", type=float, default=20)
    made.add_argument("--rate", type=float, default=10_000 / 60, help="documents a second")
    made.add_argument("--groups", type=int, default=400)
    made.add_argument("--turns", type=int, default=4)
    options = made.parse_args()
    folder: Path = options.work / "changes"
    encoder, index = folder / "encoder", folder / f"index-{time.time_ns()}"
    if not encoder.exists():
        make_checkpoint(encoder)
    passages = [
        ("made", Passage(each.pop("id"), each.pop("text"), metadata=each))
        for group in range(options.groups)
        for each in documents(group, 0)
    ]
    build_index(
        passages, index, load_encoder(str(encoder), device="cpu"), fields={"group": "string"}
    )
    with running(encoder, index, **SETTINGS) as server:
        found = []
        for number in range(options.turns):
            rate = options.rate if number % 2 else 0.0
            turn = asyncio.run(run_turn(server.port, options, rate))
            found.append({"rate": round(rate), **turn.summary()})
            say(f"{found[-1]}")
    write_result("changes", options, {"turns": found})


if __name__ == "__main__":
    main()
