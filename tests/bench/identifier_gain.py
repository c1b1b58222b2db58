"""What identifiers change in the hits of evaluation sets, by language: searched with and without.

Run: python -m tests.bench.identifier_gain build/identifiers data/xquad data/afriqa data/sib200

Each set is indexed and searched as the service does, and once more without identifiers. Below the
table stand the relevance of lifted first hits, how often questions about unknown identifiers count
as answered, and the p50 of a search without and with identifiers, four times by turns.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from service.components import load_encoder_of
from service.retrieval.hits import Hit
from service.retrieval.progress import ignore_progress
from service.retrieval.searcher import Searcher
from service.settings.settings import load_settings
from tests.bench.options import say
from trainer.data.evaluation_set import EvaluationSet, Query, evenly
from trainer.data.evaluation_set_reader import read_evaluation_set
from trainer.data.trec import Run
from trainer.evaluation.corpora import Corpora
from trainer.evaluation.measures import mean, query_measures

TOP_K = 10
NUM_TIMED, TURNS = 200, 4
ROW = "| {:8} | {:10} | {:>5} | {:>7} | {:.3f} | {:.3f} | {:.4f} | {:.4f} |"
HEADING = """
| set | language | queries | matched | recall@1 without | with | nDCG@10 without | with |
|:--|:--|--:|--:|--:|--:|--:|--:|"""


def found_by(searcher: Searcher, queries: Sequence[Query], by_identifiers: bool) -> list[list[Hit]]:
    """Search for all queries."""
    texts = [query.text for query in queries]
    return searcher.search(texts, TOP_K, by_identifiers=by_identifiers)


def as_run(queries: Sequence[Query], found: Sequence[Sequence[Hit]]) -> Run:
    """Return hits as a run; the order of a lifted hit is not that of its score."""
    return {
        query.query_id: {hit.passage.passage_id: -float(hit.rank) for hit in hits}
        for query, hits in zip(queries, found, strict=True)
    }


def measure(judged: EvaluationSet, searcher: Searcher, most: int, languages: Sequence[str]) -> None:
    """Print the table of one set."""
    sums: list[list[float]] = []
    right: list[float] = []
    wrong: list[float] = []
    for language in [each for each in judged.queries if each in languages or not languages]:
        queries = evenly(judged.judged_queries(language, "en"), most)
        qrels = {query.query_id: judged.qrels[query.query_id] for query in queries}
        values, num_matched = [], 0
        for by_identifiers in (False, True):
            found = found_by(searcher, queries, by_identifiers)
            measured = query_measures(qrels, as_run(queries, found))
            values.append([mean(measured["recall@1"]), mean(measured["ndcg@10"])])
        for query, hits in zip(queries, found, strict=True):
            num_matched += any(hit.matched for hit in hits)
            if hits[0].matched and hits[0].relevance is not None:
                is_right = hits[0].passage.passage_id in qrels[query.query_id]
                (right if is_right else wrong).append(hits[0].relevance)
        (first, gain), (first_with, gain_with) = values
        line = [len(queries), num_matched, first, first_with, gain, gain_with]
        sums.append([float(value) for value in line])
        say(ROW.format(judged.name, language, *line))
    count = len(sums)
    totals = [sum(column) for column in zip(*sums, strict=True)]
    means = [total / count for total in totals[2:]]
    say(ROW.format(judged.name, "all", int(totals[0]), int(totals[1]), *means))
    if right or wrong:
        share = len(right) / (len(right) + len(wrong))
        expected = mean(right + wrong)
        say(f"lifted first hits: {share:.3f} right, mean relevance {expected:.3f}")
    unknown = [query for queries in judged.unanswered.values() for query in queries]
    if unknown:
        for by_identifiers in (False, True):
            found = found_by(searcher, unknown, by_identifiers)
            answered = [float((hits[0].relevance or 0.0) >= 0.5) for hits in found]
            word = "with" if by_identifiers else "without"
            say(f"unknown identifiers, {word}: {mean(answered):.3f} of {len(unknown)} answered")


def measure_cost(judged: EvaluationSet, searcher: Searcher) -> None:
    """Print the median time of a search, without and with identifiers, by turns."""
    found = [query for queries in judged.queries.values() for query in queries]
    queries = evenly(found, NUM_TIMED)
    medians = []
    for turn in range(2 * TURNS):
        seconds = []
        for query in queries:
            started = time.perf_counter()
            found_by(searcher, [query], by_identifiers=turn % 2 == 1)
            seconds.append(time.perf_counter() - started)
        medians.append(f"{1000 * statistics.median(seconds):.2f}")
    say(f"p50 in ms, without and with by turns: {', '.join(medians)}")


def main() -> None:
    """Measure every set."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sets", type=Path, nargs="+")
    parser.add_argument("--encoder", default="bundled")
    parser.add_argument("--indexes", type=Path, default=Path("build/identifier-indexes"))
    parser.add_argument("--most", type=int, default=0, help="queries of a language; 0: all")
    parser.add_argument("--languages", nargs="*", default=[], help="all by default")
    parser.add_argument("--cost", action="store_true", help="also time the searches")
    options = parser.parse_args()
    encoder = load_encoder_of(load_settings(encoder=options.encoder))
    corpora = Corpora(encoder, options.indexes, ignore_progress, is_centered=False)
    say(HEADING.strip())
    for directory in options.sets:
        judged = read_evaluation_set(directory)
        searcher = corpora.open(judged, "en")
        searcher.prepare_relevance()
        measure(judged, searcher, options.most, options.languages)
        if options.cost:
            measure_cost(judged, searcher)


if __name__ == "__main__":
    main()
