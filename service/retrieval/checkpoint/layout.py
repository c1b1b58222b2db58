"""The layout of a Sentence Transformers folder: its sides, weights, tokenizer, prompts, pooling.

Only JSON files are read; weights are neither loaded nor hashed.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.retrieval.checkpoint.adapter import (
    Adapter,
    is_adapter,
    refuse_undescribed_adapter,
)
from service.retrieval.checkpoint.library_config import (
    LIBRARY_CONFIG,
    check_similarity,
    read_library_config,
)
from service.retrieval.checkpoint.modules.head import HeadModule, read_head_module
from service.retrieval.checkpoint.modules.listing import MODULES, ModuleEntry, read_modules
from service.retrieval.checkpoint.modules.pooling import Pooling, read_pooling
from service.retrieval.checkpoint.transformer.sentence_config import read_sentence_config
from service.retrieval.checkpoint.transformer.token_limit import read_token_limit
from service.retrieval.checkpoint.transformer.tokenizer_config import (
    TokenizerConfig,
    read_tokenizer_config,
)
from service.retrieval.checkpoint.transformer.tokenizer_files import find_tokenizer
from service.retrieval.checkpoint.transformer.weight_files import INDEX as WEIGHTS_INDEX
from service.retrieval.checkpoint.transformer.weight_files import find_weights
from service.retrieval.errors import CheckpointError, quoted
from service.retrieval.storage.artifact import read_json_object

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
        adapter: changes the weights, if any.
        head: the modules after the pooling, in the order that they run.
        truncate_dim: the number of leading values of an embedding that are kept; None keeps all.
        tokenizer_config: the settings beside the tokenizer.
        lower_case: whether texts are lower-cased first.
        tokenizer_sources: the files that `tokenizer` is made from, if it is made.
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
    head: tuple[HeadModule, ...] = ()
    truncate_dim: int | None = None
    tokenizer_sources: tuple[Path, ...] = ()

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


def read_layout(directory: Path) -> CheckpointLayout:
    """Read the layout of a checkpoint's passage side.

    Raises:
        CheckpointError: a file is missing, or needs what is not supported (another pooling, a
            further module, pickled weights, remote code).
    """
    return read_sides(directory)[1]


def read_sides(directory: Path) -> tuple[CheckpointLayout, CheckpointLayout]:
    """Read the layouts of the query side and the passage side.

    Returns:
        Two layouts, which are the same object if the checkpoint has one side.

    Raises:
        CheckpointError: as `read_layout`.
    """
    query, passage = (_read_side(directory, modules) for modules in _modules_of_sides(directory))
    return (passage, passage) if query == passage else (query, passage)


def _read_side(directory: Path, modules: list[ModuleEntry]) -> CheckpointLayout:
    transformer, pooling, head = _split(directory, modules)
    config = read_json_object(transformer / "config.json", CheckpointError)
    if "auto_map" in config:
        raise CheckpointError(
            f"{transformer / 'config.json'} asks for remote code (auto_map), which is never run: "
            "name an encoder of an architecture that transformers has built in"
        )
    if transformer != directory and is_adapter(transformer):
        raise CheckpointError(
            f"{transformer} holds an adapter, which is read beside modules.json only: move its "
            f"files to {directory}"
        )
    sentence = read_sentence_config(transformer)
    settings = read_tokenizer_config(transformer)
    library = read_library_config(directory)
    layout = CheckpointLayout(
        transformer=transformer,
        weights=find_weights(transformer),
        tokenizer=find_tokenizer(transformer),
        config=config,
        pooling=read_pooling(pooling),
        prompts=library.prompts_by_role,
        head=tuple(map(read_head_module, head)),
        max_tokens=read_token_limit(transformer, config, sentence, settings),
        tokenizer_config=settings,
        lower_case=bool(sentence.do_lower_case),
        truncate_dim=library.truncate_dim,
    )
    check_similarity(library, directory / LIBRARY_CONFIG, is_unit=layout.is_unit)
    return layout


def _modules_of_sides(directory: Path) -> list[list[ModuleEntry]]:
    """Return the modules of each side, for queries and for passages."""
    path = directory / MODULES
    if not directory.is_dir():
        raise CheckpointError(
            f"the encoder {directory} is not a folder: name a Sentence Transformers folder, "
            "a Hub name with its revision (owner/name@commit), or `bundled`"
        )
    refuse_undescribed_adapter(directory)
    if not path.is_file():
        raise CheckpointError(
            f"{path} is missing: {directory} is not a Sentence Transformers folder; name one, or "
            "save the encoder with sentence-transformers"
        )
    return read_modules(directory)


def _split(directory: Path, modules: list[ModuleEntry]) -> tuple[Path, Path, list[ModuleEntry]]:
    """Return the folders of Transformer and Pooling, and the modules after them."""
    kinds = [module.kind for module in modules]
    if kinds[:2] != ["Transformer", "Pooling"]:
        listed_in = modules[0].listed_in if modules else directory / MODULES
        raise CheckpointError(
            f"{listed_in} starts with the modules {', '.join(map(quoted, kinds[:2])) or '(none)'}, "
            "not with Transformer and Pooling: save the encoder with both"
        )
    return modules[0].folder, modules[1].folder, modules[2:]
