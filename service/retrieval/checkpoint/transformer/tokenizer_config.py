"""Reads `tokenizer_config.json`, which says how a tokenizer's files are used."""

from pathlib import Path
from typing import Any, Literal

from service.retrieval.checkpoint.transformer.config import FIX, TokenLimit
from service.retrieval.errors import CheckpointError
from service.retrieval.storage.artifact import read_json_object
from service.retrieval.storage.schema import Document, JsonText, parse_document

# Classes that take tokenizer.json as it is; all others build a tokenizer from its vocabulary.
GENERIC_CLASSES = ("PreTrainedTokenizerFast", "TokenizersBackend")


class AddedToken(Document):
    """A token that is added to the vocabulary, with how it is found in a text."""

    content: JsonText
    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False
    normalized: bool = True
    special: bool = False


class TokenizerConfig(Document):
    """The fields that are read."""

    model_max_length: TokenLimit | None = None
    truncation_side: Literal["left", "right"] | None = None
    tokenizer_class: JsonText | None = None
    add_bos_token: bool | None = None
    add_eos_token: bool | None = None
    added_tokens_decoder: dict[str, AddedToken] | None = None
    model_input_names: list[JsonText] | None = None
    auto_map: Any = None

    @property
    def takes_file_as_it_is(self) -> bool:
        """Return whether transformers, too, uses tokenizer.json without a change."""
        is_generic = self.tokenizer_class in GENERIC_CLASSES
        return is_generic and self.add_bos_token is None and self.add_eos_token is None


def read_tokenizer_config(transformer: Path) -> TokenizerConfig:
    """Read the file; without one, return the defaults.

    Raises:
        CheckpointError: a field has a wrong type, or the tokenizer needs remote code.
    """
    path = transformer / "tokenizer_config.json"
    content = read_json_object(path, CheckpointError) if path.is_file() else {}
    config = parse_document(TokenizerConfig, content, path, CheckpointError, FIX)
    if config.auto_map:
        raise CheckpointError(
            f"{path}: `auto_map` asks for remote code, which is never run: if you trust that code, "
            "load the tokenizer with trust_remote_code=True elsewhere, save it with "
            "save_pretrained, and remove `auto_map`"
        )
    return config
