import pytest
import torch

from service.batching.program import Fault
from service.engine.work import SearchProgram


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (MemoryError(), "memory"),
        (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 8 bytes"), "memory"),
        (RuntimeError("std::bad_alloc"), "memory"),
        (RuntimeError("Error in allocMemory: CUDA memory allocation error"), "memory"),
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), "memory"),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), "device"),
        (RuntimeError("CUBLAS_STATUS_EXECUTION_FAILED"), "device"),
        (torch.AcceleratorError("device-side assert triggered"), "device"),
        (ValueError("a text of 3 dimensions"), "text"),
        (IndexError("index out of range in self"), "text"),
    ],
)
def test_an_exception_is_classified_as_a_fault(error: Exception, fault: Fault) -> None:
    assert SearchProgram.classify(error) == fault
