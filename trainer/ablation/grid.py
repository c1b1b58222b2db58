"""The grid of an ablation: variants of a training configuration, each with every seed.

It is a TOML file:

    base = "clear.toml"            # a training configuration
    seeds = [0, 1, 2]
    keep_outputs = false           # delete the encoders; scores stay in run.json

    [every.dev]                    # changes for all variants
    every_steps = 60
    [variants.clear]               # the base without changes
    [variants.no-reverse]
    seeds = [0]                    # fewer for this variant
    objective = { reverse_weight = 0.0 }
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, field_validator

from trainer.config import RunConfig, ignored_fields, parse_config
from trainer.errors import ConfigError
from trainer.toml import FilePath, Section, Seed, parse_section, read_toml

NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")


class Variant(Section):
    """A variant: its changes as extra fields, checked as a configuration, and its seeds."""

    model_config = ConfigDict(extra="allow")

    seeds: Annotated[list[Seed], Field(min_length=1)] | None = None


class Grid(Section):
    """The content of a grid file."""

    base: FilePath
    seeds: Annotated[list[Seed], Field(min_length=1)] = [0]
    keep_outputs: bool = False
    every: dict[str, Any] = {}
    variants: Annotated[dict[str, Variant], Field(min_length=1)]

    @field_validator("variants")
    @classmethod
    def _names_are_plain(cls, variants: dict[str, Variant]) -> dict[str, Variant]:
        for name in variants:
            if not NAME.fullmatch(name):
                raise ValueError(
                    f"the name {name!r} is a folder's: write letters, digits, `-`, `_` and `.`, "
                    "not first a dot"
                )
        return variants


@dataclass(frozen=True, slots=True)
class Cell:
    """One run of a grid: a variant with a seed."""

    variant: str
    seed: int
    config: RunConfig

    @property
    def name(self) -> str:
        """Return the name of the run's folder."""
        return f"{self.variant}.seed{self.seed}"


def read_grid(path: Path) -> tuple[Grid, list[Cell]]:
    """Read a grid and check all its configurations, so that errors show before training.

    Returns:
        The grid and its cells: all variants with their first seed, then with the next.

    Raises:
        ConfigError: a file or a variant is invalid; names both.
    """
    grid = parse_section(Grid, read_toml(path), path)
    base_path = path.parent / grid.base
    base = merge_tables(read_toml(base_path), grid.every)
    cells = []
    for name, variant in grid.variants.items():
        changes = variant.model_extra or {}
        for order, seed in enumerate(variant.seeds or grid.seeds):
            try:
                content = merge_tables(_fitting(base, changes), {**changes, "seed": seed})
                config = parse_config(content, base_path)
            except ConfigError as error:
                raise ConfigError(f"{path}, variant {name}: {error}") from None
            cells.append((order, Cell(name, seed, config)))
    return grid, [cell for _, cell in sorted(cells, key=lambda ordered: ordered[0])]


def _fitting(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the base without the weights that another objective of a variant does not read."""
    name = changes.get("objective", {}).get("name")
    objective = base.get("objective", {})
    if name is None or name == objective.get("name"):
        return dict(base)
    ignored = ignored_fields(name)
    kept = {key: value for key, value in objective.items() if key not in ignored}
    return {**base, "objective": kept}


def select_cells(
    cells: Sequence[Cell], variants: Collection[str] = (), seeds: Collection[int] = ()
) -> list[Cell]:
    """Return the cells of the named variants and seeds; an empty selection means all.

    Raises:
        ConfigError: a named variant or seed is not in the grid, or no cell has both.
    """
    _check_known("variant", variants, [cell.variant for cell in cells])
    _check_known("seed", seeds, [cell.seed for cell in cells])
    kept = [
        cell
        for cell in cells
        if (not variants or cell.variant in variants) and (not seeds or cell.seed in seeds)
    ]
    if not kept:
        raise ConfigError("none of the named variants has one of the named seeds in the grid")
    return kept


def _check_known(kind: str, named: Collection[object], known: Sequence[object]) -> None:
    for name in named:
        if name not in known:
            available = ", ".join(str(each) for each in dict.fromkeys(known))
            raise ConfigError(f"the grid has no {kind} {name}: name one of {available}")


def merge_tables(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration with changes applied, merged table by table.

    >>> merge_tables({"a": {"x": 1, "y": 2}, "b": 3}, {"a": {"y": 5}})
    {'a': {'x': 1, 'y': 5}, 'b': 3}
    """
    result = dict(base)
    for name, value in changes.items():
        is_table = isinstance(value, Mapping) and isinstance(base.get(name), Mapping)
        result[name] = merge_tables(base[name], value) if is_table else value
    return result
