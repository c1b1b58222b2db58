"""Training rows: one JSON object a line, with fields named by role; errors name file and line.

| field | meaning |
|---|---|
| `query_id`, `query` | an English query |
| `language`, `translated_query` | the same query in another language (BCP 47) |
| `passage_id`, `positive` | the English passage that answers it; a frozen bridge needs none |
| `group_id` | rows of one group are never each other's negatives; defaults to `passage_id` |
| `hard_negatives` | passages that are similar to an answer but are none |
| `hard_negative_ids` | their passage ids: as many, or none |
| `hard_negative_queries` | queries in `language`, each for its negative: as many, or none |
| `cross_weight` | the row's weight in the frozen bridge's `cross`; 1, or 0 without a passage |

Ids join rows with qrels and mask false negatives; a negative without an id is compared by its text.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from service.retrieval.storage.json_lines import read_json_lines
from service.retrieval.text import is_blank
from trainer.data.languages import canonical_language
from trainer.errors import DataError, OutputError

MAX_LINE_BYTES = 2**20
MAX_WEIGHT = 1000
TEXTS = ("query", "translated_query", "language", "passage_id", "positive", "query_id")
OPTIONAL = ("group_id", "cross_weight")
LISTS = ("hard_negatives", "hard_negative_queries", "hard_negative_ids")


@dataclass(frozen=True, slots=True)
class Row:
    """A query in two languages, its passage, and its hard negatives."""

    query: str
    translated_query: str
    language: str
    passage_id: str
    positive: str
    query_id: str
    group_id: str = ""
    hard_negatives: tuple[str, ...] = ()
    hard_negative_queries: tuple[str, ...] = ()
    hard_negative_ids: tuple[str, ...] = ()
    cross_weight: float = 1.0

    def __post_init__(self) -> None:
        """Default the group to the passage."""
        if not self.group_id:
            object.__setattr__(self, "group_id", self.passage_id)
        if not self.positive:
            object.__setattr__(self, "cross_weight", 0.0)


def read_rows(path: Path, *, is_bridge: bool = False) -> Iterator[tuple[str, Row]]:
    """Yield the rows of a file, each with its origin (`file:line`).

    Args:
        path: `.jsonl`, also `.jsonl.gz`.
        is_bridge: the rows are for the frozen bridge, so that a row may lack a passage, and
            `cross_weight` has an effect.

    Raises:
        DataError: a role is missing or empty, the language is unknown, the numbers of negatives
            differ, a positive is among its own negatives, a passage id has two texts, a line is
            longer than `MAX_LINE_BYTES`, not UTF-8 or not JSON (file:line); or there is no row.
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist: name a .jsonl file of training rows")
    texts = PassageTexts()
    origin = ""
    for origin, parse in read_json_lines(path, DataError, MAX_LINE_BYTES):
        row = row_of(origin, parse())
        if not is_bridge and row.cross_weight != 1:
            raise DataError(
                f"{origin} has {'a `cross_weight`' if row.positive else 'no passage'}: only the "
                "frozen bridge can train on it, nothing else reads it"
            )
        texts.check(origin, row)
        yield origin, row
    if not origin:
        raise DataError(f"{path} holds no rows: make it with `clear-trainer import`")


def write_rows(path: Path, rows: Iterable[Row]) -> int:
    """Write rows as JSON lines, atomically.

    Returns:
        The number of rows.

    Raises:
        OutputError: the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.part")
    count = 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8") as file:
            for row in rows:
                file.write(row_line(row))
                count += 1
        temporary.replace(path)
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written ({error.strerror}): name another file"
        ) from None
    finally:
        with suppress(OSError):
            temporary.unlink()
    return count


def row_line(row: Row) -> str:
    """Serialize a row as a line; empty and default fields are left out."""
    content = {name: value for name, value in asdict(row).items() if value not in ((), "")}
    if row.group_id == row.passage_id:
        content.pop("group_id", None)
    if row.cross_weight == 1 or not row.positive:
        del content["cross_weight"]
    return json.dumps(content, ensure_ascii=False) + "\n"


class PassageTexts:
    """Checks that a passage id always stands for the same text."""

    def __init__(self) -> None:
        """Start without passages."""
        self._seen: dict[str, tuple[int, str]] = {}

    def check(self, origin: str, row: Row) -> None:
        """Compare a row's positive and negatives with those of earlier rows.

        Raises:
            DataError: an id has another text than before; the message names both places.
        """
        named = zip(row.hard_negative_ids, row.hard_negatives, strict=False)
        own = [(row.passage_id, row.positive)] if row.positive else []
        for passage_id, text in (*own, *named):
            known, first = self._seen.setdefault(passage_id, (hash(text), origin))
            if known != hash(text):
                raise DataError(
                    f"{origin} gives the passage {passage_id!r} another text than {first}: "
                    "give each text an id of its own"
                )


def row_of(origin: str, record: object) -> Row:
    """Validate a record and return it as a row.

    Raises:
        DataError: a field is not valid; the message names the origin and the field.
    """
    if not isinstance(record, dict):
        raise DataError(f"{origin} is not a JSON object with the roles {', '.join(TEXTS)}")
    unknown = sorted(set(record) - {each.name for each in fields(Row)})
    if unknown:
        raise DataError(
            f"{origin} has the unknown field {unknown[0]!r}: a row has "
            f"{', '.join(TEXTS + OPTIONAL + LISTS)}"
        )
    try:
        language = canonical_language(_text(origin, record, "language"))
    except ValueError as error:
        raise DataError(f"{origin} has an unknown language: {error}") from None
    has_passage = record.get("positive") is not None or record.get("passage_id") is not None
    row = Row(
        query=_text(origin, record, "query"),
        translated_query=_text(origin, record, "translated_query"),
        language=language,
        passage_id=_text(origin, record, "passage_id") if has_passage else "",
        positive=_text(origin, record, "positive") if has_passage else "",
        query_id=_text(origin, record, "query_id"),
        group_id=_text(origin, record, "group_id") if record.get("group_id") else "",
        hard_negatives=_texts(origin, record, "hard_negatives"),
        hard_negative_queries=_texts(origin, record, "hard_negative_queries"),
        hard_negative_ids=_texts(origin, record, "hard_negative_ids"),
        cross_weight=_weight(origin, record),
    )
    _check_negatives(origin, row)
    return row


def _text(origin: str, record: Mapping[str, Any], name: str) -> str:
    value = record.get(name)
    if value is None:
        raise DataError(f"{origin} lacks the role `{name}`")
    return _checked(origin, name, value)


def _weight(origin: str, record: Mapping[str, Any]) -> float:
    value = record.get("cross_weight", 1.0)
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not 0 <= value <= MAX_WEIGHT
    ):
        raise DataError(f"{origin} has a `cross_weight` that is no number from 0 to {MAX_WEIGHT}")
    return float(value)


def _texts(origin: str, record: Mapping[str, Any], name: str) -> tuple[str, ...]:
    values = record.get(name) or ()
    if not isinstance(values, list | tuple):
        raise DataError(f"{origin} has `{name}` that is not a list of texts")
    return tuple(_checked(origin, f"{name}[{k}]", value) for k, value in enumerate(values))


def _checked(origin: str, name: str, value: object) -> str:
    if not isinstance(value, str):
        raise DataError(f"{origin} has `{name}` that is not text")
    if is_blank(value):
        raise DataError(f"{origin} has an empty `{name}`: fill it or remove the line")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise DataError(
            f"{origin} has half a surrogate pair in `{name}`: replace the character"
        ) from None
    return value


def _check_negatives(origin: str, row: Row) -> None:
    expected = len(row.hard_negatives)
    for name in ("hard_negative_queries", "hard_negative_ids"):
        count = len(getattr(row, name))
        if count not in (0, expected):
            raise DataError(
                f"{origin} has {expected} `hard_negatives` and {count} `{name}`: "
                "give as many, in the same order, or none"
            )
    if row.positive in row.hard_negatives or row.passage_id in row.hard_negative_ids:
        raise DataError(f"{origin} has its positive among its `hard_negatives`: remove it there")
    if {row.query, row.translated_query} & set(row.hard_negative_queries):
        raise DataError(
            f"{origin} has its own query among its `hard_negative_queries`: remove it there"
        )
