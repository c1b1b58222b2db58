"""The grid of an ablation: variants of a configuration, each with every seed.

A TOML file:

    base = "clear.toml"            # a training configuration
    seeds = [0, 1, 2]
    keep_outputs = false           # encoders are large; scores stay in run.json

    [every.dev]                    # changes to all variants
    every_steps = 60
    [variants.clear]               # the base as it is
    [variants.no-reverse]
    seeds = [0]                    # fewer for this variant
    objective = { reverse_weight = 0.0 }
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from trainer.config import RunConfig, Section, parse_config, read_toml
from trainer.errors import ConfigError


class Variant(BaseModel):
    """What one variant changes, beside its seeds; the configuration checks the changes."""

    model_config = ConfigDict(extra="allow", frozen=True)

    seeds: Annotated[list[int], Field(min_length=1)] | None = None


class Grid(Section):
    """What is compared with what."""

    base: Path
    seeds: Annotated[list[int], Field(min_length=1)] = [0]
    keep_outputs: bool = False
    every: dict[str, Any] = {}
    variants: Annotated[dict[str, Variant], Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class Cell:
    """One run of a grid."""

    variant: str
    seed: int
    config: RunConfig

    @property
    def name(self) -> str:
        """Name the run's folder."""
        return f"{self.variant}.seed{self.seed}"


def read_grid(path: Path) -> tuple[Grid, list[Cell]]:
    """Read a grid and check every configuration of it, before the first one trains.

    Returns:
        The grid and its cells: all variants with their first seed, then with the next.

    Raises:
        ConfigError: naming the file and the variant.
    """
    try:
        grid = Grid.model_validate(read_toml(path))
    except ValidationError as error:
        raise ConfigError(f"{path}: {error.errors(include_url=False)[0]['msg']}") from None
    base_path = path.parent / grid.base
    base = merged(read_toml(base_path), grid.every)
    cells = []
    for name, variant in grid.variants.items():
        changes = variant.model_extra or {}
        for order, seed in enumerate(variant.seeds or grid.seeds):
            try:
                config = parse_config(merged(base, {**changes, "seed": seed}), base_path)
            except ConfigError as error:
                raise ConfigError(f"{path}, variant {name}: {error}") from None
            cells.append((order, Cell(name, seed, config)))
    return grid, [cell for _, cell in sorted(cells, key=lambda ordered: ordered[0])]


def chosen(
    cells: Sequence[Cell], variants: Collection[str] = (), seeds: Collection[int] = ()
) -> list[Cell]:
    """Keep the cells of some variants and some seeds; where none are named, of all.

    Raises:
        ConfigError: no cell has a variant or a seed that was named, or both at once.
    """
    _check_known("variant", variants, [cell.variant for cell in cells])
    _check_known("seed", seeds, [cell.seed for cell in cells])
    kept = [
        cell
        for cell in cells
        if (not variants or cell.variant in variants) and (not seeds or cell.seed in seeds)
    ]
    if not kept:
        raise ConfigError("no variant that was named has a seed that was named in the grid")
    return kept


def _check_known(kind: str, named: Collection[object], known: Sequence[object]) -> None:
    for name in named:
        if name not in known:
            there = ", ".join(str(each) for each in dict.fromkeys(known))
            raise ConfigError(f"no {kind} of the grid: {name}; it has {there}")


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Put changes over a configuration, table by table.

    >>> merged({"a": {"x": 1, "y": 2}, "b": 3}, {"a": {"y": 5}})
    {'a': {'x': 1, 'y': 5}, 'b': 3}
    """
    result = dict(base)
    for name, value in changes.items():
        is_table = isinstance(value, Mapping) and isinstance(base.get(name), Mapping)
        result[name] = merged(base[name], value) if is_table else value
    return result
