"""The modules after the pooling, Dense, LayerNorm and Normalize: their configuration and files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from service.retrieval.checkpoint.modules.listing import ModuleEntry
from service.retrieval.errors import CheckpointError, quoted
from service.retrieval.storage.artifact import read_json_object
from service.retrieval.storage.schema import Document, parse_document

WEIGHTS = "model.safetensors"
# The activations of `torch.nn` that need no argument and change each value by itself.
ACTIVATIONS = (
    *("Identity", "CELU", "ELU", "GELU", "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh"),
    *("LeakyReLU", "LogSigmoid", "Mish", "PReLU", "ReLU", "ReLU6", "RReLU", "SELU", "SiLU"),
    *("Sigmoid", "Softplus", "Softshrink", "Softsign", "Tanh", "Tanhshrink"),
)
Size = Annotated[int, Field(ge=1, le=1 << 20)]


def _activation(name: Any) -> Any:
    """Return the class name of one of torch's activations, which the file names in full."""
    prefix, _, own_name = str(name).rpartition(".")
    if not (prefix == "torch.nn" or prefix.startswith("torch.nn.modules")):
        raise ValueError(f"is {quoted(name)}, not one of torch's activations")
    if own_name not in ACTIVATIONS:
        raise ValueError(f"is {quoted(name)}, not one of {', '.join(ACTIVATIONS)}")
    return own_name


class DenseConfig(Document):
    """The fields of a Dense module's `config.json`."""

    in_features: Size
    out_features: Size
    bias: bool = True
    activation_function: Annotated[str, BeforeValidator(_activation)] = "Tanh"
    module_input_name: Literal["sentence_embedding"] = "sentence_embedding"
    module_output_name: Literal["sentence_embedding"] | None = None
    use_residual: bool = False


class LayerNormConfig(Document):
    """The fields of a LayerNorm module's `config.json`."""

    dimension: Size


class NormalizeConfig(Document):
    """The fields of a Normalize module's `config.json`, which may be absent."""

    module_input_name: Literal["sentence_embedding"] = "sentence_embedding"
    module_output_name: Literal["sentence_embedding"] | None = None


HeadConfig = DenseConfig | LayerNormConfig | NormalizeConfig
CONFIGS: dict[str, type[DenseConfig] | type[LayerNormConfig] | type[NormalizeConfig]] = {
    "Dense": DenseConfig,
    "LayerNorm": LayerNormConfig,
    "Normalize": NormalizeConfig,
}


@dataclass(frozen=True)
class HeadModule:
    """A module after the pooling; `weights` is None for a Normalize, which has none."""

    kind: str
    folder: Path
    config: HeadConfig
    weights: Path | None = None

    def output_dim(self, input_dim: int) -> int:
        """Return the length of the vectors that it makes of vectors of `input_dim`."""
        return self.config.out_features if isinstance(self.config, DenseConfig) else input_dim


def check_inputs(modules: Sequence[HeadModule], input_dim: int | None = None) -> None:
    """Refuse a module that takes vectors of another length than those it gets.

    Args:
        modules: in the order that they run.
        input_dim: length of the vectors of the first one; None if it is not known yet.

    Raises:
        CheckpointError: naming the file and the field.
    """
    dim = input_dim
    for module in modules:
        config = module.config
        if isinstance(config, NormalizeConfig):
            continue
        field, taken = (
            ("in_features", config.in_features)
            if isinstance(config, DenseConfig)
            else ("dimension", config.dimension)
        )
        if dim is not None and taken != dim:
            raise CheckpointError(
                f"{module.folder / 'config.json'}: `{field}` is {taken}, and the {module.kind} "
                f"gets embeddings of {dim} values: restore the encoder from a copy"
            )
        dim = module.output_dim(taken)


def read_head_module(entry: ModuleEntry) -> HeadModule:
    """Read the configuration of a Dense, LayerNorm or Normalize.

    Raises:
        CheckpointError: the module is of another kind, a field is not supported, or its weights
            are missing.
    """
    if entry.kind not in CONFIGS:
        raise CheckpointError(
            f"{entry.listed_in} has a module that is not supported after the pooling: "
            f"{quoted(entry.kind)}; use an encoder of {', '.join(CONFIGS)}"
        )
    path = entry.folder / "config.json"
    is_optional = entry.kind == "Normalize" and not path.is_file()
    content = {} if is_optional else read_json_object(path, CheckpointError)
    fix = f"use an encoder whose {entry.kind} maps one embedding to one embedding"
    config = parse_document(CONFIGS[entry.kind], content, path, CheckpointError, fix)
    if isinstance(config, NormalizeConfig):
        return HeadModule(entry.kind, entry.folder, config)
    weights = entry.folder / WEIGHTS
    if not weights.is_file():
        raise CheckpointError(
            f"{weights} is missing; pickled weights are never read: save the encoder again with "
            "sentence-transformers' save_pretrained"
        )
    return HeadModule(entry.kind, entry.folder, config, weights)
