"""The rows of an epoch: how many each group contributes, and whether they fill its batches.

A group is a file's rows of one language, `<number of the file>:<language>`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from trainer.config import RunConfig
from trainer.data.training_rows import TrainingRows, read_training_rows
from trainer.errors import DataError
from trainer.training.device import num_processes


def rows_of_epoch(groups: Sequence[str], shares: Mapping[str, float]) -> dict[str, int]:
    """Return how many rows of each group an epoch draws.

    Args:
        groups: the group of each row.
        shares: how often an epoch repeats a group's rows; 1 for a group that is not named.

    >>> rows_of_epoch(["0:sw"] * 10 + ["0:yo"] * 4, {"0:sw": 0.5, "0:yo": 0.01})
    {'0:sw': 5, '0:yo': 1}
    """
    # A small share of few rows is no reason to leave a language out.
    return {
        group: max(1, round(count * shares.get(group, 1.0)))
        for group, count in Counter(groups).items()
    }


def read_epoch(config: RunConfig) -> TrainingRows:
    """Read the rows of a run, and check that they make its batches.

    Raises:
        DataError: as `read_training_rows` and `check_epoch`.
    """
    rows = read_training_rows(
        config.data,
        config.seed,
        is_bridge=config.objective.freezes_passages,
        reads_hard_queries=config.objective.reads_hard_queries,
    )
    check_epoch(rows, config, num_processes())
    return rows


def check_epoch(rows: TrainingRows, config: RunConfig, num_processes: int = 1) -> None:
    """Refuse rows that do not make the batches which the configuration asks for.

    Raises:
        DataError: a file's share rounds to no row, the rows do not fill a batch of each process,
            or separate batches would leave a language out.
    """
    _check_shares(rows, config)
    counts, size = rows_of_epoch(rows.groups, rows.shares), config.optimizer.batch_rows
    files = ", ".join(map(str, config.data.rows))
    if sum(counts.values()) < size * num_processes:
        processes = f" on each of {num_processes} processes" if num_processes > 1 else ""
        raise DataError(
            f"{files}: an epoch has {sum(counts.values())} rows, optimizer.batch_rows = {size}"
            f"{processes} asks for more: lower it, or give more rows"
        )
    short = [group for group, count in counts.items() if count < size]
    if config.data.mixing == "separate" and short:
        names = ", ".join(_words(group, counts, config) for group in short)
        raise DataError(
            f'data.mixing = "separate" with optimizer.batch_rows = {size} leaves out {names}: '
            'lower batch_rows, give more rows, or set data.mixing = "mixed"'
        )


def _check_shares(rows: TrainingRows, config: RunConfig) -> None:
    drawn = dict.fromkeys(range(len(config.data.rows)), 0.0)
    for group in rows.groups:
        drawn[int(group.partition(":")[0])] += rows.shares.get(group, 1.0)
    for number, share in enumerate(config.data.shares):
        if round(drawn[number]) == 0:
            raise DataError(
                f"data.shares: {share:g} of the rows of {config.data.rows[number]} rounds to no "
                "row: set it higher, or leave the file out"
            )


def _words(group: str, counts: Mapping[str, int], config: RunConfig) -> str:
    number, _, language = group.partition(":")
    return f"{language} ({counts[group]} rows of {config.data.rows[int(number)].name})"
