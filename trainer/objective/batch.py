"""Objectives as a loss calls them: embeddings by column and labels in, terms out."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from trainer.config import ObjectiveConfig
from trainer.data.training_rows import HARD_NEGATIVE, HARD_NEGATIVE_QUERY, PASSAGE
from trainer.objective.terms import (
    Columns,
    Terms,
    Weights,
    clear_weights,
    frozen_bridge,
    weighted_terms,
)


def weights_of(config: ObjectiveConfig) -> Weights:
    """Weigh the terms as a configuration says."""
    if config.name == "clear":
        return clear_weights(
            config.reverse_weight, config.kl_weight, is_search_time=config.is_search_time
        )
    english = {"english": 1.0, "translated": 0.0, "both": 0.5}[config.info_nce_queries]
    return Weights(english=english, cross=1 - english)


class InBatch:
    """CLEAR or InfoNCE over the passages of the batch."""

    def __init__(self, config: ObjectiveConfig, num_negatives: int, temperature: float) -> None:
        """Find out which columns the weights need; no other is embedded."""
        self._config = config
        self._weights = weights = weights_of(config)
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
        """Compute the terms; the labels are `passage_codes`."""
        positive = embeddings[PASSAGE]
        columns = Columns(
            query=embeddings.get("query", positive),  # of weight 0 where it is missing
            translated_query=embeddings.get("translated_query", positive),
            positive=positive,
            hard_negatives=[embeddings[name] for name in self._hard_passages],
            hard_negative_queries=[embeddings[name] for name in self._hard_queries],
            passage_codes=labels if self._config.masks_false_negatives else None,
        )
        return weighted_terms(
            columns,
            rows,
            weights=self._weights,
            temperature=self._temperature,
            kl_direction=self._config.kl_direction,
            kl_detach=self._config.kl_detach,
        )


@dataclass(frozen=True)
class FrozenPool:
    """What the base model made of all passages and English queries, once; N rows, C passages."""

    passages: Tensor  # [C, D]
    passage_codes: Tensor  # equal for passages of one group, [C]
    queries: Tensor  # each row's English query, [N, D]
    targets: Tensor  # each row's passage, [N]


class Bridge:
    """The frozen bridge over a pool; labels are row numbers, [B, 1]."""

    query_columns = ("translated_query",)
    passage_columns: tuple[str, ...] = ()

    def __init__(self, config: ObjectiveConfig, pool: FrozenPool, temperature: float) -> None:
        """Take the pool as it is: nothing of it learns."""
        self._config = config
        self._pool = pool
        self._temperature = temperature

    def __call__(self, embeddings: Mapping[str, Tensor], labels: Tensor, rows: slice) -> Terms:
        """Compute the terms of some rows."""
        translated = embeddings["translated_query"][rows]
        numbers = labels[rows, 0]
        targets = self._pool.targets[numbers]
        excluded = None
        if self._config.masks_false_negatives:
            excluded = self._pool.passage_codes == self._pool.passage_codes[targets, None]
            excluded.scatter_(1, targets[:, None], False)
        return frozen_bridge(
            translated,
            self._pool.queries[numbers].to(translated.dtype),
            self._pool.passages.to(translated.dtype),
            targets,
            temperature=self._temperature,
            cross=self._config.cross,
            kl=self._config.kl,
            anchor=self._config.anchor,
            excluded=excluded,
        )
