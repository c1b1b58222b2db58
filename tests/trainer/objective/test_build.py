from pathlib import Path
from typing import Any

import pytest

from service.retrieval.encoder.encoder import Encoder
from service.retrieval.progress import ignore_progress
from tests.support.training_rows import ROWS
from trainer.config import DataConfig, ObjectiveConfig, RunConfig
from trainer.objective.build import build_objective


def make_config(**objective: Any) -> RunConfig:
    return RunConfig(data=DataConfig(rows=[Path("r")]), objective=ObjectiveConfig(**objective))


@pytest.mark.parametrize(
    ("name", "columns", "labels"),
    [
        ("clear", ("query", "translated_query", "passage"), [[0], [1], [2]]),
        ("info_nce", ("translated_query", "passage"), [[0], [1], [2]]),
        ("frozen_bridge", ("translated_query",), [[0], [1], [2]]),
    ],
)
def test_an_objective_embeds_only_the_columns_that_it_reads(
    tiny_encoder: Encoder, tmp_path: Path, name: str, columns: tuple[str, ...], labels: Any
) -> None:
    config = make_config(name=name, temperature=0.05)

    made = build_objective(config, ROWS[:3], tiny_encoder, tmp_path, ignore_progress)

    objective = made.objective
    assert (*objective.query_columns, *objective.passage_columns) == columns
    assert made.labels == labels
    assert made.temperature == 0.05


def test_a_matched_temperature_is_the_same_for_a_small_pool_and_a_batch(
    tiny_encoder: Encoder, tmp_path: Path
) -> None:
    """Both are estimated from all rows, as there are fewer than the sample takes."""
    temperatures = {
        build_objective(
            make_config(name=name, temperature="matched"),
            ROWS,
            tiny_encoder,
            tmp_path,
            ignore_progress,
        ).temperature
        for name in ("clear", "frozen_bridge")
    }

    assert len(temperatures) == 1
    assert 0.005 <= temperatures.pop() <= 0.2
