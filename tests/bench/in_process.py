"""The upper limit of throughput: encoder and index called in one process, without the server.

Run: python -m tests.bench.in_process --batches 1 8 32 64 --seconds 10

Questions come in the order in which the service gets them, so a batch has all eight languages and
is padded to its longest text. `--sorted` groups them by length first, as ideal batches would be.
"""

import argparse
import os
import time
from collections.abc import Sequence

import torch

from service.lifespan import load_engine
from service.retrieval.encoder.batches import TokenizedText
from service.retrieval.searcher import Searcher
from service.settings.settings import load_settings
from service.telemetry.metrics import Metrics
from tests.bench.arrivals import percentiles
from tests.bench.corpus import ensure_index
from tests.bench.options import environment_of, parser, say
from tests.bench.record import write_result
from tests.bench.texts import questions

TOP_K = 10
STAGES = ("tokenize", "forward", "search", "passages")


def main() -> None:
    """Measure every batch size."""
    made = parser(__doc__)
    made.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32, 64])
    made.add_argument("--seconds", type=float, default=10.0)
    made.add_argument("--sorted", action="store_true", help="batches of similar length")
    options = made.parse_args()
    os.environ.update(environment_of(options))
    engine = load_engine(load_settings(index=ensure_index(options.work)), Metrics())
    try:
        engine.warm_up()
        found = [measure(engine.searcher, options, size) for size in options.batches]
        runtime = getattr(engine.searcher.encoder.runtime, "name", "")
    finally:
        engine.close()
    best = {
        name: max(float(str(each[name])) for each in found)
        for name in ("forward_per_second", "questions_per_second")
    }
    say(f"best: {best}")
    facts = {"runtime": runtime, "torch_threads": torch.get_num_threads()}
    write_result("in_process", options, {**facts, "best": best, "batches": found})


def measure(searcher: Searcher, options: argparse.Namespace, size: int) -> dict[str, object]:
    """Run batches of one size for the given time."""
    texts = [each.text for each in questions(options.data)]
    if options.sorted:
        lengths = [len(each.token_ids) for each in searcher.encoder.tokenize(texts, "query")]
        texts = [texts[place] for place in sorted(range(len(texts)), key=lengths.__getitem__)]
        # Alternate the lengths, so that the shortest do not come first.
        starts = range(0, len(texts), size)
        groups = [texts[start : start + size] for start in starts]
        groups = [group for offset in range(97) for group in groups[offset::97]]
    else:
        groups = [texts[start : start + size] for start in range(0, len(texts), size)]
    groups = [group for group in groups if len(group) == size]
    for group in groups[:3]:
        _time_stages(searcher, group)
    spent: list[tuple[float, ...]] = []
    padded = real = 0
    began = time.monotonic()
    while time.monotonic() - began < options.seconds:
        tokenized, seconds = _time_stages(searcher, groups[len(spent) % len(groups)])
        spent.append(seconds)
        real += sum(len(each.token_ids) for each in tokenized)
        padded += size * max(len(each.token_ids) for each in tokenized)
    columns = dict(zip(STAGES, zip(*spent, strict=True), strict=True))
    found = {
        "batch": size,
        "forward_per_second": round(size * len(spent) / sum(columns["forward"]), 2),
        "questions_per_second": round(size * len(spent) / sum(map(sum, spent)), 2),
        "padding": round(1 - real / padded, 3),
        "stages_ms": {name: percentiles(column) for name, column in columns.items()},
        "whole_ms": percentiles([sum(each) for each in spent]),
        "n": len(spent),
    }
    say(str(found))
    return found


def _time_stages(
    searcher: Searcher, texts: Sequence[str]
) -> tuple[list[TokenizedText], tuple[float, ...]]:
    encoder = searcher.encoder
    marks = [time.perf_counter()]
    tokenized = encoder.tokenize(texts, "query")
    marks.append(time.perf_counter())
    embeddings = encoder.embed(encoder.pad(tokenized))
    marks.append(time.perf_counter())
    rankings = searcher.rank(embeddings, TOP_K)
    marks.append(time.perf_counter())
    for ranking in rankings:
        searcher.hits(ranking)
    marks.append(time.perf_counter())
    return tokenized, tuple(b - a for a, b in zip(marks, marks[1:], strict=False))


if __name__ == "__main__":
    main()
