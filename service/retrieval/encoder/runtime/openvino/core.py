"""OpenVINO's own core: imported without its telemetry, and what it makes of a graph."""

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

from service.retrieval.encoder.runtime.openvino.graph import Graph
from service.retrieval.encoder.runtime.openvino.int8 import compress_weights
from service.retrieval.hardware import available_cores

PRECISION_HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
# int8: so many numbers that weights are multiplied with share a scale.
GROUP_SIZE = 64
# What a stream keeps of each kind for shapes that it has met, up to a megabyte a shape; with
# OpenVINO's own 5,000 memory grew by half a megabyte with each mixed batch, in the same time. bf16
# has about 200 rounded shapes (see `pad_length`) and loses 3 to 5 ms with each that it meets anew.
# fp32 has too many to keep: with 200 entries memory still grew after a quarter of an hour, and its
# speed with 40 was the same within what turns differ by.
CACHE_ENTRIES = {"fp32": 40, "bf16": 200, "int8": 40}
NICENESS = 5


def import_openvino() -> ModuleType:
    """Import OpenVINO without its telemetry: it reports each import to Google Analytics.

    It goes on without the package where that cannot be imported, which is its own provision.
    """
    if "openvino" not in sys.modules:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino

    module: ModuleType = openvino
    return module


def compile_graph(
    graph: Graph, precision: str, shape: tuple[int, int] | None = None, num_streams: int = 1
) -> Any:
    """Compile a graph.

    Args:
        graph: of the transformer after its embedding table.
        precision: `fp32`, `bf16` or `int8`.
        shape: the one shape that it is for, [B, L]; any without.
        num_streams: so many requests run at once, each on its part of the cores.
    """
    core = import_openvino().Core()
    model = core.read_model(graph.path)
    if shape:
        rows, mask = model.inputs
        model.reshape({rows: [*shape, rows.partial_shape[2]], mask: list(shape)})
    properties: dict[str, object] = {
        "INFERENCE_PRECISION_HINT": PRECISION_HINTS[precision],
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": num_streams,
        "INFERENCE_NUM_THREADS": available_cores(),
        "CPU_RUNTIME_CACHE_CAPACITY": CACHE_ENTRIES[precision],
        "ENABLE_CPU_PINNING": False,  # the HTTP thread shares the cores
    }
    if precision == "int8":
        compress_weights(model)
        properties["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = GROUP_SIZE
    # The streams' threads inherit the niceness of the one that compiles.
    with ThreadPoolExecutor(1, initializer=_be_nice) as executor:
        return executor.submit(core.compile_model, model, "CPU", properties).result()


def _be_nice() -> None:
    """Let what takes and answers requests run first: it needs little, and its delay is seen."""
    if sys.platform == "linux":  # elsewhere niceness is the process's
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
