from pathlib import Path

import pytest

from tests.trainer.ablation.conftest import GRID
from trainer.ablation.grid import read_grid, select_cells
from trainer.errors import ConfigError

CONFIGS = Path(__file__).parents[3] / "trainer" / "configs"


def test_all_variants_run_with_one_seed_before_the_next(grid: Path) -> None:
    _, cells = read_grid(grid)

    assert [cell.name for cell in cells] == [
        "clear.seed0",
        "no-kl.seed0",
        "clear.seed1",
        "no-kl.seed1",
    ]
    assert [cell.config.objective.kl_weight for cell in cells] == [0.2, 0, 0.2, 0]
    assert {cell.config.objective.temperature for cell in cells} == {0.02}


def test_a_variant_may_run_with_fewer_seeds(grid: Path) -> None:
    grid.write_text(GRID.replace("[variants.clear]", "[variants.clear]\nseeds = [1]"))

    _, cells = read_grid(grid)

    assert [cell.name for cell in cells] == ["clear.seed1", "no-kl.seed0", "no-kl.seed1"]


def test_an_unknown_variant_or_seed_is_reported_with_the_available_ones(grid: Path) -> None:
    _, cells = read_grid(grid)

    with pytest.raises(
        ConfigError, match="the grid has no variant no-lk: name one of clear, no-kl$"
    ):
        select_cells(cells, ["clear", "no-lk"])
    with pytest.raises(ConfigError, match="the grid has no seed 7: name one of 0, 1$"):
        select_cells(cells, seeds=[7])


def test_a_variant_without_the_seed_is_reported(grid: Path) -> None:
    grid.write_text(GRID.replace("[variants.clear]", "[variants.clear]\nseeds = [1]"))
    _, cells = read_grid(grid)

    with pytest.raises(ConfigError, match="none of the named variants has one of the named seeds"):
        select_cells(cells, ["clear"], [0])


def test_an_invalid_variant_is_reported_before_any_run(grid: Path) -> None:
    grid.write_text(GRID + "\n[variants.odd.objective]\nalpha = 1\n")

    with pytest.raises(ConfigError, match=r"grid.toml, variant odd: .*objective.alpha: Extra"):
        read_grid(grid)


def test_an_invalid_grid_is_reported_with_its_field(grid: Path) -> None:
    grid.write_text("seeds = []\n" + GRID.replace("seeds = [0, 1]\n", ""))

    with pytest.raises(ConfigError, match=r"grid.toml: seeds: List should have at least 1 item"):
        read_grid(grid)


def test_the_shipped_configurations_are_valid() -> None:
    from trainer.config import read_config

    read_grid(CONFIGS / "results.toml")
    grid, cells = read_grid(CONFIGS / "ablation.toml")
    reference = read_config(CONFIGS / "reference.toml")
    read_config(CONFIGS / "frozen-bridge.toml")

    assert len(cells) == len(grid.variants) * len(grid.seeds)
    assert reference.data.hard_negatives == 5
    assert (reference.objective.reverse_weight, reference.objective.kl_weight) == (0.4, 0.2)
    assert (reference.optimizer.batch_rows, reference.optimizer.steps) == (64, 50)


def test_a_variant_of_another_objective_leaves_out_the_weights_that_it_does_not_read(
    tmp_path: Path,
) -> None:
    objective = "[objective]\ntemperature = 0.02\nreverse_weight = 0.3\n"
    (tmp_path / "base.toml").write_text(f'[data]\nrows = ["r"]\n{objective}')
    (tmp_path / "grid.toml").write_text(
        'base = "base.toml"\n[variants.bridge]\nobjective = { name = "frozen_bridge" }\n'
        "[variants.clear]\n"
    )

    _, (bridge, clear) = read_grid(tmp_path / "grid.toml")

    assert bridge.config.objective.model_fields_set == {"name", "temperature"}
    assert clear.config.objective.reverse_weight == 0.3


@pytest.mark.parametrize("name", ["../../evil", "/evil", "..", ".hidden", "", "a b", "a\\b"])
def test_a_variant_that_is_no_plain_name_is_refused(grid: Path, name: str) -> None:
    quoted = name.replace("\\", "\\\\")
    grid.write_text(f'base = "base.toml"\n[variants."{quoted}"]\n')

    with pytest.raises(ConfigError, match="toml: variants: the name '.*' is a folder's: write"):
        read_grid(grid)


@pytest.mark.parametrize("seeds", ["[-1]", "[4294967296]", "[true]", "[1.0]"])
def test_a_seed_that_is_no_seed_is_refused(grid: Path, seeds: str) -> None:
    grid.write_text(f'base = "base.toml"\nseeds = {seeds}\n[variants.a]\n')
    with pytest.raises(ConfigError, match=r"grid.toml: seeds.0: must be"):
        read_grid(grid)

    grid.write_text(f'base = "base.toml"\n[variants.a]\nseeds = {seeds}\n')
    with pytest.raises(ConfigError, match=r"grid.toml: variants.a.seeds.0: must be"):
        read_grid(grid)
