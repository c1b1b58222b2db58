"""Steps that load a whole service over HTTP; the clients share the processor with it."""

import asyncio
import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from service.retrieval.corpus.reader import Passage
from service.retrieval.encoder.bulk import EncodedPassages, EncoderIdentity
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.indexing.build import build_index
from service.retrieval.indexing.shards import OnTexts, Shard
from tests.bench.corpus import ROOT
from tests.bench.meter import metered
from tests.bench.servers import Server, our_service, run_server, served
from tests.bench.swaps import Turn, build_editions, load, swap
from tests.gpu.material import encoder_of, ensure_index, passages, texts
from tests.gpu.step import Machine, Result

PORT, PLAIN_PORT = 8799, 8798
SECONDS = 5


def questions() -> list[str]:
    """Return questions in 16 scripts."""
    return [text.partition("?")[0] for text in texts(1024)]


def http_load(machine: Machine) -> Result:
    """Measure /search of 9,037 passages."""
    return load_service(ensure_index(machine), machine)


def million(machine: Machine) -> Result:
    """Measure /search of 1,000,000 passages, whose vectors are random."""
    started, index = time.perf_counter(), machine.work / "million"
    if not (index / "CURRENT").is_file():
        encoder, count = encoder_of(machine), machine.size(10**6, 2000)
        made = (("made", Passage(f"{row:07}", f"tea {row}")) for row in range(count))
        build_index(made, index, encoder, shard_encoder=RandomVectors(encoder))
    built = time.perf_counter() - started
    return {"build_seconds": built, **load_service(index, machine)}


class RandomVectors:
    """Gives passages random unit vectors, in place of encoding them."""

    def __init__(self, encoder: Encoder) -> None:
        """Take the encoder's identity: it searches the index."""
        self.identity = EncoderIdentity.of(encoder)
        self._dim = encoder.embedding_dim
        self._generator = np.random.default_rng(0)

    def encode(
        self, shards: Iterable[Shard], on_texts: OnTexts
    ) -> Iterator[tuple[str, EncodedPassages]]:
        """Yield vectors of each shard."""
        for shard in shards:
            shape = len(shard.texts), self._dim
            vectors = self._generator.standard_normal(shape, np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            on_texts(len(shard.texts))
            yield shard.name, EncodedPassages(vectors, np.zeros(len(vectors), bool))


def load_service(index: Path, machine: Machine) -> Result:
    """Load the service by 1, 64 and 512 clients."""
    with our_service(index, PORT, _environment(machine), _log(machine)) as server:
        facts = {"served": served(server), "cores": os.cpu_count()}
        return {**facts, **_load(server, machine)}


def plain_server(machine: Machine) -> Result:
    """Load a plain torch and transformers server of 9,037 passages in the same way."""
    command = [sys.executable, "-m", "tests.gpu.plain_server", "--device", machine.device]
    command += ["--index", str(ensure_index(machine)), "--port", str(PLAIN_PORT)]
    log = machine.work / "plain.log"
    with run_server("plain", command, PLAIN_PORT, "/ready", {}, log) as server:
        return _load(server, machine)


def _load(server: Server, machine: Machine) -> Result:
    found: dict[str, Any] = {}
    http_clients(server.port, 1, 1)
    for clients in [1, machine.size(64, 2), machine.size(512, 4)]:
        with metered(server) as meter:
            speed = http_clients(server.port, clients, machine.size(SECONDS, 1))
        found[f"clients_{clients}"] = {**speed, "costs": meter.costs}
    failed = [name for name, each in found.items() if each["failed"]]
    return {**found, "fails": [f"{name}: failed requests" for name in failed]}


def swaps(machine: Machine) -> Result:
    """Swap generations under load: no failed, short or mixed answer."""
    index, seconds = machine.work / "editions", machine.size(SECONDS, 2)
    given = [(each.title, each.text) for _, each in passages(machine)]
    editions = build_editions(index, encoder_of(machine), given)
    count, clients = machine.size(10, 2), machine.size(32, 2)
    environment = {**_environment(machine), "CLEAR_WATCH_SECONDS": "0"}

    async def both(url: str) -> tuple[Turn, list[float]]:
        work = load(PORT, questions(), editions, clients, seconds)
        return await asyncio.gather(work, swap(url, index, editions, count, seconds))

    with our_service(index, PORT, environment, _log(machine)) as server:
        still = asyncio.run(load(PORT, questions(), editions, clients, seconds))
        moving, took_ms = asyncio.run(both(server.url))
    faults = {name: count for name, count in (still.faults + moving.faults).items() if count}
    return {
        "reload_ms": took_ms,
        "without": still.summary(),
        "with": moving.summary(),
        "fails": [f"{name}: {count}" for name, count in faults.items()],
    }


def killed_context(machine: Machine) -> Result:
    """Kill the CUDA context of a service, in a process of its own, and ask it what it says."""
    command = [sys.executable, "-m", "tests.gpu.killed_context", "--index"]
    command += [str(ensure_index(machine)), "--device", machine.device]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    sys.stdout.write(done.stderr[-4000:])
    if done.returncode:
        return {"fails": [f"exit code {done.returncode}"]}
    statuses: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    expected = {"search_before": 200, "live_before": 200, "search": 503, "live": 503, "ready": 503}
    return {**statuses, "fails": [] if statuses == expected else [f"expected {expected}"]}


def http_clients(port: int, clients: int, seconds: float) -> dict[str, float]:
    """Send questions by clients that send again as soon as they are answered; count failures."""
    bodies = [json.dumps({"query": text}) for text in questions()]
    latencies: list[float] = []
    failed: list[int] = []
    until = time.monotonic() + seconds

    def client(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        place = number * 37
        while time.monotonic() < until:
            started = time.perf_counter()
            headers = {"Content-Type": "application/json"}
            connection.request("POST", "/search", bodies[place % len(bodies)], headers)
            response = connection.getresponse()
            response.read()
            latencies.append(time.perf_counter() - started)
            if response.status != 200:
                failed.append(response.status)
            place += 1
        connection.close()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ordered = sorted(latencies)
    return {
        "requests_per_second": len(latencies) / (time.monotonic() - started),
        "p50_ms": 1000 * ordered[len(ordered) // 2],
        "p99_ms": 1000 * ordered[len(ordered) * 99 // 100],
        "failed": len(failed),
    }


def _environment(machine: Machine) -> dict[str, str]:
    return {"CLEAR_DEVICE": machine.device, "CLEAR_QUERY_CACHE_ENTRIES": "0"}


def _log(machine: Machine) -> Path:
    return machine.work / "service.log"
