from pathlib import Path

import pytest

from trainer.ablation.grid import read_grid
from trainer.config import read_config
from trainer.errors import ConfigError
from trainer.evaluation.gates import read_gates


def write(path: Path, content: str) -> Path:
    path.write_text(content)
    return path


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    config = read_config(write(tmp_path / "c.toml", '[data]\nrows = ["a.jsonl", "/b.jsonl"]\n'))

    assert config.data.rows == [tmp_path / "a.jsonl", Path("/b.jsonl")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[data]\n", r"c.toml: data.rows: Field required"),
        ('[data]\nrows = ["a"]\nrow = 1\n', r"c.toml: data.row: Extra inputs are not permitted"),
        ('[data]\nrows = ["a"]\nshares = [1, 2]\n', "2 shares for 1 files of rows"),
        ('[data]\nrows = ["a"]\n[objective]\nkl_weight = 0.7\n', "are over 1 together"),
        ('[data]\nrows = ["a"]\n[optimizer]\nsteps = 0\n', "optimizer.steps"),
        (
            '[data]\nrows = ["a"]\n[optimizer]\nmicro_batch_rows = 8\nmicro_batch_tokens = 4096\n',
            "micro_batch_rows and micro_batch_tokens are both set",
        ),
        ("[data\n", r"c.toml is not valid TOML: .*line 1"),
    ],
)
def test_an_error_names_file_and_field(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_config(write(tmp_path / "c.toml", content))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no.toml cannot be read"):
        read_config(tmp_path / "no.toml")


ROWS = '[data]\nrows = ["a"]\n'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f'{ROWS}[objective]\nname = "info_nce"\nkl_weight = 0.2\n', "kl_weight: no effect on"),
        (f'{ROWS}[objective]\nname = "info_nce"\nanchor = 5\n', "anchor: no effect on info_nce"),
        (f"{ROWS}[objective]\nanchor = 0\nkl = 0.5\n", "anchor, kl: no effect on clear: leave"),
        (f'{ROWS}[objective]\ninfo_nce_queries = "both"\n', "info_nce_queries: no effect on clear"),
        (
            f'{ROWS}[objective]\nname = "frozen_bridge"\nreverse_weight = 0.4\n',
            "reverse_weight: no effect on frozen_bridge",
        ),
        (
            f"{ROWS}[encoder]\nlora_rank = 8\ntrains_word_embeddings = true\n",
            "encoder.trains_word_embeddings: no effect on an adapter",
        ),
        (
            f'{ROWS}hard_negatives = 5\n[objective]\nname = "frozen_bridge"\n',
            "data.hard_negatives: no effect on frozen_bridge",
        ),
    ],
)
def test_a_weight_that_the_objective_ignores_is_refused(
    tmp_path: Path, content: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        read_config(write(tmp_path / "c.toml", content))

    assert str(tmp_path / "c.toml") in str(caught.value)


NO_ENGLISH = "reverse_weight = 0.7\nkl_weight = 0.3\n"
NO_REVERSE = "reverse_weight = 0.0\nkl_weight = 0.3\n"


@pytest.mark.parametrize("size", ["micro_batch_rows = 8", "micro_batch_tokens = 512"])
@pytest.mark.parametrize(("weights", "side"), [(NO_ENGLISH, "english"), (NO_REVERSE, "translated")])
def test_a_detached_column_in_the_cached_form_is_refused(
    tmp_path: Path, weights: str, side: str, size: str
) -> None:
    objective = f'{ROWS}[objective]\n{weights}kl_detach = "{side}"\n'
    plain = write(tmp_path / "plain.toml", objective)
    cached = write(tmp_path / "cached.toml", f"{objective}[optimizer]\n{size}\n")

    read_config(plain)
    with pytest.raises(ConfigError, match=rf"cached.toml: .*objective.kl_detach = '{side}' leaves"):
        read_config(cached)


@pytest.mark.parametrize("side", ["english", "translated"])
def test_a_detached_column_with_another_term_has_a_gradient(tmp_path: Path, side: str) -> None:
    content = f'{ROWS}[objective]\nkl_detach = "{side}"\n[optimizer]\nmicro_batch_rows = 8\n'

    assert read_config(write(tmp_path / "c.toml", content)).objective.kl_detach == side


def test_every_shipped_configuration_is_valid() -> None:
    shipped = sorted((Path(__file__).parents[2] / "trainer/configs").glob("*.toml"))
    grids = [path for path in shipped if "[variants." in path.read_text()]
    gates = [path for path in shipped if "[[gates]]" in path.read_text()]

    assert (len(grids), len(gates)) == (4, 1)
    for path in grids:
        read_grid(path)
    for path in gates:
        read_gates(path)
    for path in {*shipped} - {*grids} - {*gates}:
        read_config(path)


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (f"seed = -1\n{ROWS}", "seed: must be greater than or equal to 0"),
        (f"seed = 4294967296\n{ROWS}", "seed: must be less than or equal to 4294967295"),
        (f"seed = true\n{ROWS}", "seed: must be a valid integer"),
        (f"{ROWS}[optimizer]\nlearning_rate = inf\n", "optimizer.learning_rate: must be a finite"),
        (f"{ROWS}[optimizer]\nlearning_rate = nan\n", "optimizer.learning_rate: must be a finite"),
        (f"{ROWS}[optimizer]\nlearning_rate = true\n", "optimizer.learning_rate: must be a valid"),
        (f'{ROWS}[optimizer]\nlearning_rate = "1"\n', "optimizer.learning_rate: must be a valid"),
        (f"{ROWS}[encoder]\nlora_rank = true\n", "encoder.lora_rank: must be a valid integer"),
        (f"{ROWS}[dev]\nenglish_margin = inf\n", "dev.english_margin: must be a finite number"),
        (f"{ROWS}english_share = 2\n", "data.english_share: must be less than or equal to 1 or "),
        (
            f"{ROWS}english_share = [2]\n",
            "data.english_share: must be a valid number; ",
        ),
        (f"{ROWS}shares = [inf]\n", "data.shares.0: must be a finite number"),
        (
            f"{ROWS}[objective]\ntemperature = 0\n",
            "objective.temperature: must be greater than 0",
        ),
    ],
)
def test_a_number_beyond_its_limits_is_refused_by_its_field_alone(
    tmp_path: Path, content: str, place: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        read_config(write(tmp_path / "c.toml", content))

    assert str(caught.value).startswith(f"{tmp_path / 'c.toml'}: {place}")
    assert "constrained" not in str(caught.value)


def test_limits_themselves_are_allowed(tmp_path: Path) -> None:
    content = f"seed = 4294967295\n{ROWS}language_temperature = inf\n[optimizer]\nwarmup = 20\n"

    config = read_config(write(tmp_path / "c.toml", content))

    assert (config.seed, config.data.language_temperature) == (4294967295, float("inf"))
    assert config.optimizer.warmup_steps == 20


def test_the_only_step_of_a_run_has_no_warmup_which_would_leave_it_the_rate_0(
    tmp_path: Path,
) -> None:
    content = f"{ROWS}[optimizer]\nsteps = 1\nwarmup = 20\n"

    assert read_config(write(tmp_path / "c.toml", content)).optimizer.warmup_steps == 0
