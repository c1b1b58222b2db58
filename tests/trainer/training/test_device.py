import pytest
import torch

from trainer.errors import ConfigError
from trainer.training.device import local_device, num_processes


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine with two GPUs, outside of torchrun."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name in ("LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    ("device", "visible"), [("auto", "0"), ("cuda", "0"), ("cuda:0", "0"), ("cuda:1", "1")]
)
def test_several_gpus_without_torchrun_are_refused_with_the_variable_that_chooses_one(
    gpus: pytest.MonkeyPatch, device: str, visible: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        local_device(device)

    assert str(caught.value) == (
        f"--device {device}: 2 GPUs are visible, and one process trains on one: set "
        f"CUDA_VISIBLE_DEVICES={visible} (without a number in --device), or use "
        "torchrun --nproc-per-node 2 --no-python clear-trainer train"
    )


def test_a_cpu_is_used_whatever_gpus_there_are(gpus: pytest.MonkeyPatch) -> None:
    assert local_device("cpu") == "cpu"


@pytest.mark.parametrize("device", ["auto", "cuda", "cuda:0"])
def test_one_gpu_is_used_as_named(gpus: pytest.MonkeyPatch, device: str) -> None:
    gpus.setattr(torch.cuda, "device_count", lambda: 1)

    assert local_device(device) == device


def test_each_process_of_torchrun_has_its_own_gpu(gpus: pytest.MonkeyPatch) -> None:
    gpus.setenv("LOCAL_RANK", "1")
    gpus.setenv("WORLD_SIZE", "2")

    assert (local_device("auto"), local_device("cuda"), num_processes()) == ("cuda:1", "cuda:1", 2)
    with pytest.raises(ConfigError, match="--device cuda:1: each process of torchrun has a GPU"):
        local_device("cuda:1")


def test_without_a_gpu_the_name_is_left_to_the_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    assert local_device("cuda:1") == "cuda:1"
