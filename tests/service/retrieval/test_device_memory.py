import math
from pathlib import Path

import pytest
import torch

from service.retrieval import device_memory
from service.retrieval.device_memory import read_memory

CPU = torch.device("cpu")


def test_a_cpu_service_takes_less_than_there_is() -> None:
    used_bytes, total_bytes = read_memory(CPU)

    assert 10**7 < used_bytes < total_bytes


@pytest.mark.parametrize(("content", "limit"), [("1000000\n", 1_000_000), ("max\n", None)])
def test_the_containers_limit_counts_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str, limit: int | None
) -> None:
    machine = read_memory(CPU).total_bytes
    path = tmp_path / "memory.max"
    path.write_text(content)
    monkeypatch.setattr(device_memory, "CGROUP_LIMITS", (path, tmp_path / "no-such-file"))

    assert read_memory(CPU).total_bytes == (limit or machine) or machine < 2**40


def test_a_broken_gpu_is_not_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(device: torch.device) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch.cuda, "mem_get_info", fail)

    assert all(map(math.isnan, read_memory(torch.device("cuda:0"))))
