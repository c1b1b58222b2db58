"""Judged rankings of evaluation sets: each query with its passages, and without its article."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.retrieval.corpus.reader import Passage, read_passages
from service.retrieval.encoder.encoder import Embeddings, Encoder
from service.retrieval.progress import OnProgress
from service.retrieval.relevance.background import (
    Background,
    general_questions,
    measure_background,
)
from service.retrieval.relevance.fit import JudgedRanking
from service.retrieval.relevance.model import DEPTH
from trainer.data.evaluation_set import EvaluationSet, Query
from trainer.data.languages import ENGLISH
from trainer.errors import DataError
from trainer.objective.frozen import embed_cached

WORD = re.compile(r"\w{4,}")
# A word of more titles than this share does not make two articles related.
MAX_TITLES = 0.02
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
        self._articles = _Articles(self._passages)
        scores = np.sort(self._scores(general_questions()), axis=1)[:, : -DEPTH - 1 : -1]
        background = measure_background(encoder.fingerprint, list(scores))
        assert background is not None  # there are passages
        self.background: Background = background

    def judge(self, languages: Sequence[str] = ()) -> Iterator[JudgedRanking]:
        """Yield the rankings of all queries; answered and not, they weigh the same by language.

        The unanswered ones are the set's own, or else the answered ones without each passage of
        the gold's article.
        """
        article_rows = self._rows_by_article()
        for language, queries in self._set.queries.items():
            if languages and language not in languages:
                continue
            scores = self._scores([query.text for query in queries])
            gold = [self._gold(query) for query in queries]
            answered = [
                ranking
                for rows, row in zip(gold, scores, strict=True)
                if len(rows) and (ranking := self._ranking(row, rows, language))
            ]
            if own := self._set.unanswered.get(language):
                others = [self._ranking(row, (), language) for row in self._texts(own)]
            else:
                others = []
                for query, row in zip(queries, scores, strict=True):
                    row[article_rows[query.article]] = -np.inf
                    others.append(self._ranking(row, (), language))
            for rankings in (answered, [each for each in others if each]):
                for ranking in rankings:
                    yield replace(ranking, weight=1 / len(rankings))

    def _texts(self, queries: Sequence[Query]) -> Embeddings:
        return self._scores([query.text for query in queries])

    def _scores(self, texts: Sequence[str]) -> Embeddings:
        """Return the scores of queries and all passages, [B, N]."""
        queries = embed_cached(texts, "query", self._encoder, self._cache, self._on_progress)
        scores: Embeddings = queries @ self._embeddings.T
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

    def _ranking(
        self, scores: NDArray[np.float32], gold: Rows | tuple[()], language: str
    ) -> JudgedRanking | None:
        """Return one query's ranking; None if its first passage is of the gold's own article.

        Nobody judged whether such a passage answers, too.
        """
        best = np.argpartition(-scores, DEPTH)[:DEPTH]
        best = best[np.lexsort((best, -scores[best]))]
        is_answer = np.isin(best, np.array(gold))
        if not is_answer[0] and self._articles.is_same(int(best[0]), list(gold)):
            return None
        background, name = self.background, self._set.name
        return JudgedRanking(scores[best], is_answer, background, name, language)


class _Articles:
    """The articles of passages, by their titles."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self._titles = [passage.title.casefold() for passage in passages]
        self._with_title: defaultdict[str, set[int]] = defaultdict(set)
        with_word: defaultdict[str, set[int]] = defaultdict(set)
        for row, title in enumerate(self._titles):
            self._with_title[title].add(row)
            for word in set(WORD.findall(title)):
                with_word[word].add(row)
        most = MAX_TITLES * len(passages)
        self._with_word = {word: rows for word, rows in with_word.items() if len(rows) <= most}

    def related(self, rows: set[int]) -> set[int]:
        """Return passages, and all whose title is the same or shares an uncommon word."""
        titles = {self._titles[row] for row in rows} - {""}
        words = {word for title in titles for word in WORD.findall(title)}
        by_title = (self._with_title[title] for title in titles)
        return rows.union(*by_title, *(self._with_word.get(word, set()) for word in words))

    def is_same(self, row: int, others: Sequence[int]) -> bool:
        """Return whether a passage has the title of others; without a title it has not."""
        return bool(self._titles[row]) and self._titles[row] in {
            self._titles[other] for other in others
        }
