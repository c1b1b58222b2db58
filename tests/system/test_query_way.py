"""The way of a query from the route's function to its hits, traced in a running service."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from starlette.testclient import TestClient

import service
from service.app import create_app
from service.batching.batcher import Batcher
from service.batching.runner import BatchRunner
from service.engine.query_cache import QueryRunner
from service.retrieval.corpus.table import PassageTable
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.encoder.runtime.torch import TorchRuntime
from service.retrieval.index.torch_flat import TorchFlatIndex
from service.settings.settings import Settings

ROOT = Path(service.__file__).parent
ROUTE, MOST_HOPS = "api.search", 12
# What a query passes: where it becomes tokens, waits, becomes a vector, ranks, and hits.
STATIONS: list[tuple[type, str]] = [
    (Encoder, "tokenize"),
    (QueryRunner, "run"),
    (Batcher, "run"),
    (BatchRunner, "run"),
    (TorchRuntime, "embed"),
    (TorchFlatIndex, "search"),
    (PassageTable, "read"),
]


def modules_of_the_stack(frame: FrameType | None) -> list[str]:
    """Return the modules of the service below the route, outermost first; transport left out."""
    modules: list[str] = []
    while frame is not None and modules[-1:] != [ROUTE]:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(ROOT):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            if not module.startswith("http.") and modules[-1:] != [module]:
                modules.append(module)
        frame = frame.f_back
    return modules[::-1]


def test_a_query_takes_at_most_12_hops_between_modules_from_the_route_to_its_hits(
    service_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    hops: set[tuple[str, str]] = set()

    def traced(function: Callable[..., Any]) -> Callable[..., Any]:
        target = function.__module__.removeprefix("service.")

        def call(*arguments: Any, **named: Any) -> Any:
            way = [*modules_of_the_stack(sys._getframe(1)), target]
            hops.update(hop for hop in zip(way, way[1:], strict=False) if hop[0] != hop[1])
            return function(*arguments, **named)

        return call

    with TestClient(create_app(service_settings)) as client:
        client.post("/search", json={"query": "tea"}).raise_for_status()
        for place, name in STATIONS:
            monkeypatch.setattr(place, name, traced(getattr(place, name)))
        client.post("/search", json={"query": "green tea"}).raise_for_status()
        monkeypatch.undo()

    reached = {ROUTE}
    for _ in hops:
        reached |= {target for source, target in hops if source in reached}
    assert {place.__module__.removeprefix("service.") for place, _ in STATIONS} <= reached
    assert len(hops) <= MOST_HOPS, sorted(hops)
