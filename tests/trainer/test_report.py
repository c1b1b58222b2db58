import json

from rich.console import Console

from trainer.evaluate import Evaluation, LanguageResult
from trainer.report import conditions_line, evaluation_json, evaluation_table

MEASURES = {"ndcg@10": 0.5, "recall@1": 0.25, "recall@10": 0.75, "recall@100": 1.0, "mrr@10": 0.4}
EVALUATION = Evaluation(
    encoder_name="bundled",
    fingerprint="0123456789abcdef" * 4,
    max_tokens=256,
    device="cpu",
    runtime="torch-fp32",
    num_passages=240,
    languages=(
        LanguageResult("en", 1190, MEASURES),
        LanguageResult("de", 1190, dict.fromkeys(MEASURES, 0.0)),
    ),
)


def test_the_table_has_a_line_a_language_and_the_macro_mean() -> None:
    console = Console(width=100)

    with console.capture() as capture:
        console.print(evaluation_table(EVALUATION))

    lines = [line.replace("│", " ").split() for line in capture.get().splitlines()]
    assert ["en", "1190", "0.5000", "0.2500", "0.7500", "0.4000"] in lines
    assert ["macro", "mean", "2380", "0.2500", "0.1250", "0.3750", "0.2000"] in lines


def test_the_conditions_are_named_with_the_fingerprints_start() -> None:
    assert conditions_line(EVALUATION) == (
        "encoder bundled (fingerprint 0123456789abcdef), 256 tokens at the most, "
        "on cpu by torch-fp32, 240 passages"
    )


def test_json_holds_every_measure_and_the_whole_fingerprint() -> None:
    content = json.loads(evaluation_json(EVALUATION))

    assert content["languages"]["en"] == {"num_queries": 1190, **MEASURES}
    assert content["macro_mean"]["recall@100"] == 0.5
    assert content["encoder"]["fingerprint"] == "0123456789abcdef" * 4
