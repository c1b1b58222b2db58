"""Export of a checkpoint as an OpenVINO graph, with the probe that every start checks."""

import shutil
import warnings
from pathlib import Path

import torch
from safetensors import safe_open
from tokenizers import Tokenizer
from torch import Tensor
from transformers import PreTrainedModel

from service.retrieval.checkpoint.layout import CheckpointLayout
from service.retrieval.encoder.head import load_head
from service.retrieval.encoder.runtime.openvino.core import import_openvino
from service.retrieval.encoder.runtime.openvino.graph import GRAPH
from service.retrieval.encoder.runtime.openvino.masks import without_empty_rows
from service.retrieval.encoder.runtime.openvino.probe import write_probe
from service.retrieval.encoder.runtime.torch import TorchRuntime
from service.retrieval.encoder.runtime.weights import load_model
from service.retrieval.errors import CheckpointError

COMPARED_ROWS = 64
# A disk with less space is full: no file of a graph is smaller.
FULL_BYTES = 4096


class WithoutTable(torch.nn.Module):
    """A transformer without its embedding table; `scale` is the factor on the table's rows."""

    def __init__(self, model: PreTrainedModel, scale: float) -> None:
        super().__init__()
        self.model = model
        self.scale = scale

    def forward(self, inputs_embeds: Tensor, attention_mask: Tensor) -> Tensor:
        if self.scale != 1:
            inputs_embeds = inputs_embeds * self.scale
        output = self.model(inputs_embeds=inputs_embeds, attention_mask=attention_mask)
        hidden: Tensor = output.last_hidden_state  # [B, L, H]
        return hidden


def export_graph(directory: Path, layout: CheckpointLayout) -> str:
    """Write the graph and the probe of a checkpoint to a folder.

    Returns:
        The name of the embedding table's tensor in the checkpoint.

    Raises:
        CheckpointError: the architecture cannot be exported.
    """
    model = load_model(layout)
    reference = TorchRuntime(model, load_head(layout), torch.device("cpu"))
    table = torch.as_tensor(model.get_input_embeddings().weight)
    name = _table_name(table, layout)
    try:
        _export(model, directory / GRAPH, table, layout.max_tokens)
    except Exception as error:  # noqa: BLE001  an architecture may fail in any way
        if shutil.disk_usage(directory).free < FULL_BYTES:  # the library's words do not say so
            raise CheckpointError(
                f"no space is left in {directory.parent} for an encoder's graph: free some, or set "
                "CLEAR_CACHE to another folder"
            ) from None
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"the encoder in {layout.transformer} cannot be exported as a graph ({reason}): "
            "set CLEAR_CPU_ENGINE=torch"
        ) from None
    tokenizer = Tokenizer.from_file(str(layout.tokenizer))
    pad_id = int(layout.config.get("pad_token_id") or 0)
    write_probe(directory, reference, tokenizer, layout.max_tokens, pad_id)
    return name


def _table_name(table: Tensor, layout: CheckpointLayout) -> str:
    """Return the name of the checkpoint's tensor that equals the embedding table."""
    numbers = table.nan_to_num()  # NaN is not equal to itself
    for path in layout.weights:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  not a dict
                if file.get_slice(name).get_shape() == list(table.shape) and torch.equal(
                    file.get_tensor(name).float().nan_to_num(), numbers
                ):
                    return str(name)
    raise CheckpointError(
        f"no tensor of {layout.transformer} is its embedding table: set CLEAR_CPU_ENGINE=torch"
    )


@torch.inference_mode()
def embedding_scale(layer: torch.nn.Module, table: Tensor) -> float:
    """Return the factor by which an embedding layer multiplies the rows of its table.

    Gemma multiplies by the square root of the embedding's length.

    Raises:
        ValueError: the layer does something else with the rows.
    """
    token_ids = torch.arange(min(len(table), COMPARED_ROWS))
    rows, embedded = table[token_ids].float(), layer(token_ids).float()
    if torch.equal(rows, embedded):
        return 1.0
    if rows.shape == embedded.shape:
        largest = rows.abs().argmax()
        scale = float(embedded.flatten()[largest] / rows.flatten()[largest])
        if torch.allclose(rows * scale, embedded, rtol=1e-5):
            return scale
    raise ValueError("its embedding layer does more than scale the rows of a table")


def _export(model: PreTrainedModel, path: Path, table: Tensor, max_tokens: int) -> None:
    openvino = import_openvino()
    scale = embedding_scale(model.get_input_embeddings(), table)
    hidden_size = table.shape[1]
    # Two texts of three tokens, one of them padded: a dimension of 1 would become static.
    example = (torch.zeros(2, 3, hidden_size), torch.tensor([[1, 1, 1], [1, 1, 0]]))
    batch = torch.export.Dim("batch", min=1)
    dynamic = {0: batch, 1: torch.export.Dim("length", min=2, max=max_tokens)}
    # A decoder would start a cache with an empty tensor, which OpenVINO does not convert.
    model.config.use_cache = False
    with warnings.catch_warnings(), torch.no_grad(), without_empty_rows(model):
        warnings.simplefilter("ignore")
        program = torch.export.export(
            WithoutTable(model, scale), example, dynamic_shapes=(dynamic, dynamic)
        )
        graph = openvino.convert_model(program)
    embedded, mask = graph.inputs
    graph.reshape({embedded: [-1, -1, hidden_size], mask: [-1, -1]})
    openvino.save_model(graph, path, compress_to_fp16=False)
