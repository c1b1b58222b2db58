import json

from rich.console import Console

from trainer.evaluation.result import Evaluation, Result
from trainer.evaluation.tasks import Task
from trainer.report.tables import (
    conditions_line,
    evaluation_content,
    evaluation_markdown,
    evaluation_tables,
    report_markdown,
)

MEASURES = {"ndcg@10": 0.5, "recall@1": 0.25, "recall@10": 0.75, "recall@100": 1.0, "mrr@10": 0.4}


def result(language: str, count: int, scale: float) -> Result:
    names = [str(number) for number in range(count)]
    return Result(
        Task("xquad", "L-en", language, language, ("en",)),
        dict.fromkeys(names, "a"),
        {key: dict.fromkeys(names, value * scale) for key, value in MEASURES.items()},
    )


EVALUATION = Evaluation(
    encoder_name="bundled",
    fingerprint="0123456789abcdef" * 4,
    passage_fingerprint="fedcba" * 8,
    max_tokens=256,
    device="cpu",
    runtime="torch-fp32",
    control=None,
    num_passages={"xquad": {"en": 240}},
    results=(result("ar", 4, 1.0), result("de", 2, 0.0)),
)


def test_the_table_has_a_row_per_language_and_the_macro_mean() -> None:
    console = Console(width=100)

    with console.capture() as capture:
        for table in evaluation_tables(EVALUATION):
            console.print(table)

    lines = [line.replace("│", " ").split() for line in capture.get().splitlines()]
    assert ["ar", "4", "0.5000", "0.2500", "0.7500", "0.4000"] in lines
    assert ["macro", "mean", "6", "0.2500", "0.1250", "0.3750", "0.2000"] in lines


def test_markdown_holds_the_same_lines_and_the_conditions() -> None:
    lines = evaluation_markdown(EVALUATION).splitlines()

    assert "### xquad, L-en" in lines
    assert "| ar | 4 | 0.5000 | 0.2500 | 0.7500 | 0.4000 |" in lines
    assert lines[-1] == conditions_line(EVALUATION)
    assert "## bundled" in report_markdown([EVALUATION], [])


def test_the_conditions_are_named_with_the_fingerprints_start() -> None:
    assert conditions_line(EVALUATION) == (
        "encoder bundled (fingerprint 0123456789abcdef), at most 256 tokens, "
        "on cpu by torch-fp32; passages: xquad 240"
    )


def test_json_holds_every_measure_and_the_whole_fingerprint() -> None:
    content = json.loads(json.dumps(evaluation_content(EVALUATION)))

    direction = content["sets"]["xquad"]["L-en"]
    assert direction["languages"]["ar"] == {
        "num_queries": 4,
        **MEASURES,
        "ndcg@10_interval": [0.5, 0.5],
    }
    assert direction["macro_mean"]["recall@100"] == 0.5
    assert content["encoder"]["fingerprint"] == EVALUATION.fingerprint
    assert content["num_passages"] == {"xquad": {"en": 240}}
