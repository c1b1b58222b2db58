"""OpenVINO on the CPU: the fastest here at every batch size, exact in fp32, faster in bf16."""

import os
import sys
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.retrieval.pooling import POOLING
from service.retrieval.runtime.graph import Graph
from service.retrieval.runtime.int8 import compress_weights

PRECISION_HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
# A new shape costs bf16 5 ms of preparation, more than a few tokens of padding: 112 queries a
# second one by one for 85, 413 for 334 in eights. fp32 loses more than it gains.
LENGTH_MULTIPLES = {"bf16": 16}
# int8: so many numbers that weights are multiplied with share a scale.
GROUP_SIZE = 64


class OpenvinoRuntime:
    """A graph compiled for this CPU; pooling and norm in fp32, outside of the graph."""

    def __init__(self, graph: Graph, pooling: str, precision: str, max_tokens: int) -> None:
        """Compile the graph, half a second's work.

        Args:
            graph: of the transformer after its embedding table.
            pooling: `mean`, `cls` or `lasttoken`.
            precision: `fp32`, `bf16` or `int8`.
            max_tokens: the encoder's own limit.
        """
        self._table = graph.table
        self._pool = POOLING[pooling]
        self._max_tokens = max_tokens
        self._multiple = LENGTH_MULTIPLES.get(precision, 1)
        self._request = _compile(graph, precision).create_infer_request()
        self.device = torch.device("cpu")
        self.embedding_dim = int(graph.table.shape[1])
        self.name = f"openvino-{precision}"

    def warm_up(self, max_batch_tokens: int) -> None:
        """Do nothing: the graph takes any shape."""

    @torch.inference_mode()
    def embed(self, token_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> Tensor:
        """Embed one padded batch, [B, L] to [B, D]."""
        length = token_ids.shape[1]
        padded = min(-(-length // self._multiple) * self._multiple, max(length, self._max_tokens))
        padding = ((0, 0), (0, padded - length))
        ids, mask = np.pad(token_ids, padding), np.pad(attention_mask, padding)
        rows = torch.nn.functional.embedding(torch.from_numpy(ids), self._table).float()
        self._request.infer([rows.numpy(), mask], share_inputs=True)
        # The runtime's own memory, overwritten by the next batch: pooling makes a copy.
        hidden = torch.from_numpy(self._request.get_output_tensor(0).data)[:, :length]  # [B, L, H]
        pooled = self._pool(hidden, torch.from_numpy(attention_mask))
        return torch.nn.functional.normalize(pooled, dim=-1)


def import_openvino() -> ModuleType:
    """Import OpenVINO without its telemetry: it reports each import to Google Analytics.

    It goes on without the package where that cannot be imported, which is its own provision.
    """
    if "openvino" not in sys.modules:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino

    module: ModuleType = openvino
    return module


def _compile(graph: Graph, precision: str) -> Any:
    core = import_openvino().Core()
    model = core.read_model(graph.path)
    properties: dict[str, object] = {
        "INFERENCE_PRECISION_HINT": PRECISION_HINTS[precision],
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": len(os.sched_getaffinity(0)),
        "ENABLE_CPU_PINNING": False,  # the HTTP thread shares the cores
    }
    if precision == "int8":
        compress_weights(model)
        properties["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = GROUP_SIZE
    return core.compile_model(model, "CPU", properties)
