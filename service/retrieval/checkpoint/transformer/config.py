"""Checks `config.json`, a transformer's sizes, by file and field before a library reads it.

The names of fields differ by architecture; what each asks for does not.
"""

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from service.retrieval.errors import CheckpointError, quoted
from service.retrieval.storage.schema import Document, JsonText, parse_document

# The words for the types that transformers' configurations name.
KINDS = {
    **{"int": "a whole number", "float": "a number", "str": "text", "bool": "true or false"},
    **{"list": "a list", "dict": "an object"},
}
FIX = "set it to the encoder's own value or remove it"
# Fewer tokens than a prompt and a few words are a mistake.
MIN_TOKENS = 8
TokenLimit = Annotated[int, Field(ge=MIN_TOKENS)]
Size = Annotated[int, Field(ge=1, le=2**24)]
Layers = Annotated[int, Field(ge=1, le=1024)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]


class TransformerConfig(Document):
    """The sizes of a transformer. Fields that are absent have the architecture's own value."""

    model_type: Annotated[JsonText, Field(min_length=1)]
    vocab_size: Size = 2**24
    pad_token_id: Annotated[int, Field(ge=0)] | None = None
    max_position_embeddings: TokenLimit | None = None
    n_positions: TokenLimit | None = None
    type_vocab_size: Annotated[int, Field(ge=0, le=2**24)] | None = None

    hidden_size: Size | None = None
    d_model: Size | None = None
    dim: Size | None = None
    n_embd: Size | None = None
    embedding_size: Size | None = None

    num_hidden_layers: Layers | None = None
    num_layers: Layers | None = None
    n_layers: Layers | None = None
    n_layer: Layers | None = None

    num_attention_heads: Size | None = None
    num_heads: Size | None = None
    n_heads: Size | None = None
    n_head: Size | None = None
    num_key_value_heads: Size | None = None
    head_dim: Size | None = None
    d_kv: Size | None = None

    intermediate_size: Size | None = None
    d_ff: Size | None = None
    hidden_dim: Size | None = None
    n_inner: Size | None = None

    hidden_act: JsonText | None = None
    layer_norm_eps: Positive | None = None
    layer_norm_epsilon: Positive | None = None
    rms_norm_eps: Positive | None = None
    norm_eps: Positive | None = None
    attention_probs_dropout_prob: Share | None = None
    hidden_dropout_prob: Share | None = None

    @property
    def positions(self) -> int | None:
        """Return the number of positions that the file names."""
        return self.max_position_embeddings or self.n_positions

    def violation(self) -> str | None:
        """Return which fields contradict each other, or None."""
        if self.pad_token_id is not None and self.pad_token_id >= self.vocab_size:
            return f"`pad_token_id` is not below `vocab_size`, which is {self.vocab_size}"
        width = self._first("hidden_size", "dim", "n_embd")
        heads = self._first("num_attention_heads", "n_heads", "n_head")
        if width and heads and not self.head_dim and width[1] % heads[1]:
            return f"`{heads[0]}` {heads[1]} does not divide `{width[0]}` {width[1]}"
        groups = self.num_key_value_heads
        if heads and groups and heads[1] % groups:
            return f"`num_key_value_heads` {groups} does not divide `{heads[0]}` {heads[1]}"
        return None

    def _first(self, *names: str) -> tuple[str, int] | None:
        """Return name and value of the first of some fields that has one."""
        values = ((name, getattr(self, name)) for name in names)
        return next((pair for pair in values if pair[1] is not None), None)


def parse_config(content: dict[str, Any], path: Path) -> TransformerConfig:
    """Check the content of a `config.json`.

    Raises:
        CheckpointError: naming the file, the field, what is wrong with it and how to fix it.
    """
    if "model_type" not in content:
        raise CheckpointError(
            f"{path}: `model_type` is missing: name the architecture, such as bert, or save the "
            "encoder again with transformers' save_pretrained"
        )
    if content.get("quantization_config") is not None:
        raise CheckpointError(
            f"{path}: `quantization_config` says that the weights are quantized, which is not "
            "supported: name the unquantized encoder or base that they were made from"
        )
    config = parse_document(TransformerConfig, content, path, CheckpointError, FIX)
    if violation := config.violation():
        raise CheckpointError(f"{path}: {violation}: {FIX}")
    return config


def architecture_violation(content: dict[str, Any]) -> str | None:
    """Return which field transformers does not know, or None; it must be imported for that."""
    from transformers import CONFIG_MAPPING, __version__
    from transformers.activations import ACT2FN

    if content["model_type"] not in CONFIG_MAPPING:
        return (
            f"`model_type` {quoted(content['model_type'])} is not an architecture of transformers "
            f"{__version__}: use an encoder of one, or a newer transformers"
        )
    activation = content.get("hidden_act")
    if activation is not None and activation not in ACT2FN:
        return f"`hidden_act` {quoted(activation)} is not an activation of transformers: {FIX}"
    return None


def absent_sizes(content: dict[str, Any]) -> str:
    """Return which sizes a configuration leaves to the architecture's default, for a message."""
    from transformers import CONFIG_MAPPING

    defaults = CONFIG_MAPPING[content["model_type"]]().to_dict()
    names = [name for name in TransformerConfig.model_fields if name in defaults]
    absent = [f"`{name}`" for name in names if name not in content and defaults[name] is not None]
    return f", which lacks {', '.join(absent)}" if absent else ""


def library_violation(error: Exception) -> str | None:
    """Return which field transformers' own check of a configuration refuses, and why, or None.

    Its messages name it as "field 'x'", and often "expected int, got str", over several lines.
    """
    field = re.search(r"[Ff]ield '([\w.]+)'", str(error))
    if not field:
        return None
    expected = re.search(r"expected (\w+), got", str(error))
    kind = KINDS.get(expected[1]) if expected else None
    return f"`{field[1]}` is not {kind or 'of a type that the architecture takes'}"
