"""Index swaps under load: failures, mixed or short answers, and latency of /search.

Run: python -m tests.bench.swaps --clients 32 --seconds 60 --swaps 30

Turns without and with swaps alternate. Two generations have the same texts and vectors; their
metadata names the edition, so that each hit can be compared with the generation that its answer
names. The client runs on the same cores.
"""

import argparse
import asyncio
import json
import random
import statistics
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from service.components import load_encoder_of
from service.retrieval.corpus.reader import Passage
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.generation.generation import CURRENT
from service.retrieval.indexing.build import build_index, update_index
from service.retrieval.storage import artifact
from service.settings.settings import load_settings
from tests.bench.client import request_bytes
from tests.bench.corpus import corpus_passages
from tests.bench.options import environment_of, parser, say
from tests.bench.record import write_result
from tests.bench.servers import Server, our_service, scrape, served
from tests.bench.texts import questions

TOP_K = 10


@dataclass
class Turn:
    """What clients observed in one turn."""

    seconds: list[float] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    generations: Counter[str] = field(default_factory=Counter)

    def summary(self) -> dict[str, object]:
        """Return counts, and percentiles in milliseconds."""
        cuts = statistics.quantiles(self.seconds, n=1000)
        percentiles = {"p50": cuts[499], "p99": cuts[989], "max": max(self.seconds)}
        return {
            "answers": len(self.seconds),
            **{name: round(value * 1000, 2) for name, value in percentiles.items()},
            "faults": dict(self.faults),
            "generations": len(self.generations),
        }


def build_editions(index: Path, encoder: Encoder, texts: list[tuple[str, str]]) -> dict[str, int]:
    """Publish two generations of the same texts; return the edition by generation."""
    editions = {}
    for edition, write in ((1, build_index), (2, update_index)):
        passages = (
            ("corpus", Passage(f"{row:06}", text, title, {"edition": edition}))
            for row, (title, text) in enumerate(texts)
        )
        editions[write(passages, index, encoder).directory.name] = edition
    return editions


async def load(
    port: int,
    queries: list[str],
    editions: dict[str, int],
    clients: int,
    seconds: float,
) -> Turn:
    """Run clients for some seconds; each sends again as soon as it is answered."""
    turn = Turn()
    end = time.monotonic() + seconds

    async def client(number: int) -> None:
        dice = random.Random(number)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.monotonic() < end:
            body = {"query": dice.choice(queries), "top_k": TOP_K, "include_text": False}
            started = time.monotonic()
            writer.write(request_bytes("/search", json.dumps(body).encode()))
            status, answer = await _answer(reader)
            turn.seconds.append(time.monotonic() - started)
            _check(turn, status, answer, editions)
        writer.close()

    await asyncio.gather(*(client(number) for number in range(clients)))
    return turn


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
    return int(head[9:12]), await reader.readexactly(length)


def _check(turn: Turn, status: int, content: bytes, editions: dict[str, int]) -> None:
    if status != 200:
        turn.faults[f"status {status}"] += 1
        return
    answer = json.loads(content)
    name, hits = answer["index"]["generation"], answer["results"][0]["hits"]
    turn.generations[name] += 1
    if len(hits) != TOP_K:
        turn.faults["short"] += 1
    if {hit["metadata"]["edition"] for hit in hits} != {editions[name]}:
        turn.faults["mixed"] += 1


async def swap(
    url: str, index: Path, editions: dict[str, int], count: int, seconds: float
) -> list[float]:
    """Switch between the generations repeatedly; return the milliseconds of each reload."""
    took_ms = []
    names = sorted(editions, key=lambda name: editions[name])
    for number in range(count):
        await asyncio.sleep(seconds / count * 0.9)
        content = f"{names[number % 2]}\n".encode()
        await asyncio.to_thread(artifact.replace_file, index / CURRENT, content)
        reloaded = await asyncio.to_thread(_reload, url)
        assert reloaded["result"] == "swapped", reloaded
        took_ms.append(float(str(reloaded["took_ms"])))
    return took_ms


def _reload(url: str) -> dict[str, object]:
    request = urllib.request.Request(f"{url}/admin/reload", method="POST")
    with urllib.request.urlopen(request, timeout=60) as response:
        content: dict[str, object] = json.loads(response.read())
    return content


def ensure_editions(options: argparse.Namespace, encoder: Encoder) -> tuple[Path, dict[str, int]]:
    """Return the index and its two editions; build them the first time (minutes)."""
    index, note = options.work / "editions", options.work / "editions.json"
    if not note.is_file():
        texts = [(entry["title"], entry["text"]) for entry in corpus_passages()]
        note.write_text(json.dumps(build_editions(index, encoder, texts)))
    return index, json.loads(note.read_text())


async def turns(
    server: Server, options: argparse.Namespace, index: Path, editions: dict[str, int]
) -> list[dict[str, object]]:
    """Run turns without and with swaps, alternating."""
    queries = [question.text for question in questions(options.data)]
    found = []
    seconds = options.seconds / options.turns
    await load(options.port, queries, editions, options.clients, options.warm_up)
    for number in range(2 * options.turns):
        work = load(options.port, queries, editions, options.clients, seconds)
        if number % 2:
            swaps = swap(server.url, index, editions, options.swaps // options.turns, seconds)
            turn, took_ms = await asyncio.gather(work, swaps)
        else:
            turn, took_ms = await work, []
        found.append({"swaps": len(took_ms), "reload_ms": took_ms, **turn.summary()})
        say(str(found[-1]))
    return found


def main() -> None:
    """Start the service and load it with and without swaps."""
    made = parser(__doc__)
    made.add_argument("--clients", type=int, default=32)
    made.add_argument(
        "--seconds", type=float, default=60.0, help="with swaps, and the same without"
    )
    made.add_argument("--swaps", type=int, default=30)
    made.add_argument("--turns", type=int, default=3, help="turns of each kind")
    options = made.parse_args()
    index, editions = ensure_editions(options, load_encoder_of(load_settings()))
    environment = {"CLEAR_WATCH_SECONDS": "0", **environment_of(options)}
    log = options.work / "logs" / "swaps.log"
    with our_service(index, options.port, environment, log) as server:
        facts = served(server)
        found = asyncio.run(turns(server, options, index, editions))
        metrics = scrape(server)
    p99s = [
        statistics.median(
            float(str(turn["p99"])) for turn in found if bool(turn["swaps"]) == is_swap
        )
        for is_swap in (False, True)
    ]
    say(f"p99 without swaps {p99s[0]} ms, with {p99s[1]} ms: {p99s[1] / p99s[0]:.2f} times")
    reloads = {name: value for name, value in metrics.items() if name.startswith("clear_reload")}
    result = {"served": facts, "turns": found, "p99_ratio": p99s[1] / p99s[0], "metrics": reloads}
    write_result("swaps", options, result)


if __name__ == "__main__":
    main()
