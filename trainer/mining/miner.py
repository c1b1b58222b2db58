"""Mining of hard negatives: passages that are similar to a query but do not answer it.

The encoder ranks a query's candidates without those that answer it. Negatives come from a window of
ranks, from candidates scored well below the positive, or from both; each may be paired with a query
that it answers.

Source: 5 a row from ranks 50 to 100, CLEAR (arXiv 2604.05821); bound relative to the positive's
score, NV-Retriever (arXiv 2407.15831), TopK-PercPos with 95 %.
"""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from service.retrieval.encoder.encoder import Embeddings, Encoder
from service.retrieval.index.backend import MAX_TOP_K
from service.retrieval.index.torch_flat import TorchFlatIndex
from trainer.data.rows import Row
from trainer.errors import DataError
from trainer.mining.candidates import CandidateTable

Scored = tuple[str, float]  # passage id, score


@dataclass(frozen=True, slots=True)
class MiningOptions:
    """Which candidates are hard negatives, and how many a row gets."""

    num_negatives: int = 5
    first_rank: int = 50  # from 1; passages that answer the query are not counted
    last_rank: int = 100
    max_relative_score: float | None = None  # of the positive's score
    query_side: str = "english"  # or "translated"
    # Take only passages with a query in the row's language, and that query with them.
    is_paired: bool = True
    is_random: bool = True  # a random sample of the window; else its best
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the window of ranks.

        Raises:
            DataError: it is too deep, or has fewer ranks than negatives are asked for.
        """
        if not 1 <= self.first_rank <= self.last_rank <= MAX_TOP_K:
            raise DataError(
                f"the ranks {self.first_rank} to {self.last_rank} are not a window within 1 to "
                f"{MAX_TOP_K}: name the better rank first"
            )
        if self.last_rank - self.first_rank + 1 < self.num_negatives:
            raise DataError(
                f"the ranks {self.first_rank} to {self.last_rank} cannot give "
                f"{self.num_negatives} negatives: widen the window"
            )


class PassagePool:
    """A searchable pool of the passages that may be negatives of one language's rows."""

    def __init__(self, passage_ids: Sequence[str], vectors: Embeddings) -> None:
        """Index P passages.

        Args:
            passage_ids: P of them.
            vectors: their embeddings, unit-norm, [P, D].
        """
        self._passage_ids = passage_ids
        self._index = TorchFlatIndex(vectors, torch.device("cpu"))

    def rank(self, queries: Embeddings, top_k: int) -> list[list[Scored]]:
        """Return the top passages of each query, best first, for queries of [B, D]."""
        return [
            [
                (self._passage_ids[row], score)
                for row, score in zip(found.rows.tolist(), found.scores.tolist(), strict=True)
            ]
            for found in self._index.search(queries, top_k)
        ]


class Miner:
    """Finds hard negatives for rows; a row's negatives do not depend on other rows of the call."""

    def __init__(
        self,
        encoder: Encoder,
        candidates: CandidateTable,
        passage_ids: Sequence[str],
        vectors: Embeddings,
        options: MiningOptions,
    ) -> None:
        """Index the candidates by language.

        Args:
            encoder: embeds the queries.
            candidates: of all rows.
            passage_ids: of the candidates, P of them.
            vectors: their embeddings by the same encoder, [P, D].
            options: which candidates are hard negatives.
        """
        self._encoder = encoder
        self._candidates = candidates
        self._options = options
        self._vectors = vectors
        self._rows = {passage_id: row for row, passage_id in enumerate(passage_ids)}
        whole = None if options.is_paired else self._pool(passage_ids)
        self._pools = {
            language: whole or self._paired_pool(language) for language in candidates.languages()
        }
        self._depth = min(MAX_TOP_K, options.last_rank + candidates.max_answers())

    def mine(self, rows: Sequence[Row]) -> list[Row]:
        """Return rows with negatives: as many as were found, at most the number asked for."""
        is_english = self._options.query_side == "english"
        texts = [row.query if is_english else row.translated_query for row in rows]
        queries = self._encoder.encode(texts, "query").embeddings
        mined: dict[int, Row] = {}
        for language in {row.language for row in rows}:
            chosen = [place for place, row in enumerate(rows) if row.language == language]
            rankings = self._pools[language].rank(queries[chosen], self._depth)
            for place, ranked in zip(chosen, rankings, strict=True):
                mined[place] = self._with_negatives(rows[place], queries[place], ranked)
        return [mined[place] for place in range(len(rows))]

    def _paired_pool(self, language: str) -> PassagePool:
        paired = self._candidates.passages_with_queries(language)
        return self._pool([passage_id for passage_id in self._rows if passage_id in paired])

    def _pool(self, passage_ids: Sequence[str]) -> PassagePool:
        return PassagePool(passage_ids, self._vectors[[self._rows[each] for each in passage_ids]])

    def _with_negatives(self, row: Row, query: Embeddings, ranked: Sequence[Scored]) -> Row:
        options = self._options
        name = f"{options.seed}:{row.language}:{row.query_id}:{row.passage_id}"
        generator = random.Random(hashlib.sha256(name.encode()).digest())
        window = self._window(row, query, ranked)
        count = min(options.num_negatives, len(window))
        if options.is_random:
            places = sorted(generator.sample(range(len(window)), count))
            window = [window[place] for place in places]
        chosen = window[:count]
        queries: list[str] = []
        if options.is_paired:
            by_passage = self._candidates.queries
            queries = [generator.choice(by_passage[row.language, each]) for each in chosen]
        return replace(
            row,
            hard_negatives=tuple(self._candidates.texts[each] for each in chosen),
            hard_negative_ids=tuple(chosen),
            hard_negative_queries=tuple(queries),
        )

    def _window(self, row: Row, query: Embeddings, ranked: Sequence[Scored]) -> list[str]:
        """Return the passages within the ranks and below the bound of scores, best first."""
        options, hashes = self._options, self._candidates.hashes
        others = [pair for pair in ranked if not self._candidates.is_answer(row, pair[0])]
        window = others[options.first_rank - 1 : options.last_rank]
        if options.max_relative_score is not None:
            positive = float(query @ self._vectors[self._rows[row.passage_id]])
            bound = options.max_relative_score * positive
            window = [pair for pair in window if pair[1] <= bound]
        by_text = {hashes[each]: each for each, _ in reversed(window)}  # the best of one text
        return [each for each, _ in window if by_text[hashes[each]] == each]
