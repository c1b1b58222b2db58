"""The benchmark of swaps, shortened: no request fails, and no answer mixes generations."""

import asyncio
import itertools
import json
import urllib.request
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from service.retrieval.encoder.encoder import Encoder
from service.retrieval.generation.generation import CURRENT
from service.retrieval.storage import artifact
from tests.bench.swaps import Turn, build_editions, load, swap
from tests.conftest import PASSAGES
from tests.support.processes import running, wait_until
from tests.support.service_proxy import running_proxy

QUERIES = [str(passage["text"]) for passage in PASSAGES]


@pytest.mark.slow
def test_swaps_under_load_fail_no_request_and_mix_no_answer(
    tmp_path: Path, tiny_checkpoint: Path, tiny_encoder: Encoder
) -> None:
    texts = [(str(row), f"{text} {row}") for row, text in enumerate(QUERIES * 20)]
    editions = build_editions(tmp_path / "index", tiny_encoder, texts)

    async def scenario(url: str, port: int) -> tuple[Turn, list[float]]:
        return await asyncio.gather(
            load(port, QUERIES, editions, clients=32, seconds=3),
            swap(url, tmp_path / "index", editions, count=10, seconds=2),
        )

    variables = {"CLEAR_WATCH_SECONDS": "0", "CLEAR_QUERY_CACHE_ENTRIES": "0"}
    with running(tiny_checkpoint, tmp_path / "index", **variables) as server:
        turn, took_ms = asyncio.run(scenario(f"http://127.0.0.1:{server.port}", server.port))

    assert turn.faults == {}
    assert set(turn.generations) == set(editions)
    assert len(took_ms) == 10
    assert len(turn.seconds) > 100


def live_generation(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/info", timeout=30) as answer:
        return str(json.load(answer)["index"]["generation"])


def all_serve(ports: set[int], generation: str) -> bool:
    return all(live_generation(port) == generation for port in ports)


@pytest.mark.slow
def test_an_index_published_under_load_reaches_all_instances_and_fails_no_request(
    tmp_path: Path, tiny_checkpoint: Path, tiny_encoder: Encoder
) -> None:
    """Two instances behind a proxy watch one volume, as pods do; no reload is requested."""
    texts = [(str(row), f"{text} {row}") for row, text in enumerate(QUERIES * 20)]
    index = tmp_path / "index"
    editions = build_editions(index, tiny_encoder, texts)

    def publish(ports: set[int]) -> None:
        for name in itertools.islice(itertools.cycle(editions), 6):
            artifact.replace_file(index / CURRENT, f"{name}\n".encode())
            wait_until(partial(all_serve, ports, name))

    async def scenario(port: int, ports: set[int]) -> Turn:
        turn, _ = await asyncio.gather(
            load(port, QUERIES, editions, clients=32, seconds=4),
            asyncio.to_thread(publish, ports),
        )
        return turn

    variables = {"CLEAR_WATCH_SECONDS": "0.1", "CLEAR_QUERY_CACHE_ENTRIES": "0"}
    with ExitStack() as stack:
        servers = [
            stack.enter_context(running(tiny_checkpoint, index, **variables)) for _ in range(2)
        ]
        ports = {server.port for server in servers}
        proxy = stack.enter_context(running_proxy(ports))
        wait_until(lambda: {*proxy.ready} == ports)
        turn = asyncio.run(scenario(proxy.port, ports))

    assert turn.faults == {}
    assert set(turn.generations) == set(editions)
    assert set(proxy.connections) == ports
    assert len(turn.seconds) > 100
