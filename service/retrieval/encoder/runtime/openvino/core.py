"""Import of OpenVINO without its telemetry, and compilation of a graph."""

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import ModuleType
from typing import Any

from service.retrieval.encoder.runtime.openvino.graph import Graph
from service.retrieval.encoder.runtime.openvino.int8 import compress_weights
from service.retrieval.hardware import available_cores

PRECISION_HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
# int8: consecutive activations that share a scale.
GROUP_SIZE = 64
# Primitives of each kind that a graph caches, for each stream. With OpenVINO's default of 5,000
# memory grew by half a megabyte with each mixed batch at no gain in speed. A lone query in fp32 has
# any length, and takes 1.17 times as long with 16 as with 40. Streams compute batches of few sizes
# (see `inputs.NUM_SIZES`): in fp32 16 are as fast as 40; bf16 prepares a size in 3 to 5 ms, and
# takes 1.08 times as long with 40 as with 100.
CACHE_ENTRIES = {"fp32": 40, "bf16": 100, "int8": 40}
STREAM_CACHE_ENTRIES = {"fp32": 16, "bf16": 100, "int8": 40}
NICENESS = 5


def import_openvino() -> ModuleType:
    """Import OpenVINO without its telemetry, which reports each import to Google Analytics.

    OpenVINO itself provides for a missing telemetry package.
    """
    if "openvino" not in sys.modules:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino

    module: ModuleType = openvino
    return module


def read_graph(graph: Graph, precision: str) -> Any:
    """Read a graph once for all that are compiled of it, which then share its weights as read."""
    model = import_openvino().Core().read_model(graph.path)
    if precision == "int8":
        compress_weights(model)
    return model


def compile_graph(
    model: Any, precision: str, shape: tuple[int, int] | None = None, num_streams: int = 0
) -> Any:
    """Compile a graph for the CPU.

    Args:
        model: an `openvino.Model` of `read_graph`, which stays as it is.
        precision: `fp32`, `bf16` or `int8`.
        shape: the only shape to compile for, [B, L]; without it any shape runs.
        num_streams: number of requests that run at once, each on its share of the cores; without
            it all cores compute one request.
    """
    core = import_openvino().Core()
    if shape:
        model = model.clone()  # the weights are not copied
        rows, mask = model.inputs
        model.reshape({rows: [*shape, rows.partial_shape[2]], mask: list(shape)})
    entries = STREAM_CACHE_ENTRIES if num_streams else CACHE_ENTRIES
    properties: dict[str, object] = {
        "INFERENCE_PRECISION_HINT": PRECISION_HINTS[precision],
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": max(1, num_streams),
        "INFERENCE_NUM_THREADS": available_cores(),
        "CPU_RUNTIME_CACHE_CAPACITY": entries[precision],
        "ENABLE_CPU_PINNING": False,  # the HTTP thread shares the cores
    }
    if precision == "int8":
        properties["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = GROUP_SIZE
    # The streams' threads inherit the niceness of the one that compiles.
    with ThreadPoolExecutor(1, initializer=_be_nice) as executor:
        return executor.submit(core.compile_model, model, "CPU", properties).result()


def output_dim(compiled: Any) -> int:
    """Return the last dimension of a compiled graph's output."""
    return int(compiled.output(0).partial_shape[2].get_length())


def _be_nice() -> None:
    """Lower the thread's priority, so that the threads that serve HTTP run first.

    A priority that is as low already stays: to raise it needs a right, and is not wanted.
    """
    if sys.platform != "linux":  # elsewhere niceness belongs to the process
        return
    thread = threading.get_native_id()
    with suppress(OSError):  # a sandbox may forbid it
        if os.getpriority(os.PRIO_PROCESS, thread) < NICENESS:
            os.setpriority(os.PRIO_PROCESS, thread, NICENESS)
