"""TOML files of the trainer: reading, the types of their fields, and the words for their errors."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.retrieval.defaults import MAX_SEED
from trainer.errors import ConfigError

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
FilePath = Annotated[Path, Field(strict=False)]  # TOML has text only


class Section(BaseModel):
    """A table of a file: immutable, without unknown fields; no value is converted or infinite."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


SectionType = TypeVar("SectionType", bound=Section)


def read_toml(path: Path) -> dict[str, object]:
    """Read a TOML file.

    Raises:
        ConfigError: the file is missing or not valid TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}): name a .toml file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None


def parse_section(
    model: type[SectionType], content: Mapping[str, object], path: Path
) -> SectionType:
    """Validate the content of a file.

    Raises:
        ConfigError: fields are unknown or not valid; the message names the file and the fields.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        faults: dict[str, list[str]] = {}
        for fault in error.errors(include_url=False, include_input=False):
            place = _place(fault["loc"], content, is_missing=fault["type"] == "missing")
            message = fault["msg"].removeprefix("Value error, ").replace("Input should", "must")
            faults.setdefault(place, []).append(message)
        # A field of several types has a message for each of them.
        text = "; ".join(f"{place}: {' or '.join(found)}" for place, found in faults.items())
        raise ConfigError(f"{path}: {text}") from None


def _place(location: tuple[str | int, ...], content: object, *, is_missing: bool) -> str:
    """Return the path of a field, without pydantic's names of the types that it may have."""
    parts: list[str] = []
    value: Any = content
    for part in location:
        is_field = isinstance(value, Mapping) and (part in value or is_missing)
        if is_field or (isinstance(value, list) and isinstance(part, int)):
            parts.append(str(part))
            value = None if is_missing and part not in value else value[part]
    return ".".join(parts) or "the file"
