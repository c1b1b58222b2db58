import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from trainer.errors import DataError
from trainer.evaluation.comparison import compare, comparison_content
from trainer.evaluation.result import Evaluation, Result
from trainer.evaluation.tasks import Task
from trainer.report.page import Training, html_page, read_report, read_training
from trainer.report.page_tables import verdict
from trainer.report.plots import difference_bars, language_dots, language_order
from trainer.report.tables import evaluation_content

ORDER = ["en", "de", "sw"]
LOG = [
    {"step": 1, "loss": 2.0, "terms": {"forward": 1.5, "kl": 0.5}},
    {"step": 2, "loss": 1.0, "terms": {"forward": 0.8, "kl": 0.2}},
]


def evaluation(name: str, gain: float) -> Evaluation:
    results = [
        Result(
            Task("tea", direction, language, language, ("en",)),
            {f"q{number}": f"a{number // 2}" for number in range(8)},
            {"ndcg@10": {f"q{number}": 0.1 + number / 20 + gain for number in range(8)}},
        )
        for direction, language in [("en-en", "en"), ("L-en", "de"), ("L-en", "sw")]
    ]
    passages = {"tea": {"en": 4}}
    return Evaluation(
        name, "f" * 64, "p" * 64, 64, "cpu", "torch-fp32", None, passages, tuple(results)
    )


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    """The report of an encoder whose name needs escaping in HTML, and its base."""
    tuned, base = evaluation("<tuned>", 0.2), evaluation("base", 0.0)
    outcome = {
        "evaluations": [evaluation_content(each) for each in (tuned, base)],
        "comparisons": [comparison_content(compare(tuned, base))],
    }
    found: dict[str, Any] = json.loads(json.dumps(outcome))
    return found


def test_the_page_is_complete_and_self_contained(content: dict[str, Any]) -> None:
    page = html_page(content, Training(LOG))

    assert page.startswith("<!doctype html>")
    assert not re.search(r"<script|<link|<img|src=|@import|url\((?!#)", page)
    assert not re.search(r'(?<!xlink:)href="(?!#)', page)
    for text in ("tea, en-en", "tea, L-en", "English gate on tea: passed", "<td>+0.2000</td>"):
        assert text in page
    assert page.count("<svg") == 1 + 2 * 2 + 1  # heat map, dots and bars a direction, loss


def test_names_are_escaped(content: dict[str, Any]) -> None:
    page = html_page(content, Training())

    assert "&lt;tuned&gt;" in page
    assert "<tuned>" not in page


def test_every_plot_is_well_formed(content: dict[str, Any]) -> None:
    for svg in re.findall(r"<svg.*?</svg>", html_page(content, Training(LOG)), re.DOTALL):
        ElementTree.fromstring(svg)


def test_dots_name_each_language_and_each_encoder(content: dict[str, Any]) -> None:
    svg = language_dots(content["evaluations"], "tea", "L-en", ["sw", "de"])

    for text in (
        "German (de)",
        "Swahili (sw)",
        "base",
        "&lt;tuned&gt;",
        "nDCG@10, 95 % interval over articles",
    ):
        assert f">{text}</text>" in svg


def test_bars_end_with_the_macro_mean(content: dict[str, Any]) -> None:
    (comparison,) = content["comparisons"]

    assert "macro mean" in difference_bars(comparison, "tea", "L-en", ORDER)
    assert "macro mean" not in difference_bars(comparison, "tea", "en-en", ORDER)


def test_the_same_report_gives_the_same_page(content: dict[str, Any]) -> None:
    assert html_page(content, Training(LOG)) == html_page(content, Training(LOG))


def test_loss_terms_and_the_blends_curve_come_from_their_files(
    tmp_path: Path, content: dict[str, Any]
) -> None:
    lines = [*LOG, {"step": 2, "dev": {"ndcg@10": 0.5}}]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "curve.svg").write_text('<?xml version="1.0"?>\n<svg id="curve"></svg>\n')

    training = read_training(tmp_path / "log.jsonl", tmp_path / "curve.svg")

    assert training.log == LOG
    page = html_page(content, training)
    assert '<svg id="curve"></svg>' in page
    assert "<?xml" not in page
    for term in ("forward", "kl"):
        assert f">{term}</text>" in page


@pytest.mark.parametrize("text", ["", "[]\n", '{"step": 1}\n'])
def test_a_log_without_loss_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "log.jsonl").write_text(text)

    with pytest.raises(DataError, match=r"log\.jsonl"):
        read_training(tmp_path / "log.jsonl", None)


def test_a_curve_that_is_no_svg_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"curve\.svg is not an SVG"):
        read_training(None, tmp_path / "curve.svg")


@pytest.mark.parametrize("text", [None, "{", "{}", "[]"])
def test_a_file_that_is_no_report_is_refused(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "report.json").write_text(text)

    with pytest.raises(DataError, match="clear-trainer evaluate --output"):
        read_report(tmp_path / "report.json")


def test_each_plot_has_an_alternative_text(content: dict[str, Any]) -> None:
    page = html_page(content, Training(LOG))
    assert len(re.findall(r'<div role="img" aria-label="[^"]+"><svg', page)) == page.count("<svg")


def test_a_bar_whose_interval_holds_0_is_hollow(content: dict[str, Any]) -> None:
    comparison = content["comparisons"][0]
    each = next(e for e in comparison["languages"] if e["task"]["direction"] == "en-en")
    each["interval"] |= {"low": -0.1, "high": 0.1}
    hollow = difference_bars(comparison, "tea", "en-en", ORDER)
    assert re.search(r'<g id="patch_3">\s*<path [^>]*style="fill: none', hollow)
    each["interval"] |= {"low": 0.01, "high": 0.1}
    filled = difference_bars(comparison, "tea", "en-en", ORDER)
    assert re.search(r'<g id="patch_3">\s*<path [^>]*style="fill: #', filled)


def test_the_page_begins_with_the_verdict_in_a_sentence(content: dict[str, Any]) -> None:
    page = html_page(content, Training())
    alone = {"evaluations": content["evaluations"][:1], "comparisons": []}

    assert re.search(
        r"<h1>[^\n]*</h1>\n<p class=\"verdict\">&lt;tuned&gt; passes every gate. Against base it "
        r"is better in 3, worse in 0, and not shown to differ in 0 of 3 languages and directions",
        page,
    )
    assert "there is no base to compare it with" in html_page(alone, Training())


def test_a_failed_gate_and_doubtful_languages_are_in_the_verdict(content: dict[str, Any]) -> None:
    changed = json.loads(json.dumps(content))
    comparison = changed["comparisons"][0]
    comparison["english_gates"][0]["passes"] = False
    comparison["languages"][0]["interval"] = {"low": -0.2, "high": -0.1}
    comparison["languages"][1]["interval"] = {"low": -0.1, "high": 0.1}

    sentence = verdict(changed)

    assert "does not pass: 1 of 1 gates failed" in sentence
    assert "better in 1, worse in 1, and not shown to differ in 1 of 3" in sentence


def test_plots_and_tables_have_one_order_the_base_s_best_first(content: dict[str, Any]) -> None:
    changed = json.loads(json.dumps(content))
    languages = changed["evaluations"][1]["sets"]["tea"]["L-en"]["languages"]
    languages["de"]["ndcg@10"], languages["sw"]["ndcg@10"] = 0.2, 0.9

    order = language_order(changed, "tea")
    page = html_page(changed, Training())

    assert order == ["en", "sw", "de"]
    tables = re.findall(r"<td>(Swahili|German) \(", page)
    assert tables == ["Swahili", "German"] * (len(tables) // 2)
    assert len(tables) == 6


def test_a_mean_has_its_interval_in_the_table(content: dict[str, Any]) -> None:
    groups = content["evaluations"][0]["sets"]["tea"]["L-en"]["languages"]
    low, high = groups["de"]["ndcg@10_interval"]

    assert f"<td>{low:.4f} to {high:.4f}</td>" in html_page(content, Training())


def test_the_worst_questions_and_the_making_are_on_the_page(content: dict[str, Any]) -> None:
    question = {"query_id": "q1", "query": "Chai?", "ndcg@10": 0.0}
    question |= {"first_id": "p2", "first": "<Salt>"}
    worst = [{"set": "tea", "language": "sw", "questions": [question]}]
    made = {"date": "2026-01-02T03:04:05+00:00", "command": "clear-trainer evaluate tea"}

    page = html_page(content | {"worst": worst, "made": made}, Training())

    assert "<summary>tea, Swahili (sw)</summary>" in page
    assert "<td>Chai?</td><td>&lt;Salt&gt;</td><td>0.000</td>" in page
    for text in (*made.values(), "English (en) 4"):
        assert text in page
