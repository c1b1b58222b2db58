"""The number of tokens that an encoder can embed, as sentence-transformers reads it."""

from pathlib import Path
from typing import Any

from service.retrieval.checkpoint.transformer.config import (
    FIX,
    MIN_TOKENS,
    TransformerConfig,
    parse_config,
)
from service.retrieval.checkpoint.transformer.sentence_config import SentenceConfig
from service.retrieval.checkpoint.transformer.tokenizer_config import TokenizerConfig
from service.retrieval.errors import CheckpointError

NO_LIMIT = 10**9  # tokenizers without a limit name 10**30
# Architectures whose first position is that after the padding id, and those whose id is fixed.
OFFSET_BY_PADDING = frozenset(
    {
        *("camembert", "data2vec-text", "ibert", "longformer", "luke", "roberta"),
        *("roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod"),
    }
)
OFFSET_BY_TWO = frozenset({"mpnet"})
# Architectures of relative positions alone: `n_positions` bounds nothing.
UNBOUNDED = frozenset({"longt5", "mt5", "t5", "umt5"})


def read_token_limit(
    transformer: Path,
    config: dict[str, Any],
    sentence: SentenceConfig,
    tokenizer: TokenizerConfig,
) -> int:
    """Return the limit of tokens of a text.

    It is `max_seq_length` of the sentence configuration if there is one, else the smaller one of
    the tokenizer's limit and the number of positions. Learned positions bound either.

    Args:
        transformer: the folder of the files.
        config: the content of its `config.json`.
        sentence: the content of its `sentence_bert_config.json`, or of a former name of that file.
        tokenizer: the content of its `tokenizer_config.json`.

    Raises:
        CheckpointError: no file names a limit, or the positions are too few.
    """
    path = transformer / "config.json"
    own = parse_config(config, path)
    positions = None
    if own.model_type not in UNBOUNDED:
        positions = own.positions or default_positions(own.model_type)
    if positions is not None:
        positions -= _offset(own, path)
        if positions < MIN_TOKENS:
            raise CheckpointError(
                f"{path}: `pad_token_id` leaves fewer than {MIN_TOKENS} positions of "
                f"`max_position_embeddings`: {FIX}"
            )
    stated = sentence.stated_limit
    limits: list[int | None]
    limits = [tokenizer.model_max_length, positions] if stated is None else [stated]
    if not _computes_positions(config):
        limits.append(positions)
    known = [limit for limit in limits if limit is not None and limit < NO_LIMIT]
    if not known:
        raise CheckpointError(
            f"{transformer} names no limit of tokens: add max_seq_length to "
            "sentence_bert_config.json, or model_max_length to tokenizer_config.json"
        )
    return min(known)


def _offset(config: TransformerConfig, path: Path) -> int:
    """Return the number of positions before that of the first token."""
    if config.model_type in OFFSET_BY_TWO:
        return 2
    if config.model_type not in OFFSET_BY_PADDING:
        return 0
    if "pad_token_id" not in config.model_fields_set:
        return 2  # the id is 1 where the file names none
    if config.pad_token_id is None:
        raise CheckpointError(
            f"{path}: `pad_token_id` is null, and positions start after it: {FIX}"
        )
    return config.pad_token_id + 1


def _computes_positions(config: dict[str, Any]) -> bool:
    """Return whether positions are computed, so that a text may be longer than those trained.

    They are rotary, or as DeBERTa's relative ones, without a table of absolute ones beside them.
    """
    is_relative = config.get("position_biased_input") is False
    return is_relative or any("rope" in key or "rotary" in key for key in config)


def default_positions(model_type: str) -> int | None:
    """Return the positions of an architecture whose config.json names none, or None."""
    from transformers import CONFIG_MAPPING

    if model_type not in CONFIG_MAPPING:
        return None
    positions = getattr(CONFIG_MAPPING[model_type](), "max_position_embeddings", None)
    return positions if isinstance(positions, int) and positions > 0 else None
