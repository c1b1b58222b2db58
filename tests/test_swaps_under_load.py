"""The benchmark of swaps, short and with the tiny encoder: nothing fails, is mixed or short."""

import asyncio
from pathlib import Path

import pytest

from service.retrieval.encoder import Encoder
from tests.bench.swaps import Turn, load, swap, two_editions
from tests.conftest import PASSAGES
from tests.test_server import running

QUERIES = [str(passage["text"]) for passage in PASSAGES]


@pytest.mark.slow
def test_swaps_under_load_fail_no_request_and_mix_no_answer(
    tmp_path: Path, tiny_checkpoint: Path, tiny_encoder: Encoder
) -> None:
    texts = [(str(row), f"{text} {row}") for row, text in enumerate(QUERIES * 20)]
    editions = two_editions(tmp_path / "index", tiny_encoder, texts)

    async def scenario(url: str, port: int) -> tuple[Turn, list[float]]:
        return await asyncio.gather(
            load(port, QUERIES, editions, clients=32, seconds=10),
            swap(url, tmp_path / "index", editions, count=20, seconds=10),
        )

    variables = {"CLEAR_WATCH_SECONDS": "0", "CLEAR_QUERY_CACHE_ENTRIES": "0"}
    with running(tiny_checkpoint, tmp_path / "index", **variables) as server:
        turn, took_ms = asyncio.run(scenario(f"http://127.0.0.1:{server.port}", server.port))

    assert turn.faults == {}
    assert set(turn.generations) == set(editions)
    assert len(took_ms) == 20
    assert len(turn.seconds) > 100
