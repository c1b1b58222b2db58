"""The rows of a training run: read from files, selected, with noise and English rows added."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from trainer.config import DataConfig
from trainer.data.languages import ENGLISH, canonical_language
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


def read_training_rows(
    config: DataConfig, seed: int, *, is_bridge: bool = False, reads_hard_queries: bool = False
) -> TrainingRows:
    """Read, select and augment the rows of a run.

    Args:
        config: the files, and what is selected and added.
        seed: of selection and noise.
        is_bridge: as in `read_rows`.
        reads_hard_queries: the objective reads a query for each hard negative.

    Raises:
        DataError: a line is not valid (file:line), a selected language has no row, a row has
            fewer hard negatives than the run asks for, or no queries for them, or
            `english_share` adds no row.
    """
    generator = random.Random(seed)
    rows: list[Row] = []
    groups: list[str] = []
    for number, path in enumerate(config.rows):
        for origin, row in read_rows(path, is_bridge=is_bridge):
            if config.languages and row.language not in config.languages:
                continue
            _check_negatives(origin, row, config.hard_negatives, reads_hard_queries)
            rows.append(row)
            groups.append(f"{number}:{row.language}")
    _check_languages(rows, config)
    if config.max_rows:
        chosen = sorted(generator.sample(range(len(rows)), min(config.max_rows, len(rows))))
        rows, groups = [rows[each] for each in chosen], [groups[each] for each in chosen]
    rows = [add_noise(row, config, generator) for row in rows]
    shares = _shares(groups, config)
    for number in range(len(rows)):
        row, file = rows[number], _file_of(groups[number])
        if generator.random() < config.english_share_of(file):
            rows.append(replace(row, language=ENGLISH, translated_query=row.query))
            groups.append(f"{file}:{ENGLISH}")
            shares[groups[-1]] = config.shares[file] if config.shares else 1.0
    _check_english(groups, config)
    return TrainingRows(tuple(rows), tuple(groups), shares)


def _file_of(group: str) -> int:
    return int(group.partition(":")[0])


def _shares(groups: Sequence[str], config: DataConfig) -> dict[str, float]:
    """Return how often an epoch repeats each group, so that its file's share is kept."""
    counts = Counter(groups)
    weights = {group: n ** (1 / config.language_temperature) for group, n in counts.items()}
    rows_of_file, weight_of_file = Counter[int](), dict.fromkeys(map(_file_of, counts), 0.0)
    for group, count in counts.items():
        rows_of_file[_file_of(group)] += count
        weight_of_file[_file_of(group)] += weights[group]
    shares = {}
    for group, count in counts.items():
        file = _file_of(group)
        share = config.shares[file] if config.shares else 1.0
        shares[group] = share * rows_of_file[file] * weights[group] / weight_of_file[file] / count
    return shares


def _check_negatives(origin: str, row: Row, wanted: int, reads_queries: bool) -> None:
    if len(row.hard_negatives) < wanted:
        raise DataError(
            f"{origin} has {len(row.hard_negatives)} hard negatives, data.hard_negatives asks for "
            f"{wanted}: mine them with `clear-trainer mine`, or ask for fewer"
        )
    if wanted and reads_queries and not row.hard_negative_queries:
        raise DataError(
            f"{origin} has no hard_negative_queries, which the objective `clear` reads for "
            f"data.hard_negatives = {wanted}: mine them with `clear-trainer mine` without "
            "--unpaired, or set data.hard_negatives = 0"
        )


def _check_languages(rows: Sequence[Row], config: DataConfig) -> None:
    for code in config.languages:
        try:
            canonical = canonical_language(code)
        except ValueError as error:
            raise DataError(f"data.languages: {error}") from None
        if code != canonical:
            raise DataError(f"data.languages: {code!r} is {canonical!r} in training rows: write it")
    missing = sorted(set(config.languages) - {row.language for row in rows})
    if missing or not rows:
        raise DataError(
            f"no row of {', '.join(map(str, config.rows))} is in {', '.join(missing) or 'them'}: "
            "check data.languages"
        )


def _check_english(groups: Sequence[str], config: DataConfig) -> None:
    for number, path in enumerate(config.rows):
        share = config.english_share_of(number)
        if share and f"{number}:{ENGLISH}" not in groups:
            raise DataError(
                f"data.english_share = {share:g} of the rows of {path} rounds to no row: set it "
                "higher, or to 0"
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
