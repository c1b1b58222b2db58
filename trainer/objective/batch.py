"""Objectives of a batch: embeddings by column and labels in, weighted terms out.

An objective names the columns that it reads, so that the loss embeds no other. It knows neither
models nor devices. B rows, C candidates, D embedding_dim.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from trainer.config import ObjectiveConfig
from trainer.objective.columns import HARD_NEGATIVE, HARD_NEGATIVE_QUERY, PASSAGE
from trainer.objective.false_negatives import pool_false_negatives
from trainer.objective.terms import (
    BatchEmbeddings,
    Terms,
    Weights,
    clear_weights,
    frozen_bridge,
    weighted_terms,
)


class BatchObjective(Protocol):
    """An objective, as `RetrievalLoss` calls it."""

    @property
    def query_columns(self) -> tuple[str, ...]:
        """Return the names of the query columns."""

    @property
    def passage_columns(self) -> tuple[str, ...]:
        """Return the names of the passage columns."""

    @property
    def has_independent_rows(self) -> bool:
        """Return whether the terms of a row read no other row, and one column."""

    def __call__(self, embeddings: Mapping[str, Tensor], labels: Tensor, rows: slice) -> Terms:
        """Compute the mean of each term over some rows.

        Args:
            embeddings: by column, of all devices' rows, each [B, D].
            labels: what the objective knows of each row besides its texts, [B, L].
            rows: this device's rows, or some of them.
        """


class InBatchObjective:
    """CLEAR or InfoNCE; the candidates are the passages of the batch."""

    has_independent_rows = False

    def __init__(self, config: ObjectiveConfig, num_negatives: int, temperature: float) -> None:
        """Select the columns that terms of non-zero weight read."""
        self._config = config
        self._weights = weights = term_weights(config)
        self._temperature = temperature
        is_reverse = bool(weights.reverse or weights.kl)
        numbers = range(1, num_negatives + 1)
        self._hard_queries = [HARD_NEGATIVE_QUERY.format(k) for k in numbers] if is_reverse else []
        self._hard_passages = [HARD_NEGATIVE.format(k) for k in numbers]
        if not (weights.english or weights.cross or weights.kl):
            self._hard_passages = []
        queries = ["query"] if weights.english or weights.kl else []
        queries += ["translated_query"] if is_reverse or weights.cross else []
        self.query_columns = (*queries, *self._hard_queries)
        self.passage_columns = (PASSAGE, *self._hard_passages)

    def __call__(self, embeddings: Mapping[str, Tensor], labels: Tensor, rows: slice) -> Terms:
        """Compute the terms; the labels are `passage_codes`, [B, 1 + N]."""
        positive = embeddings[PASSAGE]
        batch = BatchEmbeddings(
            query=embeddings.get("query", positive),  # a missing column has weight 0
            translated_query=embeddings.get("translated_query", positive),
            positive=positive,
            hard_negatives=[embeddings[name] for name in self._hard_passages],
            hard_negative_queries=[embeddings[name] for name in self._hard_queries],
            passage_codes=labels if self._config.masks_false_negatives else None,
        )
        return weighted_terms(
            batch,
            rows,
            weights=self._weights,
            temperature=self._temperature,
            kl_direction=self._config.kl_direction,
            kl_detach=self._config.kl_detach,
        )


def term_weights(config: ObjectiveConfig) -> Weights:
    """Return the weights of the terms of CLEAR or InfoNCE."""
    if config.name == "clear":
        return clear_weights(
            config.reverse_weight, config.kl_weight, is_search_time=config.is_search_time
        )
    english = {"english": 1.0, "translated": 0.0, "both": 0.5}[config.info_nce_queries]
    return Weights(english=english, cross=1 - english)


NO_PASSAGE = -1


@dataclass(frozen=True)
class FrozenPool:
    """Embeddings by the untrained base model of all passages and English queries of N rows."""

    passages: Tensor  # [C, D]
    passage_codes: Tensor  # equal for passages of one group, [C]
    queries: Tensor  # distinct English queries, [Q, D]
    query_places: Tensor  # each row's English query, as a place in `queries`, [N]
    targets: Tensor  # each row's passage, as a place in `passages`, or `NO_PASSAGE`, [N]
    cross_weights: Tensor | None = None  # each row's weight in `cross`, [N]; all 1 by default


class FrozenBridgeObjective:
    """The frozen bridge; the candidates are the passages of a frozen pool."""

    query_columns = ("translated_query",)
    passage_columns: tuple[str, ...] = ()
    has_independent_rows = True

    def __init__(self, config: ObjectiveConfig, pool: FrozenPool, temperature: float) -> None:
        """Use a pool, which gets no gradient."""
        self._config = config
        self._pool = pool
        self._temperature = temperature

    def __call__(self, embeddings: Mapping[str, Tensor], labels: Tensor, rows: slice) -> Terms:
        """Compute the terms; the labels are row numbers in the pool, [B, 1]."""
        translated = embeddings["translated_query"][rows]
        numbers = labels[rows, 0]
        targets = self._pool.targets[numbers]
        has_passage = targets != NO_PASSAGE
        targets = targets.clamp(min=0)  # of a row without a passage, `cross` has weight 0
        excluded = None
        if self._config.masks_false_negatives:
            excluded = pool_false_negatives(self._pool.passage_codes, targets)
            excluded &= has_passage[:, None]
        weights = self._pool.cross_weights
        return frozen_bridge(
            translated,
            self._pool.queries[self._pool.query_places[numbers]].to(translated.dtype),
            self._pool.passages.to(translated.dtype),
            targets,
            temperature=self._temperature,
            cross=self._config.cross,
            cross_weights=has_passage * (1.0 if weights is None else weights[numbers]),
            kl=self._config.kl,
            anchor=self._config.anchor,
            excluded=excluded,
        )
