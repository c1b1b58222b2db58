"""The rows of a training run: read from files, selected, with noise and English rows added."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from trainer.config import DataConfig
from trainer.data.languages import ENGLISH
from trainer.data.rows import Row, read_rows
from trainer.errors import DataError


@dataclass(frozen=True, slots=True)
class TrainingRows:
    """The rows of a run, and how they are sampled.

    Attributes:
        rows: all rows.
        groups: the group of each row, `<number of its file>:<language>`.
        shares: how often an epoch repeats the rows of a group.
    """

    rows: tuple[Row, ...]
    groups: tuple[str, ...]
    shares: Mapping[str, float]


def read_training_rows(config: DataConfig, seed: int) -> TrainingRows:
    """Read, select and augment the rows of a run.

    Raises:
        DataError: a line is not valid (file:line), a selected language has no row, or a row has
            fewer hard negatives than the run asks for.
    """
    generator = random.Random(seed)
    rows: list[Row] = []
    groups: list[str] = []
    shares: dict[str, float] = {}
    for number, path in enumerate(config.rows):
        share = config.shares[number] if config.shares else 1.0
        for origin, row in read_rows(path):
            if config.languages and row.language not in config.languages:
                continue
            _check_negatives(origin, row, config.hard_negatives)
            rows.append(row)
            groups.append(f"{number}:{row.language}")
            shares[groups[-1]] = share
    _check_languages(rows, config)
    if config.max_rows:
        chosen = sorted(generator.sample(range(len(rows)), min(config.max_rows, len(rows))))
        rows, groups = [rows[each] for each in chosen], [groups[each] for each in chosen]
    rows = [add_noise(row, config, generator) for row in rows]
    english = [each for each in range(len(rows)) if generator.random() < config.english_share]
    for number in english:
        row, file = rows[number], groups[number].partition(":")[0]
        rows.append(replace(row, language=ENGLISH, translated_query=row.query))
        groups.append(f"{file}:{ENGLISH}")
        shares[groups[-1]] = shares[groups[number]]
    return TrainingRows(tuple(rows), tuple(groups), shares)


def _check_negatives(origin: str, row: Row, wanted: int) -> None:
    if len(row.hard_negatives) < wanted:
        raise DataError(
            f"{origin} has {len(row.hard_negatives)} hard negatives, data.hard_negatives asks for "
            f"{wanted}: mine them with `clear-trainer mine`, or ask for fewer"
        )


def _check_languages(rows: Sequence[Row], config: DataConfig) -> None:
    missing = sorted(set(config.languages) - {row.language for row in rows})
    if missing or not rows:
        raise DataError(
            f"no row of {', '.join(map(str, config.rows))} is in {', '.join(missing) or 'them'}: "
            "check data.languages"
        )


def add_noise(row: Row, config: DataConfig, generator: random.Random) -> Row:
    """Drop and shuffle words of the translated query, to simulate a poor translation."""
    if not config.dropped_words and not config.shuffled_words:
        return row
    words = row.translated_query.split()
    kept = [word for word in words if generator.random() >= config.dropped_words] or words[:1]
    moved = [place for place in range(len(kept)) if generator.random() < config.shuffled_words]
    order = generator.sample(moved, len(moved))
    shuffled = list(kept)
    for place, source in zip(moved, order, strict=True):
        shuffled[place] = kept[source]
    return replace(row, translated_query=" ".join(shuffled))
