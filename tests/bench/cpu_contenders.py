"""The CPU engines of the comparison, including those that are not part of the service.

Each is built from the checkpoint's graph, in ONNX or OpenVINO's format, or its transformers model,
and has the interface of a `Runtime`. Only this module needs more packages: pip install onnx
onnxscript onnxruntime nncf.
"""

import os
import shutil
import sys
import types
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from service.retrieval.checkpoint.bundled import bundled_checkpoint
from service.retrieval.checkpoint.checkpoint import open_checkpoint
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.encoder.head import load_head
from service.retrieval.encoder.loader import load_encoder
from service.retrieval.encoder.runtime.openvino.core import import_openvino
from service.retrieval.encoder.runtime.openvino.export import WithoutTable
from service.retrieval.encoder.runtime.openvino.graph import GRAPH, graph_directory
from service.retrieval.encoder.runtime.openvino.runtime import OpenvinoRuntime
from service.retrieval.encoder.runtime.torch import TorchRuntime
from service.retrieval.encoder.runtime.weights import load_model
from service.retrieval.hardware import multiplies_bf16
from tests.bench.cpu_libraries import LIBRARIES, Library

Run = Callable[[NDArray[np.float32], NDArray[np.int64]], NDArray[np.float32]]
Ids = NDArray[np.int64]
CORES = len(os.sched_getaffinity(0))
CALIBRATION_TEXTS = 240


class Contender:
    """An engine: encodes a padded batch by a function from table rows and mask to hidden states."""

    def __init__(self, name: str, encoder: Encoder, run: Run) -> None:
        """Use the embedding table and the head of an encoder on OpenVINO."""
        self.name = name
        runtime = _on_openvino(encoder)
        self._table, self._head = runtime.graph.table, runtime.head
        self._run = run

    def embed(self, token_ids: Ids, attention_mask: Ids) -> torch.Tensor:
        """Encode one padded batch: [B, L] to [B, D]."""
        rows = torch.nn.functional.embedding(torch.from_numpy(token_ids), self._table)
        hidden = torch.from_numpy(self._run(rows.numpy(), attention_mask))
        embeddings: torch.Tensor = self._head(hidden, torch.from_numpy(attention_mask))
        return embeddings


def load(name: str, cache: Path, calibration: list[str]) -> Encoder | Library:
    """Load the bundled encoder on an engine by name, such as `onnx-int8-dynamic`."""
    engine, _, precision = name.partition("-")
    if engine in ("torch", "openvino") and precision in ("fp32", "bf16", "int8"):
        return _encoder(cache, engine, precision)
    if engine in LIBRARIES:
        return LIBRARIES[engine](bundled_checkpoint(cache))
    if engine == "compile":
        return _compiled(_encoder(cache, "torch", precision), name, cache)
    encoder = _encoder(cache, "openvino", "fp32")
    graph = graph_directory(cache, encoder.fingerprint) / GRAPH
    if engine == "onnx":
        graph = _onnx_graph(cache)
    made = cache / f"bench-{name}.{'onnx' if engine == 'onnx' else 'xml'}"
    if precision == "fp32":
        made = graph
    elif not made.is_file():
        batches = _calibration(encoder, calibration)
        MAKERS[name](graph, made, batches)
    run = _onnx(made) if engine == "onnx" else _openvino(made)
    encoder.runtime = Contender(name, encoder, run)  # type: ignore[assignment]
    return encoder


def _encoder(cache: Path, engine: str, precision: str) -> Encoder:
    return load_encoder(
        "bundled-base", cache=cache, device="cpu", cpu_engine=engine, precision=precision
    )


def _compiled(encoder: Encoder, name: str, cache: Path) -> Encoder:
    layout = open_checkpoint("bundled-base", cache).passage
    model = load_model(layout, torch.bfloat16 if name.endswith("bf16") else torch.float32)
    compiled = cast(PreTrainedModel, torch.compile(model, dynamic=True))
    encoder.runtime = TorchRuntime(compiled, load_head(layout), torch.device("cpu"))
    encoder.runtime.name = name
    return encoder


def _on_openvino(encoder: Encoder) -> OpenvinoRuntime:
    assert isinstance(encoder.runtime, OpenvinoRuntime)
    return encoder.runtime


def _onnx_graph(cache: Path) -> Path:
    """Export the transformer after its embedding table to ONNX, unless that is done."""
    path = cache / "bench-graph.onnx"
    if not path.is_file():
        layout = open_checkpoint("bundled-base", cache).passage
        model = load_model(layout)
        hidden_size = int(model.config.hidden_size)
        example = (torch.zeros(2, 3, hidden_size), torch.tensor([[1, 1, 1], [1, 1, 0]]))
        dynamic = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length", min=2, max=512)}
        program = torch.onnx.export(
            WithoutTable(model, 1.0),
            example,
            input_names=["inputs_embeds", "attention_mask"],
            output_names=["hidden"],
            dynamic_shapes=(dynamic, dynamic),
            opset_version=20,
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        program.save(path, external_data=False)
    return path


def _onnx(path: Path) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = CORES, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda rows, mask: session.run(None, {"inputs_embeds": rows, "attention_mask": mask})[0]


def _openvino(path: Path) -> Run:
    properties: dict[str, object] = {
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": CORES,
    }
    request = import_openvino().Core().compile_model(path, "CPU", properties).create_infer_request()

    def run(rows: NDArray[np.float32], mask: Ids) -> NDArray[np.float32]:
        request.infer([rows, mask], share_inputs=True)
        hidden: NDArray[np.float32] = request.get_output_tensor(0).data
        return hidden

    return run


Batches = list[dict[str, NDArray[np.generic]]]


def _calibration(encoder: Encoder, texts: list[str]) -> Batches:
    tokenized = encoder.tokenize(texts[:CALIBRATION_TEXTS], "query")
    table = _on_openvino(encoder).graph.table
    padded = [encoder.pad(tokenized[start : start + 4]) for start in range(0, len(tokenized), 4)]
    return [
        {
            "inputs_embeds": table[torch.from_numpy(each.token_ids)].numpy(),
            "attention_mask": each.attention_mask,
        }
        for each in padded
    ]


def _onnx_dynamic(graph: Path, made: Path, batches: Batches) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        graph, made, per_channel=True, op_types_to_quantize=["MatMul", "Gemm"],
        weight_type=QuantType.QInt8,
    )  # fmt: skip


def _onnx_static(graph: Path, made: Path, batches: Batches) -> None:
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches = iter(batches)

        def get_next(self) -> dict[str, NDArray[np.generic]] | None:
            return next(self._batches, None)

    quantize_static(
        graph, made, Reader(), per_channel=True, op_types_to_quantize=["MatMul", "Gemm"]
    )


def _openvino_static(graph: Path, made: Path, batches: Batches) -> None:
    nncf, openvino = _nncf(), import_openvino()
    quantized = nncf.quantize(
        openvino.Core().read_model(graph),
        nncf.Dataset(batches),
        preset=nncf.QuantizationPreset.MIXED,
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(batches),
    )
    openvino.save_model(quantized, made, compress_to_fp16=False)


def _nncf() -> types.ModuleType:
    """Import NNCF with its telemetry disabled; it would send data without consent."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import nncf

    return nncf


def unrunnable(name: str) -> str:
    """Return why this machine cannot run an engine; empty if it can."""
    engine, precision, _ = f"{name}-".split("-", 2)
    if precision == "bf16" and not multiplies_bf16():
        return "the CPU has no bf16 instructions"
    packages = [*PACKAGES.get(engine, ()), *PACKAGES.get(name, ())]
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    if engine == "compile" and not shutil.which("c++"):
        return "torch.compile needs a C++ compiler"
    return ""


# The packages of an engine, and those of one of its variants in addition.
PACKAGES = {
    "sentence": ("sentence_transformers",),
    "onnx": ("openvino", "onnx", "onnxscript", "onnxruntime"),
    "openvino": ("openvino",),
    "openvino-int8-static": ("nncf",),
}
MAKERS: dict[str, Callable[[Path, Path, Batches], None]] = {
    "onnx-int8-dynamic": _onnx_dynamic,
    "onnx-int8-static": _onnx_static,
    "openvino-int8-static": _openvino_static,
}
NAMES = (
    *("torch-fp32", "torch-bf16", "compile-fp32", "compile-bf16", "onnx-fp32"),
    *("onnx-int8-dynamic", "onnx-int8-static", "openvino-fp32", "openvino-bf16"),
    *("openvino-int8", "openvino-int8-static", "sentence-transformers"),
)
