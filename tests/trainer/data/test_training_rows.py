from collections import Counter
from dataclasses import replace
from pathlib import Path

from trainer.config import DataConfig
from trainer.data.rows import Row, write_rows
from trainer.data.training_rows import read_training_rows

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
