import csv
import io
import re
from typing import Any
from xml.etree import ElementTree

import pytest

from trainer.report.coverage import (
    coverage_csv,
    coverage_dots,
    coverage_markdown,
    coverage_rows,
    coverage_sections,
    language_record,
)


def evaluation(name: str, statements: dict[str, float], **questions: float) -> dict[str, Any]:
    entries = [
        {
            "kind": kind,
            "language": language,
            "num_queries": 10,
            "ndcg@10": value,
            "ndcg@10_interval": [value - 0.05, value + 0.05],
            "grade": "poor",
        }
        for kind, values in (("questions", questions), ("statements", statements))
        for language, value in values.items()
    ]
    return {"encoder": {"name": name, "control": None}, "coverage": entries}


TUNED = evaluation("tuned", {"ay": 0.61236, "sw": 0.7}, sw=0.9, en=0.95)
BASE = evaluation("base", {"ay": 0.5, "sw": 0.8}, sw=0.4, en=0.94)
CONTENT = {"evaluations": [TUNED, BASE], "comparisons": [{"base": "base", "encoder": "tuned"}]}


def test_the_record_holds_each_kind_and_the_number_of_all_queries() -> None:
    assert language_record(TUNED) == {
        "ay": {"statements": 0.6124, "n": 10},
        "sw": {"questions": 0.9, "statements": 0.7, "n": 20},
        "en": {"questions": 0.95, "n": 10},
    }


def test_languages_are_sorted_by_the_base_and_have_both_values_with_intervals() -> None:
    headings, rows = coverage_rows([TUNED, BASE], "statements", "base")

    assert headings == ["language", "queries", "tuned", "95 %", "base", "95 %", "grade of tuned"]
    assert rows == [
        ["sw", "10", "0.7000", "0.650 to 0.750", "0.8000", "0.750 to 0.850", "poor"],
        ["ay", "10", "0.6124", "0.562 to 0.662", "0.5000", "0.450 to 0.550", "poor"],
    ]


def test_the_csv_has_a_line_for_each_encoder_kind_and_language() -> None:
    lines = list(csv.DictReader(io.StringIO(coverage_csv([TUNED, BASE]))))

    assert len(lines) == 8
    assert lines[2] == {
        "kind": "statements",
        "language": "ay",
        "queries": "10",
        "encoder": "tuned",
        "ndcg@10": "0.6124",
        "low": "0.5624",
        "high": "0.6624",
        "grade": "poor",
    }


def test_a_plot_has_a_dot_with_an_interval_for_each_language_and_encoder() -> None:
    svg = coverage_dots([TUNED, BASE], "statements", "base")

    texts = [
        node.text for node in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")
    ]
    assert [each for each in texts if each in ("Swahili (sw)", "Aymara (ay)", "tuned", "base")] == [
        *("Swahili (sw)", "Aymara (ay)"),
        *("tuned", "base"),
    ]
    assert svg == coverage_dots([TUNED, BASE], "statements", "base")


@pytest.mark.parametrize(("count", "columns"), [(60, 1), (61, 2), (121, 3), (200, 3)])
def test_many_languages_stand_in_columns_and_none_is_lost(count: int, columns: int) -> None:
    codes = [f"q{chr(97 + number // 26)}{chr(97 + number % 26)}" for number in range(count)]
    shown = evaluation("base", dict.fromkeys(codes, 0.5))

    svg = coverage_dots([shown], "statements", "base")

    assert svg.count('id="axes_') == columns
    assert sorted(re.findall(r">(q[a-z]{2})</text>", svg)) == codes


def test_sections_show_the_kinds_that_another_language_has() -> None:
    english = {"evaluations": [evaluation("base", {}, en=1.0)], "comparisons": []}
    older = {"evaluations": [{"encoder": {"name": "x", "control": None}}], "comparisons": []}

    assert [each["kind"] for each in coverage_sections(CONTENT)] == ["questions", "statements"]
    assert list(coverage_sections(english)) == []
    assert list(coverage_sections(older)) == []


def test_encoders_of_one_name_are_both_shown() -> None:
    other = {**BASE, "encoder": TUNED["encoder"]}

    _, rows = coverage_rows([TUNED, other], "statements", "tuned")

    assert [row[2:5:2] for row in rows] == [["0.7000", "0.8000"], ["0.6124", "0.5000"]]


def test_markdown_has_a_table_for_each_kind() -> None:
    lines = coverage_markdown(CONTENT).splitlines()

    assert [line for line in lines if line.startswith("#")] == [
        "## Coverage: questions",
        "## Coverage: statements",
    ]
    assert "| ay | 10 | 0.6124 | 0.562 to 0.662 | 0.5000 | 0.450 to 0.550 | poor |" in lines
