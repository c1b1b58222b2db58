import os
from pathlib import Path

import pytest

from service.retrieval import hardware as cores
from service.retrieval.hardware import available_cores


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ("max 100000\n", 8),
        ("200000 100000\n", 2),
        ("250000 100000\n", 3),
        ("50000 100000\n", 1),
        ("6400000 100000\n", 8),
        (None, 8),
    ],
)
def test_a_containers_limit_bounds_the_cores(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, quota: str | None, expected: int
) -> None:
    path = tmp_path / "cpu.max"
    if quota is not None:
        path.write_text(quota)
    monkeypatch.setattr(cores, "QUOTA", path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))

    assert available_cores() == expected
