"""Commands of benchmarks, run with the tiny encoder and few requests."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.bench import large_requests, resets, starting
from tests.bench.probes import Probes
from tests.bench.record import CPU_FLAGS
from tests.bench.servers import Server
from tests.bench.texts import LANGUAGES

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    address: str,
    tiny_checkpoint: Path,
    tiny_index: Path,
) -> Run:
    """What runs a benchmark's command against the tiny service and returns its result."""

    @contextmanager
    def our_service(*_: object) -> Iterator[Server]:
        yield Server("clear", address, os.getpid(), ())

    article = {"paragraphs": [{"context": "tea and salt " * 20, "qas": [{"question": "tea?"}]}]}
    for language in LANGUAGES:
        (tmp_path / f"xquad.{language}.json").write_text(json.dumps({"data": [article]}))

    def run(module: Any, *arguments: str) -> dict[str, Any]:
        for name, fake in {
            "our_service": our_service,
            "ensure_index": lambda _: tiny_index,
            "checkpoint_of": lambda _: tiny_checkpoint,
        }.items():
            monkeypatch.setattr(module, name, fake, raising=False)
        folders = [f"--{name}={tmp_path}" for name in ("work", "data", "out")]
        port = address.rpartition(":")[2]
        shared = [*folders, "--warm-up", "0.01", "--label", "tiny", "--port", port]
        monkeypatch.setattr(sys, "argv", ["bench", *shared, *arguments])
        module.main()
        name = module.__name__.rpartition(".")[2]
        (path,) = tmp_path.glob(f"{name}-tiny-*.json")
        result: dict[str, Any] = json.loads(path.read_text())
        assert result["benchmark"] == name
        assert result["cores"] == os.cpu_count()
        assert set(result["cpu_flags"]) <= set(CPU_FLAGS)
        return result

    return run


def test_resets_tells_the_slowest_probe_and_the_share_of_failures(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resets, "AFTER_SECONDS", 0.01)

    result = run(resets, "--count", "20", "--clients", "2")

    assert result["resets"] == 20
    assert result["livez_beside"]["n"] >= 1
    assert result["livez_beside"]["slowest_ms"] >= result["livez_beside"]["median_ms"] > 0
    assert result["livez_beside"]["failed_share"] == 0
    assert "other_cores" in result["costs"]


def test_large_requests_are_sent_by_both_clients_with_searches_beside(run: Run) -> None:
    result = run(large_requests, "--texts", "4", "--tokens", "8")

    for client in ("openai", "service.client"):
        assert result[client]["embeddings"] == 4
        assert result[client]["seconds"] > 0
        assert result[client]["searches"]["n"] >= 1
        assert result[client]["searches"]["failed_share"] == 0
        assert "other_cores" in result[client]["costs"]


def test_starting_tells_the_first_answer_and_the_slowest_one(run: Run) -> None:
    result = run(starting, "--starts", "1")

    (start,) = result["starts"]
    assert start["first_answer_seconds"] > 0
    assert start["livez"]["failed_share"] == 0


def test_probes_do_not_count_a_port_that_nobody_listens_on_yet(address: str) -> None:
    port = int(address.rpartition(":")[2])
    probes = Probes(1, "/livez")
    probes.ask()
    assert probes.summary()["n"] == 0

    probes = Probes(port, "/nowhere")
    probes.ask()
    assert probes.summary() == {
        "n": 1, "median_ms": None, "slowest_ms": None, "failed_share": 1
    }  # fmt: skip
