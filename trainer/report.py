"""An evaluation as a table for people and as JSON for programs."""

import json

from rich.table import Table

from trainer.evaluate import Evaluation

FINGERPRINT_CHARACTERS = 16
COLUMNS = {
    "ndcg@10": "nDCG@10",
    "recall@1": "recall@1",
    "recall@10": "recall@10",
    "mrr@10": "MRR@10",
}


def evaluation_table(evaluation: Evaluation) -> Table:
    """Lay out one line a language, and the mean over the languages below."""
    table = Table(title="XQuAD, query language -> English passages")
    table.add_column("language")
    for heading in ("queries", *COLUMNS.values()):
        table.add_column(heading, justify="right")
    for result in evaluation.languages:
        cells = [f"{result.measures[key]:.4f}" for key in COLUMNS]
        table.add_row(result.language, str(result.num_queries), *cells)
    table.add_section()
    num_queries = sum(result.num_queries for result in evaluation.languages)
    means = [f"{evaluation.macro_mean[key]:.4f}" for key in COLUMNS]
    table.add_row("macro mean", str(num_queries), *means)
    return table


def conditions_line(evaluation: Evaluation) -> str:
    """Say under which conditions the figures hold."""
    return (
        f"encoder {evaluation.encoder_name} "
        f"(fingerprint {evaluation.fingerprint[:FINGERPRINT_CHARACTERS]}), "
        f"{evaluation.max_tokens} tokens at the most, "
        f"on {evaluation.device} by {evaluation.runtime}, {evaluation.num_passages} passages"
    )


def evaluation_json(evaluation: Evaluation) -> str:
    """Serialise all that was measured, each measure unrounded."""
    content = {
        "data": "xquad",
        "encoder": {
            "name": evaluation.encoder_name,
            "fingerprint": evaluation.fingerprint,
            "max_tokens": evaluation.max_tokens,
            "device": evaluation.device,
            "runtime": evaluation.runtime,
        },
        "num_passages": evaluation.num_passages,
        "languages": {
            result.language: {"num_queries": result.num_queries, **result.measures}
            for result in evaluation.languages
        },
        "macro_mean": evaluation.macro_mean,
    }
    return json.dumps(content, indent=1)
