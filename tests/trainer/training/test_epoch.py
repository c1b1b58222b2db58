from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from trainer.config import RunConfig, parse_config
from trainer.data.rows import Row, write_rows
from trainer.errors import DataError
from trainer.training.epoch import read_epoch

ROW = Row(
    query="Which colors?",
    translated_query="Rangi zipi?",
    language="sw",
    passage_id="p",
    positive="Red and white.",
    query_id="q",
    hard_negatives=("A lake.",),
    hard_negative_queries=("Which lake?",),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten rows in Swahili and three in Yoruba, and a row without a hard negative query."""
    languages = ["sw"] * 10 + ["yo"] * 3
    rows = [replace(ROW, language=each, query_id=f"q{k}") for k, each in enumerate(languages)]
    write_rows(tmp_path / "rows.jsonl", rows)
    write_rows(tmp_path / "more.jsonl", rows)
    unpaired = [*rows[:4], *(replace(row, hard_negative_queries=()) for row in rows[4:])]
    write_rows(tmp_path / "unpaired.jsonl", unpaired)
    return tmp_path


def config(folder: Path, batch_rows: int = 4, **sections: Any) -> RunConfig:
    data = {"rows": ["rows.jsonl"], **sections.pop("data", {})}
    content = {"data": data, "optimizer": {"batch_rows": batch_rows}, **sections}
    return parse_config(content, folder / "c.toml")


def refusal(config: RunConfig) -> str:
    with pytest.raises(DataError) as caught:
        read_epoch(config)
    return str(caught.value)


def test_rows_that_fill_one_batch_are_taken_and_one_row_less_is_refused(folder: Path) -> None:
    assert len(read_epoch(config(folder, batch_rows=13)).rows) == 13

    assert refusal(config(folder, batch_rows=14)) == (
        f"{folder / 'rows.jsonl'}: an epoch has 13 rows, optimizer.batch_rows = 14 asks for more: "
        "lower it, or give more rows"
    )


def test_each_process_needs_a_batch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")

    assert len(read_epoch(config(folder, batch_rows=4)).rows) == 13
    assert "optimizer.batch_rows = 5 on each of 3 processes asks for more" in refusal(
        config(folder, batch_rows=5)
    )


def test_a_share_that_rounds_to_no_row_is_refused(folder: Path) -> None:
    def shares(second: float) -> RunConfig:
        return config(folder, data={"rows": ["rows.jsonl", "more.jsonl"], "shares": [1, second]})

    assert read_epoch(shares(0.05)).shares["1:sw"] == 0.05  # .65 of a row
    assert refusal(shares(0.03)) == (
        f"data.shares: 0.03 of the rows of {folder / 'more.jsonl'} rounds to no row: set it "
        "higher, or leave the file out"
    )


def test_a_share_of_english_that_adds_no_row_is_refused(folder: Path) -> None:
    message = refusal(config(folder, data={"english_share": 1e-6}))

    assert message == (
        f"data.english_share = 1e-06 of the rows of {folder / 'rows.jsonl'} rounds to no row: set "
        "it higher, or to 0"
    )


def test_separate_batches_that_leave_a_language_out_are_refused(folder: Path) -> None:
    separate = {"mixing": "separate"}

    assert len(read_epoch(config(folder, batch_rows=3, data=separate)).rows) == 13
    assert refusal(config(folder, batch_rows=4, data=separate)) == (
        'data.mixing = "separate" with optimizer.batch_rows = 4 leaves out yo (3 rows of '
        'rows.jsonl): lower batch_rows, give more rows, or set data.mixing = "mixed"'
    )


def test_rows_without_hard_negative_queries_are_refused_where_they_are_read(folder: Path) -> None:
    data = {"rows": ["unpaired.jsonl"], "hard_negatives": 1}

    assert refusal(config(folder, data=data)) == (
        f"{folder / 'unpaired.jsonl'}:5 has no hard_negative_queries, which the objective `clear` "
        "reads for data.hard_negatives = 1: mine them with `clear-trainer mine` without "
        "--unpaired, or set data.hard_negatives = 0"
    )
    info_nce = {"name": "info_nce"}
    no_reverse = {"reverse_weight": 0.0, "kl_weight": 0.0}
    for objective in (info_nce, no_reverse):
        assert read_epoch(config(folder, data=data, objective=objective)).rows
