"""Columns of a training batch: the texts that are embedded, and the passage codes that mask them.

A column holds one text of every row: the query, the translated query, the passage, the k-th hard
negative. The loss embeds a column at a time.
"""

from collections.abc import Callable, Sequence

from trainer.data.rows import Row

# sentence-transformers warns about a third column that is called `positive`.
PASSAGE = "passage"
HARD_NEGATIVE = "hard_negative_{}"
HARD_NEGATIVE_QUERY = "hard_negative_query_{}"


def text_columns(
    rows: Sequence[Row], names: Sequence[str], prepare: Callable[[str], str]
) -> dict[str, list[str]]:
    """Return the named columns of rows: `query`, `translated_query`, `hard_negative_1`, ...

    Args:
        rows: the rows of training.
        names: the columns.
        prepare: prepares a text, as the encoder prepares what it serves.
    """
    return {name: [prepare(_text(row, name)) for row in rows] for name in names}


def _text(row: Row, name: str) -> str:
    role, _, number = name.rpartition("_")
    if role == "hard_negative":
        return row.hard_negatives[int(number) - 1]
    if role == "hard_negative_query":
        return row.hard_negative_queries[int(number) - 1]
    return row.positive if name == PASSAGE else str(getattr(row, name))


def passage_codes(rows: Sequence[Row], num_negatives: int) -> list[list[int]]:
    """Number the passages of rows; passages of one group share a number.

    Passages of one group answer each other's queries, so none is a negative of the others.

    Returns:
        For each row the number of its positive, then the numbers of its hard negatives.
    """
    group_of = {row.passage_id: row.group_id for row in rows}
    group_of |= {row.positive: row.group_id for row in rows}  # a negative may come without an id
    numbers: dict[str, int] = {}

    def number(row: Row, k: int) -> int:
        text = row.hard_negatives[k]
        passage_id = row.hard_negative_ids[k] if row.hard_negative_ids else text
        group = group_of.get(passage_id) or group_of.get(text) or passage_id
        return numbers.setdefault(group, len(numbers))

    return [
        [
            numbers.setdefault(row.group_id, len(numbers)),
            *(number(row, k) for k in range(num_negatives)),
        ]
        for row in rows
    ]
