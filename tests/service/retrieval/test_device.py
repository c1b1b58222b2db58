import pytest
import torch

from service.retrieval.device import resolve_device
from service.retrieval.errors import DeviceError


@pytest.mark.parametrize("name", ["tpu", "CPU", "cuda:", "cuda:x", "cuda:-1", "cpu:0", ""])
def test_an_unknown_device_is_refused(name: str) -> None:
    with pytest.raises(DeviceError, match="is unknown: name auto, cpu, cuda or cuda:N"):
        resolve_device(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_cuda_is_refused_and_auto_is_the_cpu() -> None:
    with pytest.raises(DeviceError, match=r"the device cuda is not there \(CUDA devices: 0\)"):
        resolve_device("cuda")

    assert resolve_device("auto") == torch.device("cpu")
