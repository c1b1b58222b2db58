"""Loading of the runtime that settings and machine select."""

import logging
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch

from service.retrieval.checkpoint.layout import CheckpointLayout
from service.retrieval.encoder.head import load_head
from service.retrieval.encoder.runtime.cpu import CPU_ENGINES, Choice, choose_cpu, passes_int8
from service.retrieval.encoder.runtime.memory import check_memory
from service.retrieval.encoder.runtime.openvino.graph import Graph, open_graph
from service.retrieval.encoder.runtime.openvino.probe import check_runtime
from service.retrieval.encoder.runtime.runtime import Runtime
from service.retrieval.errors import CheckpointError, DeviceError, WeightsError
from service.retrieval.hardware import cpu_flags
from service.retrieval.mapped_files import release_file_pages

TORCH_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RuntimeOptions:
    """Settings of both sides' runtimes.

    Attributes:
        device: computes the embeddings.
        cpu_engine: `auto`, `torch` or `openvino`.
        precision: `auto`, `fp32`, `bf16`, `fp16` or `int8`.
        cache: folder for exported graphs.
        max_tokens: tokens of the longest text.
    """

    device: torch.device
    cpu_engine: str
    precision: str
    cache: Path
    max_tokens: int


def choose_here(cpu_engine: str, precision: str, fingerprint: str = "") -> Choice:
    """Choose engine and precision for a transformer on this machine; errors as `choose_cpu`."""
    return choose_cpu(
        cpu_engine,
        precision,
        flags=cpu_flags(),
        has_openvino=find_spec("openvino") is not None,
        passes_int8=passes_int8(fingerprint),
    )


def load_runtime(
    layout: CheckpointLayout,
    fingerprint: str,
    options: RuntimeOptions,
    *,
    shared_with: Runtime | None = None,
    for_queries: bool = True,
) -> Runtime:
    """Load one side's transformer into the runtime that settings and machine select.

    Args:
        layout: the side's files.
        fingerprint: the side's fingerprint.
        options: device, engine, precision, cache and limit of tokens.
        shared_with: the other side's runtime, with which equal weights are shared.
        for_queries: whether this runtime embeds queries: the query side, or the only side.

    Raises:
        CheckpointError: the weights or the graph cannot be used.
        DeviceError: the settings contradict each other, or the machine does not support them.
        MemoryShortError: the weights and the longest text do not fit in memory.
    """
    if layout.is_static:
        return _load_torch(layout, options.device, "fp32", shared_with)
    if options.device.type == "cuda":
        precision = "fp32" if options.precision == "fp32" else "bf16"
        _check_memory(layout, options, precision, shared_with)
        return _load_gpu(layout, options, shared_with)
    choice = choose_here(options.cpu_engine, options.precision, fingerprint)
    _check_memory(layout, options, choice.precision, shared_with)
    if choice.engine == "torch":
        return _load_torch(layout, options.device, choice.precision, shared_with)
    try:
        write = partial(_write_graph, layout=layout, fingerprint=fingerprint)
        graph = open_graph(layout, fingerprint, options.cache, write)
        return _load_openvino(graph, layout, choice.precision, options, shared_with, for_queries)
    except WeightsError:
        raise
    except CheckpointError as error:
        if options.cpu_engine != "auto":
            raise
        if options.precision not in ("auto", *CPU_ENGINES["torch"]):
            raise DeviceError(
                f"CLEAR_PRECISION={options.precision} needs openvino, which cannot encode: "
                f"{error}; or set CLEAR_PRECISION to one of auto, {', '.join(CPU_ENGINES['torch'])}"
            ) from None
        precision = choose_here("torch", options.precision, fingerprint).precision
        runtime = _load_torch(layout, options.device, precision, shared_with)
        logger.warning("torch encodes, as openvino cannot: %s", error)
        return runtime


def _check_memory(
    layout: CheckpointLayout, options: RuntimeOptions, precision: str, shared_with: Runtime | None
) -> None:
    is_shared = shared_with is not None and not shared_with.name.startswith("openvino")
    check_memory(layout, str(options.device), precision, options.max_tokens, is_shared=is_shared)


# Each library is imported only if chosen: transformers alone takes seconds.


def _write_graph(directory: Path, layout: CheckpointLayout, fingerprint: str) -> str:
    from service.retrieval.encoder.runtime.openvino.published import write_published

    return write_published(directory, layout, fingerprint) or _export(directory, layout)


def _export(directory: Path, layout: CheckpointLayout) -> str:
    from service.retrieval.encoder.runtime.openvino.export_process import export_in_own_process

    return export_in_own_process(directory, layout)


def _load_openvino(
    graph: Graph,
    layout: CheckpointLayout,
    precision: str,
    options: RuntimeOptions,
    shared_with: Runtime | None,
    for_queries: bool,
) -> Runtime:
    from service.retrieval.encoder.runtime.openvino.runtime import OpenvinoRuntime

    twin = shared_with if isinstance(shared_with, OpenvinoRuntime) else None
    head = load_head(layout)
    try:
        runtime = OpenvinoRuntime(
            graph.sharing_table(twin.graph) if twin else graph,
            head,
            precision,
            options.max_tokens,
            for_queries=for_queries,
            shared_with=twin,
        )
        check_runtime(runtime, graph.directory, precision, options.max_tokens)
        release_file_pages()  # the probe has packed the weights
    except RuntimeError as error:  # what OpenVINO raises, for instance for an unknown operation
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"openvino does not compute the graph of {layout.transformer} ({reason}): "
            "set CLEAR_CPU_ENGINE=torch"
        ) from None
    return runtime


def _load_torch(
    layout: CheckpointLayout, device: torch.device, precision: str, shared_with: Runtime | None
) -> Runtime:
    from service.retrieval.encoder.runtime.torch import TorchRuntime
    from service.retrieval.encoder.runtime.weights import load_model
    from service.retrieval.encoder.static import load_static_embedding

    is_static = layout.is_static
    model = (
        load_static_embedding(layout) if is_static else load_model(layout, TORCH_TYPES[precision])
    )
    twin = shared_with if isinstance(shared_with, TorchRuntime) else None
    changed = layout.adapter.parameters if layout.adapter else None
    return TorchRuntime(model, load_head(layout), device, twin, changed)


def _load_gpu(
    layout: CheckpointLayout, options: RuntimeOptions, shared_with: Runtime | None
) -> Runtime:
    from service.retrieval.encoder.runtime.cuda.runtime import (
        PRECISION_NAMES,
        CudaRuntime,
        precision_on,
    )
    from service.retrieval.encoder.runtime.weights import load_model

    device = options.device
    if options.precision == "fp32":
        return _load_torch(layout, device, options.precision, shared_with)
    best = PRECISION_NAMES[precision_on(device)]
    if options.precision not in ("auto", best):
        raise DeviceError(
            f"CLEAR_PRECISION={options.precision} is not supported on the device {device}: "
            f"set CLEAR_PRECISION to auto, {best} or fp32"
        )
    runtime = CudaRuntime(
        load_model(layout),
        load_head(layout),
        device,
        max_tokens=options.max_tokens,
        shared_with=shared_with if isinstance(shared_with, CudaRuntime) else None,
        changed=layout.adapter.parameters if layout.adapter else None,
    )
    if violation := runtime.graph_violation():
        logger.warning("%s encodes without CUDA graphs, which do not fit: %s", device, violation)
        return runtime.without_graphs()
    return runtime
