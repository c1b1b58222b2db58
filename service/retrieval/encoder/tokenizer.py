"""A side's tokenizer: it truncates, and makes only ids of which the model has an embedding."""

import filecmp
from collections.abc import Iterable
from pathlib import Path

from safetensors import safe_open
from tokenizers import Tokenizer

from service.retrieval.checkpoint.layout import CheckpointLayout
from service.retrieval.checkpoint.transformer.tokenizer_files import read_tokenizer
from service.retrieval.encoder.unigram import UnigramTokenizer, read_unigram
from service.retrieval.errors import CheckpointError, quoted


def has_same_tokens(layout: CheckpointLayout, other: CheckpointLayout) -> bool:
    """Return whether two sides tokenize alike: by equal files, with special tokens or without."""
    settings = (layout.tokenizer_config.truncation_side, other.tokenizer_config.truncation_side)
    if layout.is_static != other.is_static or settings[0] != settings[1]:
        return False
    paths = (layout.tokenizer, other.tokenizer)
    return paths[0] == paths[1] or filecmp.cmp(*paths, shallow=False)


def load_tokenizer(
    layout: CheckpointLayout, max_tokens: int, prompts: Iterable[str]
) -> Tokenizer | UnigramTokenizer:
    """Read a side's tokenizer, which truncates at the side that its files name and does not pad.

    Args:
        layout: of the side.
        max_tokens: length at which texts are truncated.
        prompts: stand before texts.

    Raises:
        CheckpointError: the file is not a tokenizer, or states type ids that are never given to
            the model.
    """
    on_right = layout.tokenizer_config.truncation_side in (None, "right")
    if on_right and not layout.is_static and (found := read_unigram(layout.tokenizer, prompts)):
        found.enable_truncation(max_tokens)
        return found
    tokenizer = read_tokenizer(layout.tokenizer)
    if layout.is_static:
        tokenizer.post_processor = None  # which adds the special tokens
    own = str((tokenizer.truncation or {}).get("direction", "right"))
    side = layout.tokenizer_config.truncation_side or own.lower()
    tokenizer.enable_truncation(max_tokens, direction=side)
    tokenizer.no_padding()
    names = layout.tokenizer_config.model_input_names or []
    if "token_type_ids" in names and any(tokenizer.encode("a").type_ids):
        raise CheckpointError(
            f"{_file(layout)}: the template of a single text has type ids other than 0, which "
            "`model_input_names` of tokenizer_config.json gives to the model: such an encoder is "
            "not supported; use another one"
        )
    return tokenizer


def check_token_ids(
    tokenizer: Tokenizer | UnigramTokenizer, layout: CheckpointLayout, prompts: Iterable[str]
) -> None:
    """Refuse a tokenizer that makes ids beyond the table of token embeddings.

    Args:
        tokenizer: of the side.
        layout: of the side.
        prompts: may hold special tokens, which a text's own letters never become.

    Raises:
        CheckpointError: naming the tokenizer's file, the token and the file of the table.
    """
    table, num_rows = _table(layout)
    largest = max(_ids(tokenizer, prompts), default=0)
    if num_rows is not None and largest >= num_rows:
        raise CheckpointError(
            f"{_file(layout)} has the token {quoted(tokenizer.id_to_token(largest))} of the id "
            f"{largest}, and the table of embeddings of {table} has {num_rows} rows: restore both "
            "files from the encoder's own copy"
        )


def _file(layout: CheckpointLayout) -> Path:
    """Return the file of the checkpoint that the tokenizer is read or made from."""
    return layout.tokenizer_sources[0] if layout.tokenizer_sources else layout.tokenizer


def _table(layout: CheckpointLayout) -> tuple[Path, int | None]:
    """Return the file that states the number of rows of the table, and the number if it does."""
    if layout.is_static:
        [path] = layout.weights
        with safe_open(path, framework="np") as file:
            names = ("mapping", "embedding.weight", "embeddings")
            name = next(name for name in names if name in file.keys())  # noqa: SIM118  no mapping
            return path, int(file.get_slice(name).get_shape()[0])
    path = layout.transformer / "config.json"  # weights of another size have been refused
    if "vocab_size" in layout.config:
        return path, int(layout.config["vocab_size"])
    from transformers import CONFIG_MAPPING  # only such a config costs the import

    config = CONFIG_MAPPING[layout.config["model_type"]].from_dict(dict(layout.config))
    return path, getattr(config, "vocab_size", None)


def _ids(tokenizer: Tokenizer | UnigramTokenizer, prompts: Iterable[str]) -> set[int]:
    """Return the ids that occur: of texts, which no special token is part of, and of prompts."""
    added = tokenizer.get_added_tokens_decoder()
    special = {each for each, token in added.items() if token.special}
    own: Iterable[int] = range(tokenizer.get_vocab_size(with_added_tokens=False))
    if isinstance(tokenizer, Tokenizer) and type(tokenizer.model).__name__ != "Unigram":
        # The ids of a Unigram have no gaps.
        own = tokenizer.get_vocab(with_added_tokens=False).values()
    written = [tokenizer.encode(prompt).ids for prompt in ("", *prompts)]
    return {*own, *added}.difference(special).union(*written)
