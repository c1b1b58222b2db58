from pathlib import Path

import pytest

from trainer.config import read_config
from trainer.errors import ConfigError


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
