"""Markdown tables, as reports, data cards and model cards write them."""

from collections.abc import Sequence


def markdown_table(
    headings: Sequence[str], rows: Sequence[Sequence[object]], *, aligns_right: bool = False
) -> str:
    r"""Format a table in Markdown, one line a row, without a line break at the end.

    Cells are converted to strings, line breaks in them become spaces, and `|` is escaped, because
    names in a cell may come from files that others wrote.

    Args:
        headings: of the columns.
        rows: cells, as many in a row as there are headings.
        aligns_right: align every column but the first to the right, as figures are read.

    >>> print(markdown_table(["set", "nDCG@10"], [["a|b", 0.5]], aligns_right=True))
    | set | nDCG@10 |
    |:--|--:|
    | a\|b | 0.5 |
    """
    marks = [":--", *["--:"] * (len(headings) - 1)] if aligns_right else ["---"] * len(headings)
    return "\n".join([_row(headings), f"|{'|'.join(marks)}|", *map(_row, rows)])


def _row(cells: Sequence[object]) -> str:
    texts = [" ".join(str(cell).split()).replace("|", "\\|") for cell in cells]
    return f"| {' | '.join(texts)} |"
