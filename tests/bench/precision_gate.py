"""The quality gate of a precision: nDCG@10 by language beside fp32, queries and passages.

Run: python -m tests.bench.precision_gate --data DATA/xquad --encoders bundled-base bundled
     python -m tests.bench.precision_gate --data DATA/xquad --precisions int8 --table

A precision passes if no language loses more than LIMIT. `--table` writes the verdicts into the
table of `auto`, which takes int8 only for encoders that passed.
"""

import json
from contextlib import ExitStack
from pathlib import Path

from service.retrieval.checkpoint.checkpoint import open_checkpoint
from service.retrieval.defaults import default_cache
from service.retrieval.encoder.runtime.cpu import TABLE
from service.retrieval.hardware import multiplies_bf16
from service.retrieval.progress import ignore_progress
from tests.bench.cpu_engines import write_table
from tests.bench.options import parser, say
from tests.bench.record import surroundings, write_result
from trainer.evaluation.measures import MAIN
from trainer.evaluation.sets import open_sets
from trainer.report.run import EncoderOptions, EvaluationOptions, run_evaluation

LIMIT = 0.005
DIRECTIONS = ("en-en", "L-en")


def main() -> None:
    """Measure encoders in each precision; print the differences and write them."""
    made = parser(__doc__)
    made.add_argument("--encoders", nargs="+", default=["bundled-base", "bundled"])
    made.add_argument("--precisions", nargs="+", choices=["bf16", "int8"], default=["bf16", "int8"])
    made.add_argument("--max-queries", type=int, default=0, help="of each language; 0 for all")
    made.add_argument("--table", action="store_true", help="write the verdicts for `auto`")
    options = made.parse_args()
    gates = []
    for encoder in options.encoders:
        exact = measure(encoder, "fp32", options.data, options.max_queries)
        for precision in options.precisions:
            if precision == "bf16" and not multiplies_bf16():
                say(f"{encoder}: bf16 left out, the CPU has no bf16 instructions")
                continue
            found = measure(encoder, precision, options.data, options.max_queries)
            gates.append(gate_of(encoder, precision, exact, found))
            say(json.dumps(gates[-1]))
    path = write_result("precision_gate", options, {"limit": LIMIT, "gates": gates})
    if options.table:
        write_gates(TABLE, gates, path.name)


def measure(encoder: str, precision: str, data: Path, max_queries: int) -> dict[str, float]:
    """Return nDCG@10 by language of the queries, passages in English, on OpenVINO."""
    with ExitStack() as stack:
        outcome = run_evaluation(
            open_sets(["xquad", str(data)], stack, max_queries),
            encoder,
            against=None,
            with_control=False,
            encoder_options=EncoderOptions(
                device="cpu", cpu_engine="openvino", precision=precision
            ),
            options=EvaluationOptions(directions=DIRECTIONS),
            on_progress=ignore_progress,
        )
    [evaluation] = outcome.evaluations
    return {each.task.query_language: each.measures[MAIN] for each in evaluation.results}


def gate_of(
    encoder: str, precision: str, exact: dict[str, float], found: dict[str, float]
) -> dict[str, object]:
    """Compare a precision with fp32, and judge."""
    changes = {language: round(found[language] - exact[language], 4) for language in exact}
    worst = min(changes, key=changes.__getitem__)
    checkpoint = open_checkpoint(encoder, default_cache())
    sides = (checkpoint.query, checkpoint.passage)
    return {
        "encoder": encoder,
        "fingerprints": sorted({checkpoint.fingerprint(side) for side in sides}),
        "precision": precision,
        "passes": changes[worst] >= -LIMIT,
        "worst_language": worst,
        "changes": changes,
        "fp32": {language: round(value, 4) for language, value in exact.items()},
    }


def write_gates(table: Path, gates: list[dict[str, object]], source: str) -> None:
    """Put verdicts into the table, in place of older ones of the same encoder and precision."""
    content = json.loads(table.read_text())
    facts = surroundings()
    new = [
        {
            **{key: value for key, value in gate.items() if key != "fp32"},
            "source": source,
            "date": str(facts["date"])[:10],
        }
        for gate in gates
    ]
    replaced = [(each["encoder"], each["precision"]) for each in new]
    kept = [
        each for each in content["quality"] if (each["encoder"], each["precision"]) not in replaced
    ]
    content["quality"] = [*kept, *new]
    write_table(table, content)


if __name__ == "__main__":
    main()
