"""Runs every variant of a grid with every seed; what is done is not done again."""

import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from trainer.ablation.grid import chosen, read_grid
from trainer.ablation.report import RUNS, TABLE, write_results
from trainer.config import RunConfig

Train = Callable[[RunConfig, Path], Mapping[str, Any]]


def ablate(
    path: Path,
    directory: Path,
    train: Train,
    on_cell: Callable[[str, int, int], None],
    *,
    variants: Collection[str] = (),
    seeds: Collection[int] = (),
) -> Path:
    """Run a grid's cells that are not done, and tabulate after each, so that part can be read.

    Args:
        path: the grid.
        directory: where runs, table and plot go; a finished cell is not run again.
        train: runs one configuration in one folder.
        on_cell: is told the cell that starts, its number and how many there are.
        variants: run these alone; the table still holds all that is done.
        seeds: run these alone.

    Returns:
        The table, Markdown.
    """
    grid, cells = read_grid(path)
    wanted = chosen(cells, variants, seeds)
    for number, cell in enumerate(wanted):
        on_cell(cell.name, number, len(wanted))
        run = directory / RUNS / cell.name
        train(cell.config, run)
        if not grid.keep_outputs:
            for name in ("encoder", "adapter", "checkpoints"):
                shutil.rmtree(run / name, ignore_errors=True)
        write_results(directory, cells)
    return directory / TABLE
