"""Judged rankings of evaluation sets, some of queries that no passage answers."""

import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.retrieval.corpus.reader import read_passages
from service.retrieval.encoder.encoder import Embeddings, Encoder
from service.retrieval.progress import OnProgress
from service.retrieval.relevance.background import (
    Background,
    general_questions,
    measure_background,
)
from service.retrieval.relevance.fit import JudgedRanking
from service.retrieval.relevance.model import DEPTH
from trainer.calibration.articles import Articles
from trainer.data.evaluation_set import EvaluationSet, Query
from trainer.data.languages import ENGLISH
from trainer.errors import DataError
from trainer.objective.frozen import embed_cached

OFF_TOPIC = Path(__file__).parent / "off_topic.toml"
Rows = NDArray[np.int64]


class JudgedCorpus:
    """The English passages of an evaluation set, embedded, with the article of each."""

    def __init__(
        self, evaluation_set: EvaluationSet, encoder: Encoder, cache: Path, on_progress: OnProgress
    ) -> None:
        """Embed the passages.

        Raises:
            DataError: the set has no English passages, or too few.
        """
        if ENGLISH not in evaluation_set.passage_ids:
            raise DataError(f"{evaluation_set.directory} has no corpus.jsonl: name another set")
        path = evaluation_set.corpus_path(ENGLISH)
        self._passages = [passage for _, passage in read_passages(path)]
        if len(self._passages) < 2 * DEPTH:
            raise DataError(f"{path} has fewer than {2 * DEPTH} passages: name a larger set")
        self._set, self._encoder, self._cache = evaluation_set, encoder, cache
        self._on_progress = on_progress
        texts = [passage.encoder_text for passage in self._passages]
        self._embeddings = embed_cached(texts, "passage", encoder, cache, on_progress)
        self._rows = {passage.passage_id: row for row, passage in enumerate(self._passages)}
        self._articles = Articles(self._passages)
        scores = np.sort(self._scores(general_questions()), axis=1)[:, : -DEPTH - 1 : -1]
        background = measure_background(encoder.fingerprint, list(scores))
        assert background is not None  # there are passages
        self.background: Background = background

    def judge(self, languages: Sequence[str] = ()) -> Iterator[JudgedRanking]:
        """Yield the rankings of all queries; each language weighs 1, half of it answered queries.

        The unanswered ones are of two kinds, which weigh the same in the fit: the answered ones
        without each passage of the gold's article, and off-topic ones. Measures count one kind: the
        set's own unanswered queries, which take the place of the off-topic ones, or else the first.
        """
        article_rows = self._rows_by_article()
        for language, queries in self._set.queries.items():
            if languages and language not in languages:
                continue
            scores = self._scores([query.text for query in queries])
            answered = self._rankings(queries, scores, language, is_answered=True)
            for query, row in zip(queries, scores, strict=True):
                row[article_rows[query.article]] = -np.inf
            removed = self._rankings(queries, scores, language)
            own = self._set.unanswered.get(language)
            asked = own or off_topic_questions(language)
            others = self._scores([query.text for query in asked])
            off_topic = self._rankings(asked, others, language)
            yield from _weighted(answered, 0.5, 0.5)
            yield from _weighted(removed, 0.25, 0.0 if own else 0.5)
            yield from _weighted(off_topic, 0.25, 0.5 if own else 0.0)

    def _scores(self, texts: Sequence[str]) -> Embeddings:
        """Return the scores of queries and all passages, [B, N]."""
        found = embed_cached(texts, "query", self._encoder, self._cache, self._on_progress)
        scores: Embeddings = found @ self._embeddings.T
        return scores

    def _gold(self, query: Query) -> Rows:
        known = self._set.qrels[query.query_id]
        return np.array([self._rows[each] for each in known if each in self._rows], np.int64)

    def _rows_by_article(self) -> Mapping[str, Rows]:
        """Return the rows to leave out for each article: gold passages, and those related."""
        gold: defaultdict[str, set[int]] = defaultdict(set)
        for queries in self._set.queries.values():
            for query in queries:
                gold[query.article] |= set(self._gold(query).tolist())
        return {
            article: np.array(sorted(self._articles.related(rows)), np.int64)
            for article, rows in gold.items()
        }

    def _rankings(
        self,
        queries: Sequence[Query],
        scores: Iterable[NDArray[np.float32]],
        language: str,
        is_answered: bool = False,
    ) -> list[JudgedRanking]:
        """Return the rankings of queries, with those hits judged that nobody left unjudged.

        A query is left out if its first hit may answer, but was not judged. Of answered queries
        those count that have a gold passage.
        """
        found = []
        for query, row in zip(queries, scores, strict=True):
            gold = self._gold(query) if is_answered else np.empty(0, np.int64)
            if is_answered and not len(gold):
                continue
            best = np.argpartition(-row, DEPTH)[:DEPTH]
            best = best[np.lexsort((best, -row[best]))]
            is_answer = np.isin(best, gold)
            first = int(best[0])
            if is_answer[0] or not self._articles.may_answer(first, gold.tolist(), query.answers):
                found.append(
                    JudgedRanking(
                        row[best],
                        is_answer,
                        self.background,
                        self._set.name,
                        language,
                        query.article or query.query_id,
                    )
                )
        return found


def _weighted(
    rankings: Sequence[JudgedRanking], weight: float, measured_weight: float
) -> Iterator[JudgedRanking]:
    """Yield rankings that weigh so much together, in the fit and in measures."""
    for each in rankings:
        yield replace(
            each,
            weight=weight / len(rankings),
            measured_weight=measured_weight / len(rankings),
        )


def off_topic_questions(language: str) -> tuple[Query, ...]:
    """Return the off-topic questions in a language; in all languages if it has none."""
    by_language = all_off_topic_questions()
    return by_language.get(language) or tuple(chain.from_iterable(by_language.values()))


@cache
def all_off_topic_questions() -> Mapping[str, tuple[Query, ...]]:
    """Return off-topic questions by language, with the words that a passage on them holds."""
    content = tomllib.loads(OFF_TOPIC.read_text(encoding="utf-8"))
    answers = content.pop("answers")
    return {
        language: tuple(
            Query(f"off-topic.{number}", text, answers=tuple(answers.get(str(number), ())))
            for number, text in enumerate(texts)
        )
        for language, texts in content.items()
    }
