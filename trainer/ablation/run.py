"""Runs every variant of a grid with every seed; skips the runs that are finished."""

import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from trainer.ablation.grid import read_grid, select_cells
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
    """Run the cells of a grid; write table and plot after each cell, so that they can be read.

    Args:
        path: the grid file.
        directory: folder for runs, table and plot.
        train: trains one configuration in one folder; returns at once if that run is finished.
        on_cell: called when a cell starts, with its name, its index and the number of cells.
        variants: run only these; the table always has all finished cells.
        seeds: run only these.

    Returns:
        The path of the table, in Markdown.
    """
    grid, cells = read_grid(path)
    wanted = select_cells(cells, variants, seeds)
    for number, cell in enumerate(wanted):
        on_cell(cell.name, number, len(wanted))
        run = directory / RUNS / cell.name
        train(cell.config, run)
        if not grid.keep_outputs:
            for name in ("encoder", "adapter", "checkpoints"):
                shutil.rmtree(run / name, ignore_errors=True)
        write_results(directory, cells)
    return directory / TABLE
