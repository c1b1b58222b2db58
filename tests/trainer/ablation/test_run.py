from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from trainer.ablation.run import ablate
from trainer.config import RunConfig
from trainer.training.run_directory import write_record


def fake_record(config: RunConfig) -> Mapping[str, Any]:
    """Return scores: .5 for the base, .6 with the KL term, .7 without, plus .01 times the seed."""
    score = (0.6 if config.objective.kl_weight else 0.7) + config.seed / 100
    scores = {"news": {"en": 0.9, "sw": score, "ha": score}}
    base = {"news": {"en": 0.9, "sw": 0.5, "ha": 0.5}}
    return {"is_finished": True, "scores": scores, "base_scores": base}


def test_a_killed_ablation_resumes_and_its_table_has_the_finished_runs(
    grid: Path, tmp_path: Path
) -> None:
    trained = []

    def train(config: RunConfig, run: Path) -> Mapping[str, Any]:
        if (run / "run.json").is_file():
            return {}
        if len(trained) == 3:
            trained.append("killed")
            raise KeyboardInterrupt
        trained.append(run.name)
        (run / "encoder").mkdir(parents=True)
        write_record(run, fake_record(config))
        return {}

    with pytest.raises(KeyboardInterrupt):
        ablate(grid, tmp_path / "out", train, lambda *_: None)
    part = (tmp_path / "out" / "table.md").read_text()
    written = ablate(grid, tmp_path / "out", train, lambda *_: None)

    assert "| clear | 2 | 0.6050 ± 0.0071 | 0.9000 ± 0.0000 |" in part
    assert "| no-kl | 1 | 0.7000 | 0.9000 |" in part
    assert trained == ["clear.seed0", "no-kl.seed0", "clear.seed1", "killed", "no-kl.seed1"]
    assert written.read_text().splitlines()[0] == "| variant | seeds | news L→en | news en→en |"
    assert "| base | – | 0.5000 | 0.9000 |" in written.read_text()
    assert "| no-kl | 2 | 0.7050 ± 0.0071 |" in written.read_text()
    assert not list((tmp_path / "out").glob("runs/*/encoder"))
    assert (tmp_path / "out" / "plot.png").stat().st_size > 1000


def test_machines_may_share_a_grid_and_the_table_has_the_runs_of_all(
    grid: Path, tmp_path: Path
) -> None:
    def train(config: RunConfig, run: Path) -> Mapping[str, Any]:
        run.mkdir(parents=True)
        write_record(run, fake_record(config))
        return {}

    reported: list[tuple[str, int, int]] = []
    for variant, seed in [("no-kl", 1), ("clear", 0)]:
        table = ablate(
            grid,
            tmp_path / "out",
            train,
            lambda *cell: reported.append(cell),
            variants=[variant],
            seeds=[seed],
        )

    assert reported == [("no-kl.seed1", 0, 1), ("clear.seed0", 0, 1)]
    assert "| clear | 1 | 0.6000 |" in table.read_text()
    assert "| no-kl | 1 | 0.7100 |" in table.read_text()
