"""Builds the objective of a run: from its configuration and rows to an objective with labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from service.retrieval.encoder.encoder import Encoder
from service.retrieval.progress import OnProgress
from trainer.config import RunConfig
from trainer.data.rows import Row
from trainer.objective.batch import BatchObjective, FrozenBridgeObjective, InBatchObjective
from trainer.objective.columns import passage_codes
from trainer.objective.divergences import matched_temperature
from trainer.objective.frozen import build_frozen_pool

# Rows that the matched temperature is estimated from.
SAMPLE_ROWS = 512


@dataclass(frozen=True)
class RunObjective:
    """A run's objective, the labels that it reads with each row, and its temperature."""

    objective: BatchObjective
    labels: list[list[int]]
    temperature: float


def build_objective(
    config: RunConfig, rows: Sequence[Row], base: Encoder, cache: Path, on_progress: OnProgress
) -> RunObjective:
    """Build the objective of a run and estimate its temperature where that is `matched`.

    Args:
        config: of the run.
        rows: all training rows.
        base: the untrained encoder, which embeds frozen passages and queries.
        cache: the folder of its embeddings.
        on_progress: is called as texts are embedded.
    """
    temperature = config.objective.temperature
    if config.objective.freezes_passages:
        pool = build_frozen_pool(rows, base, cache, on_progress)
        if temperature == "matched":
            sample = (pool.targets >= 0).nonzero()[:SAMPLE_ROWS, 0]  # rows with a passage
            queries, targets = pool.queries[pool.query_places[sample]], pool.targets[sample]
            temperature = matched_temperature(queries, pool.passages, targets)
        labels = [[number] for number in range(len(rows))]
        bridge = FrozenBridgeObjective(config.objective, pool, temperature)
        return RunObjective(bridge, labels, temperature)
    if temperature == "matched":
        pool = build_frozen_pool(rows[:SAMPLE_ROWS], base, cache, on_progress)
        temperature = matched_temperature(
            pool.queries[pool.query_places], pool.passages, pool.targets
        )
    num_negatives = config.data.hard_negatives
    in_batch = InBatchObjective(config.objective, num_negatives, temperature)
    return RunObjective(in_batch, passage_codes(rows, num_negatives), temperature)
