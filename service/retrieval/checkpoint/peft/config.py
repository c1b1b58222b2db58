"""`adapter_config.json` of an adapter that `peft` wrote: its base, the change of each module."""

import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field

from service.retrieval.checkpoint.adapter import DESCRIPTION, PEFT_CONFIG
from service.retrieval.checkpoint.lora import Finite, LoraConfig, Rank
from service.retrieval.errors import CheckpointError, python_command, quoted
from service.retrieval.storage import artifact
from service.retrieval.storage.schema import JsonText, parse_document

Number = TypeVar("Number", int, float)
# A pattern of modules: names and a few wildcards, so that no pattern takes long to match.
PATTERN = re.compile(r"\^?[\w.\\-]+(\.\*[\w.\\-]+){0,3}\$?")


def _targets(value: Any) -> Any:
    names = value if isinstance(value, list) else [value or ""]
    if not all(isinstance(name, str) for name in names):
        raise ValueError("is neither a list of names nor a pattern")
    return value


class PeftConfig(LoraConfig):
    """The fields of `adapter_config.json` in an adapter that the library `peft` wrote."""

    use_rslora: bool = False
    rank_pattern: dict[str, Rank] = {}
    alpha_pattern: dict[str, Finite] = {}
    target_modules: Annotated[list[str] | str | None, BeforeValidator(_targets)] = None
    modules_to_save: list[JsonText] | None = None
    layers_to_transform: None = None
    trainable_token_indices: None = None
    velora_config: None = None
    ensure_weight_tying: Literal[False] = False
    base_model_name_or_path: Annotated[JsonText, Field(min_length=1)]
    revision: JsonText | None = None

    @property
    def base(self) -> str:
        """Return the name of the base, with its revision if the file pins one."""
        pinned = re.fullmatch("[0-9a-f]{40}", self.revision or "")
        name = self.base_model_name_or_path
        return f"{name}@{self.revision}" if pinned and "@" not in name else name

    def violation(self) -> str | None:
        """Return which field asks for what is not merged, or None."""
        for name, value in (self.model_extra or {}).items():
            if name.startswith("use_") and value:
                return f"`{name}` is set"
        for pattern in (*self.rank_pattern, *self.alpha_pattern):
            if not PATTERN.fullmatch(pattern):
                return f"the pattern {quoted(pattern)} is not a name with wildcards"
        return None

    def rank_of(self, module: str) -> int:
        """Return the rank of a module's matrices."""
        return _by_pattern(self.rank_pattern, module) or self.r

    def scale_of(self, module: str) -> float:
        """Return the factor of a module's B A."""
        rank, alpha = self.rank_of(module), _by_pattern(self.alpha_pattern, module)
        alpha = self.lora_alpha if alpha is None else alpha
        return alpha / (math.sqrt(rank) if self.use_rslora else rank)


def is_peft(directory: Path) -> bool:
    """Return whether a folder holds an adapter that changes both sides."""
    return (directory / PEFT_CONFIG).is_file() and not (directory / DESCRIPTION).is_file()


def read_peft_config(directory: Path) -> PeftConfig:
    """Read `adapter_config.json`.

    Raises:
        CheckpointError: it asks for what is not merged here, with the command that merges it.
    """
    path = directory / PEFT_CONFIG
    content = artifact.read_json_object(path, CheckpointError)
    if not isinstance(content.get("base_model_name_or_path"), str):
        raise CheckpointError(
            f"{path}: `base_model_name_or_path` is not the name of an encoder: name the folder of "
            "the base, or its Hub name"
        )
    fix = f"merge it into its base by `{merge_command(directory, content)}`"
    config = parse_document(PeftConfig, content, path, CheckpointError, fix)
    if violation := config.violation():
        raise CheckpointError(f"{path}: {violation}: {fix}")
    return config


def merge_command(directory: Path, config: dict[str, Any]) -> str:
    """Return the command that writes the merged encoder beside the adapter's folder."""
    has_modules = (directory / "modules.json").is_file()
    base = str(config.get("base_model_name_or_path"))
    loaded = str(directory) if has_modules else base
    return python_command(
        "from peft import PeftModel as P; from transformers import AutoModel as A; "
        "from sentence_transformers import SentenceTransformer as S; "
        f"m = S({loaded!r}); m[0].model = P.from_pretrained(A.from_pretrained({base!r}), "
        f"{str(directory)!r}).merge_and_unload(); m.save({f'{directory}-merged'!r})"
    )


def _by_pattern(patterns: dict[str, Number], module: str) -> Number | None:
    """Return the value of the first pattern that matches a module's name or its end, or None."""
    found = (value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", module))
    return next(found, None)
