from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from service.retrieval import hardware
from trainer.config import EncoderConfig
from trainer.training import memory_probe
from trainer.training.memory_probe import TensorBytes, dropping_gradients, peak_bytes, step_bytes
from trainer.training.model import load_trainable_encoder

WIDTH, LAYERS = 8, 3


@pytest.fixture(scope="module")
def run_pass() -> Callable[[int], None]:
    layers = [m for _ in range(LAYERS) for m in (nn.Linear(WIDTH, WIDTH), nn.Tanh())]
    model = nn.Sequential(*layers)

    def run_pass(count: int) -> None:
        loss = model(torch.zeros(count, WIDTH)).sum()
        with dropping_gradients(model):
            loss.backward()

    return run_pass


def test_a_step_needs_four_times_the_bytes_of_what_is_trained_beside_its_passes() -> None:
    model = nn.Linear(10, 10)
    model.bias.requires_grad_(False)

    assert step_bytes(model) == 4 * 400


def test_the_bytes_of_a_text_are_those_of_its_tensors(run_pass: Callable[[int], None]) -> None:
    peaks = [peak_bytes(run_pass, count) for count in (2, 8, 64)]

    # A tanh keeps its result, of `WIDTH` fp32 numbers; input and gradient are two more.
    per_text = (LAYERS + 2) * WIDTH * 4
    assert [peaks[1] - peaks[0], peaks[2] - peaks[1]] == [6 * per_text, 56 * per_text]


def test_an_earlier_peak_does_not_hide_the_bytes_of_a_pass(run_pass: Callable[[int], None]) -> None:
    before = [peak_bytes(run_pass, count) for count in (2, 8)]
    run_pass(10_000)  # from here on, `ru_maxrss` would be the same for both

    assert [peak_bytes(run_pass, count) for count in (2, 8)] == before


def test_bytes_are_counted_once_a_storage_and_only_while_alive() -> None:
    with TensorBytes() as counted:
        first = torch.zeros(100)
        view = first.view(10, 10)
        assert counted.now == 400
        second = first + 1
        assert counted.now == 800
        del first, second
        assert counted.now == 400  # the view keeps its storage
        del view

    assert (counted.now, counted.peak) == (0, 800)


def test_a_probe_keeps_within_the_containers_limit(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = EncoderConfig(name=str(tiny_checkpoint), max_tokens=64)
    trainable = load_trainable_encoder(encoder, tmp_path, "cpu", "fp32", 0)
    columns = {"passage": ["short", "a long text " * 20]}
    found = []
    for free in (2**40, 2**22, 2**10):
        monkeypatch.setattr(memory_probe, "free_bytes", lambda device, free=free: free)
        found.append(memory_probe.probe_micro_batch(trainable, 48, columns))

    assert found[0] == 48
    assert 1 < found[1] < 48
    assert found[2] == 1


def test_free_memory_is_that_of_the_container(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9000000 kB\nMemAvailable: 8000000 kB\n")
    (tmp_path / "proc/self/cgroup").write_text("0::/\n")
    folder = tmp_path / "sys/fs/cgroup"
    folder.mkdir(parents=True)
    (folder / "memory.max").write_text("3000000\n")
    (folder / "memory.current").write_text("1000000\n")

    assert hardware.free_bytes("cpu", tmp_path) == 2_000_000
