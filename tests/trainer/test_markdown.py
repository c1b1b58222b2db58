from trainer.markdown import markdown_table


def test_a_table_has_a_line_for_headings_alignment_and_each_row() -> None:
    table = markdown_table(["set", "nDCG@10"], [["tea", 0.5], ["salt", 0.25]])

    assert table.splitlines() == [
        "| set | nDCG@10 |",
        "|---|---|",
        "| tea | 0.5 |",
        "| salt | 0.25 |",
    ]


def test_all_columns_but_the_first_are_aligned_to_the_right() -> None:
    table = markdown_table(["set", "queries", "nDCG@10"], [], aligns_right=True)

    assert table.splitlines()[1] == "|:--|--:|--:|"


def test_a_cell_cannot_break_the_table() -> None:
    table = markdown_table(["name"], [["a | b\nc"]])

    assert table.splitlines()[2:] == ["| a \\| b c |"]
