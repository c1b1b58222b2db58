"""The configuration of a Pooling module, in the new and the old form."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field

from service.retrieval.errors import CheckpointError
from service.retrieval.storage.artifact import read_json_object
from service.retrieval.storage.schema import Document, parse_document

PoolingMode = Literal["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]
POOLING_MODES: tuple[PoolingMode, ...] = get_args(PoolingMode)
# The old form has a field for each mode; several that are true are concatenated in this order.
LEGACY_POOLING: dict[str, PoolingMode] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
SEPARATOR = "+"


def _as_list(modes: Any) -> Any:
    return [modes] if isinstance(modes, str) else modes


class PoolingConfig(Document):
    """The fields of a Pooling module's `config.json` that are read."""

    pooling_mode: Annotated[
        list[PoolingMode], BeforeValidator(_as_list), Field(min_length=1, max_length=8)
    ] = []
    include_prompt: bool = True


@dataclass(frozen=True)
class Pooling:
    """Modes whose results are concatenated, and whether the prompt's tokens are pooled, too."""

    modes: tuple[PoolingMode, ...] = ("mean",)
    include_prompt: bool = True

    def __str__(self) -> str:
        """Return the modes as one word, such as `mean` or `cls+mean`."""
        return SEPARATOR.join(self.modes)


def parse_pooling(name: str) -> Pooling:
    """Return the pooling of a mode that a setting names.

    Raises:
        CheckpointError: there is no such mode.
    """
    modes = [mode for mode in POOLING_MODES if mode == name]
    if not modes:
        raise CheckpointError(
            f"CLEAR_POOLING={name} is unknown: set one of {', '.join(POOLING_MODES)}"
        )
    return Pooling(tuple(modes))


def read_pooling(folder: Path) -> Pooling:
    """Read the configuration of a Pooling module.

    Raises:
        CheckpointError: a mode is unknown, or a field has another type.
    """
    path = folder / "config.json"
    content = read_json_object(path, CheckpointError)
    fix = f"`pooling_mode` is one or several of {', '.join(POOLING_MODES)}"
    config = parse_document(PoolingConfig, content, path, CheckpointError, fix)
    modes = config.pooling_mode or [
        mode for key, mode in LEGACY_POOLING.items() if content.get(key)
    ]
    # Without any mode sentence-transformers takes the mean.
    return Pooling(tuple(modes or ["mean"]), config.include_prompt)
