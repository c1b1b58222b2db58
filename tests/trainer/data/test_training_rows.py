from collections import Counter
from dataclasses import replace
from math import inf
from pathlib import Path

import pytest

from trainer.config import DataConfig
from trainer.data.rows import Row, write_rows
from trainer.data.training_rows import read_training_rows
from trainer.errors import DataError

ROW = Row(
    query="Which colours?",
    translated_query="Ki\u0301 ni i\u0300tu\u0301mo\u0323\u0300 a\u0300wo\u0323\u0300?",
    language="yo",
    passage_id="p",
    positive="Red and white.",
    query_id="q",
    hard_negatives=("A lake.", "A hill."),
    hard_negative_queries=("Which lake?", "Which hill?"),
)


def test_english_queries_are_added_at_the_share_of_their_file(tmp_path: Path) -> None:
    paths = [tmp_path / "questions.jsonl", tmp_path / "news.jsonl"]
    for path in paths:
        write_rows(path, [replace(ROW, query_id=f"q{number}") for number in range(400)])

    made = read_training_rows(DataConfig(rows=paths, shares=[1.0, 0.1], english_share=0.25), seed=0)

    counts = Counter(made.groups)
    assert counts["0:yo"] == counts["1:yo"] == 400
    assert all(60 < counts[group] < 140 for group in ("0:en", "1:en"))
    assert made.shares == {"0:yo": 1.0, "0:en": 1.0, "1:yo": 0.1, "1:en": 0.1}
    english = [row for row in made.rows if row.language == "en"]
    assert {row.translated_query for row in english} == {ROW.query}


def test_each_file_may_have_its_own_share_of_english(tmp_path: Path) -> None:
    paths = [tmp_path / "questions.jsonl", tmp_path / "news.jsonl"]
    for path in paths:
        write_rows(path, [replace(ROW, query_id=f"q{number}") for number in range(20)])

    made = read_training_rows(DataConfig(rows=paths, english_share=[1.0, 0.0]), seed=0)

    assert Counter(made.groups) == {"0:yo": 20, "1:yo": 20, "0:en": 20}


@pytest.mark.parametrize(
    ("temperature", "expected"), [(1.0, [90.0, 10.0]), (2.0, [75.0, 25.0]), (inf, [50.0, 50.0])]
)
def test_a_temperature_evens_the_languages_and_keeps_the_share_of_the_file(
    tmp_path: Path, temperature: float, expected: list[float]
) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [replace(ROW, language="yo" if k < 180 else "sw", query_id=f"q{k}") for k in range(200)]
    write_rows(path, rows)
    config = DataConfig(rows=[path], shares=[0.5], language_temperature=temperature)

    made = read_training_rows(config, seed=0)

    drawn = [made.shares["0:yo"] * 180, made.shares["0:sw"] * 20]
    assert drawn == pytest.approx(expected)


def test_a_row_without_a_passage_is_for_a_bridge_only(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    pair = replace(ROW, passage_id="", positive="", group_id="")
    write_rows(path, [ROW, pair])
    config = DataConfig(rows=[path])

    assert read_training_rows(config, 0, is_bridge=True).rows[1].cross_weight == 0
    with pytest.raises(DataError, match=r"rows.jsonl:2 has no passage: only the frozen bridge"):
        read_training_rows(config, 0)
