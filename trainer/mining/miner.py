"""Hard negatives: passages near a query that do not answer it, and queries that ask for those.

A query's candidates are ranked by the encoder, known positives left out; negatives are drawn from a
window of ranks, from those scored well below the positive, or both.

Source: ranks 50 to 100, 5 a row, CLEAR (arXiv 2604.05821); relative to the positive's score,
NV-Retriever (arXiv 2407.15831), TopK-PercPos with 95 %.
"""

import hashlib
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from service.retrieval.encoder.encoder import Embeddings, Encoder
from service.retrieval.index.backend import MAX_TOP_K
from service.retrieval.index.torch_flat import TorchFlatIndex
from trainer.data.rows import Row
from trainer.datasets.decontamination import passage_hash
from trainer.errors import DataError

Scored = tuple[str, float]  # passage id, score


@dataclass(frozen=True, slots=True)
class MiningOptions:
    """What counts as a hard negative."""

    num_negatives: int = 5
    first_rank: int = 50  # from 1, known positives not counted
    last_rank: int = 100
    max_relative_score: float | None = None  # of the positive's score
    query_side: str = "english"  # or "translated"
    # Only passages that some row asks for in the same language, with that query.
    is_paired: bool = True
    # Drawn from the window; else its first.
    is_random: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be mined.

        Raises:
            DataError: the window holds fewer passages than are asked for, or is too deep.
        """
        if not 1 <= self.first_rank <= self.last_rank <= MAX_TOP_K:
            raise DataError(
                f"the ranks {self.first_rank} to {self.last_rank} are no window within 1 to "
                f"{MAX_TOP_K}: name the better rank first"
            )
        if self.last_rank - self.first_rank + 1 < self.num_negatives:
            raise DataError(
                f"the ranks {self.first_rank} to {self.last_rank} cannot give "
                f"{self.num_negatives} negatives: widen the window"
            )


@dataclass
class Known:
    """What the rows say of one another: which passages answer a query, who asks for a passage."""

    texts: dict[str, str] = field(default_factory=dict)  # passage id -> text
    hashes: dict[str, str] = field(default_factory=dict)  # passage id -> hash of its text
    groups: dict[str, str] = field(default_factory=dict)  # passage id -> group id
    positives: dict[str, set[str]] = field(default_factory=dict)  # query id -> passage ids
    # (language, passage id) -> queries, translated
    askers: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        """Remember a row."""
        if row.passage_id not in self.texts:
            self.add_passage(row.passage_id, row.positive)
        self.groups[row.passage_id] = row.group_id
        self.positives.setdefault(row.query_id, set()).add(row.passage_id)
        self.askers.setdefault((row.language, row.passage_id), []).append(row.translated_query)

    def add_passage(self, passage_id: str, text: str) -> None:
        """Remember a passage of a corpus that no row need ask for."""
        self.texts[passage_id] = text
        self.hashes[passage_id] = passage_hash(text)

    def languages(self) -> list[str]:
        """List the languages of the rows."""
        return sorted({language for language, _ in self.askers})

    def most_answers(self) -> int:
        """Count the passages of the largest group, and the most of one text, for a query."""
        groups, texts = Counter(self.groups.values()), Counter(self.hashes.values())
        most_positives = max(len(each) for each in self.positives.values())
        return most_positives * (max(groups.values()) + max(texts.values()))

    def is_answer(self, row: Row, passage_id: str) -> bool:
        """Say whether a passage is a positive of a row's query: by id, by group, by text,
        or since another row asks the same of it."""
        positives = self.positives[row.query_id]
        return (
            passage_id in positives
            or self.groups.get(passage_id) in {self.groups[each] for each in positives}
            or self.hashes[passage_id] in {self.hashes[each] for each in positives}
            or row.translated_query in self.askers.get((row.language, passage_id), ())
        )


class Pool:
    """The passages that may be negatives of the rows of one language."""

    def __init__(self, passage_ids: Sequence[str], vectors: Embeddings) -> None:
        """Make them searchable.

        Args:
            passage_ids: P of them.
            vectors: their embeddings, unit-norm, [P, D].
        """
        self._passage_ids = passage_ids
        self._index = TorchFlatIndex(vectors, torch.device("cpu"))

    def rank(self, queries: Embeddings, top_k: int) -> list[list[Scored]]:
        """Find each query's passages, best first; [B, D] in."""
        return [
            [
                (self._passage_ids[row], score)
                for row, score in zip(found.rows.tolist(), found.scores.tolist(), strict=True)
            ]
            for found in self._index.search(queries, top_k)
        ]


class Miner:
    """Finds hard negatives for rows; the same rows give the same negatives, in any order."""

    def __init__(
        self,
        encoder: Encoder,
        known: Known,
        passage_ids: Sequence[str],
        vectors: Embeddings,
        options: MiningOptions,
    ) -> None:
        """Make a pool a language.

        Args:
            encoder: embeds the queries.
            known: of all rows.
            passage_ids: of the corpus, P of them.
            vectors: their embeddings by the same encoder, [P, D].
            options: what counts as a hard negative.
        """
        self._encoder = encoder
        self._known = known
        self._options = options
        self._vectors = vectors
        self._rows = {passage_id: row for row, passage_id in enumerate(passage_ids)}
        whole = None if options.is_paired else self._pool(passage_ids)
        self._pools = {
            language: whole or self._pool(self._asked(language)) for language in known.languages()
        }
        self._depth = min(MAX_TOP_K, options.last_rank + known.most_answers())

    def mine(self, rows: Sequence[Row]) -> list[Row]:
        """Give rows their negatives, as many as there are, up to the number asked for."""
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

    def _asked(self, language: str) -> list[str]:
        askers = self._known.askers
        return [passage_id for passage_id in self._rows if (language, passage_id) in askers]

    def _pool(self, passage_ids: Sequence[str]) -> Pool:
        return Pool(passage_ids, self._vectors[[self._rows[each] for each in passage_ids]])

    def _with_negatives(self, row: Row, query: Embeddings, ranked: Sequence[Scored]) -> Row:
        options = self._options
        name = f"{options.seed}:{row.language}:{row.query_id}:{row.passage_id}"
        generator = random.Random(hashlib.sha256(name.encode()).digest())
        candidates = self._candidates(row, query, ranked)
        count = min(options.num_negatives, len(candidates))
        if options.is_random:
            places = sorted(generator.sample(range(len(candidates)), count))
            candidates = [candidates[place] for place in places]
        chosen = candidates[:count]
        queries: list[str] = []
        if options.is_paired:
            askers = self._known.askers
            queries = [generator.choice(askers[row.language, each]) for each in chosen]
        return replace(
            row,
            hard_negatives=tuple(self._known.texts[each] for each in chosen),
            hard_negative_ids=tuple(chosen),
            hard_negative_queries=tuple(queries),
        )

    def _candidates(self, row: Row, query: Embeddings, ranked: Sequence[Scored]) -> list[str]:
        """List the passages in the window of ranks and below the bound of scores, best first."""
        options = self._options
        others = [pair for pair in ranked if not self._known.is_answer(row, pair[0])]
        window = others[options.first_rank - 1 : options.last_rank]
        if options.max_relative_score is not None:
            positive = float(query @ self._vectors[self._rows[row.passage_id]])
            bound = options.max_relative_score * positive
            window = [pair for pair in window if pair[1] <= bound]
        by_text = {self._known.hashes[each]: each for each, _ in reversed(window)}
        return [each for each, _ in window if by_text[self._known.hashes[each]] == each]
