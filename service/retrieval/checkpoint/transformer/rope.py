"""Rotary positions whose frequencies depend on the longest text of a batch.

`dynamic` and `longrope` scale the positions of a whole batch once one of its texts is longer than
those of the training. Up to that length, an embedding depends on its own text alone.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from service.retrieval.checkpoint.transformer.token_limit import default_positions
from service.retrieval.errors import CheckpointError, quoted

FIELDS = ("rope_parameters", "rope_scaling")
ORIGINAL = "original_max_position_embeddings"


def check_rope(config: dict[str, Any], path: Path, max_tokens: int) -> None:
    """Refuse a limit of tokens at which an embedding may depend on other texts of its batch.

    Args:
        config: the content of a `config.json`.
        path: that file, for the message.
        max_tokens: the limit in force.

    Raises:
        CheckpointError: naming the file, the field and the limit that can be served.
    """
    for field, scaling in _scalings(config):
        kind = str(scaling.get("rope_type", scaling.get("type")))
        is_long = kind == "longrope" or "long_factor" in scaling  # Phi-3 has other names for it
        if not is_long and "dynamic" not in kind:
            continue
        original = config.get(ORIGINAL, scaling.get(ORIGINAL)) if is_long else None
        original = original or config.get("max_position_embeddings")
        original = original or default_positions(str(config.get("model_type")))
        if not isinstance(original, int) or max_tokens > original:
            raise CheckpointError(
                f"{path}: `{field}` {quoted(kind)} makes an embedding depend on the longest text "
                f"of its batch where that has more than {original} tokens, and the limit is "
                f"{max_tokens}: set CLEAR_MAX_TOKENS, or max_seq_length in "
                f"sentence_bert_config.json, to {original} or lower"
            )


def _scalings(config: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each scaling with its field; kinds of layers may have one each."""
    for field in FIELDS:
        stated = config.get(field)
        if isinstance(stated, dict):
            nested = (value for value in stated.values() if isinstance(value, dict))
            yield from ((field, scaling) for scaling in (stated, *nested))
