"""The layout of one side of an encoder: its weights, tokenizer, modules, prompts and limits."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.retrieval.checkpoint.adapter import Adapter
from service.retrieval.checkpoint.modules.head import HeadModule
from service.retrieval.checkpoint.modules.pooling import Pooling
from service.retrieval.checkpoint.peft.adapter import PeftAdapter
from service.retrieval.checkpoint.transformer.tokenizer_config import TokenizerConfig
from service.retrieval.checkpoint.transformer.weight_files import INDEX as WEIGHTS_INDEX

HIDDEN_DIM_NAMES = ("hidden_size", "d_model", "dim")


@dataclass(frozen=True)
class CheckpointLayout:
    """The files and settings of one side; an adapter is merged into its weights.

    Attributes:
        transformer: the folder of the module that reads tokens.
        weights: its `.safetensors` files.
        tokenizer: its `tokenizer.json`, or one that is made.
        config: the content of its `config.json`.
        pooling: how token embeddings become one embedding.
        prompts: text put before each text, by role.
        max_tokens: the limit of tokens.
        adapter: changes the weights of the query side, if any.
        peft: changes the weights of both sides, if any.
        head: the modules after the pooling, in the order that they run.
        truncate_dim: the number of leading values of an embedding that are kept; None keeps all.
        tokenizer_config: the settings beside the tokenizer.
        lower_case: whether texts are lower-cased first.
        tokenizer_sources: the files that `tokenizer` is made from, if it is made.
        is_static: whether tokens are embedded by a table alone (StaticEmbedding).
    """

    transformer: Path
    weights: tuple[Path, ...]
    tokenizer: Path
    config: dict[str, Any]
    pooling: Pooling
    prompts: dict[str, str]
    max_tokens: int
    tokenizer_config: TokenizerConfig
    lower_case: bool
    adapter: Adapter | None = None
    peft: PeftAdapter | None = None
    head: tuple[HeadModule, ...] = ()
    truncate_dim: int | None = None
    tokenizer_sources: tuple[Path, ...] = ()
    is_static: bool = False

    @property
    def decisive_head(self) -> tuple[HeadModule, ...]:
        """Return the head without a last Normalize: each embedding is normalized at the end."""
        head = self.head
        while head and head[-1].kind == "Normalize":
            head = head[:-1]
        return head

    @property
    def is_unit(self) -> bool:
        """Return whether the modules themselves make vectors of unit length."""
        return bool(self.head) and self.head[-1].kind == "Normalize" and not self.truncate_dim

    @property
    def hidden_dim(self) -> int | None:
        """Return the length of a token's embedding as `config.json` tells it, if it does."""
        return next((self.config[name] for name in HIDDEN_DIM_NAMES if name in self.config), None)

    @property
    def embedding_dim(self) -> int | None:
        """Return the length of an embedding as the files tell it, if they do."""
        if not isinstance(self.hidden_dim, int):
            return None
        dim = self.hidden_dim * len(self.pooling.modes)
        for module in self.head:
            dim = module.output_dim(dim)
        return min(dim, self.truncate_dim or dim)

    @property
    def model_files(self) -> tuple[Path, ...]:
        """Return the files that transformers loads the model from."""
        index = self.weights[0].parent / WEIGHTS_INDEX
        others = [index] if index.is_file() and len(self.weights) > 1 else []
        return (self.transformer / "config.json", *others, *self.weights)
