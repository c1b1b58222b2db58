"""The commands `train` and `ablate`, up to where they would train."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from trainer.cli.main import app
from trainer.output import exclusive_output


@pytest.mark.parametrize("command", ["train", "ablate"])
def test_a_second_run_of_one_output_is_refused_before_it_reads_anything(
    tmp_path: Path, command: str
) -> None:
    (tmp_path / "base.toml").write_text('[data]\nrows = ["missing.jsonl"]\n')
    (tmp_path / "grid.toml").write_text('base = "base.toml"\n[variants.a]\n')
    file, run = ("base.toml", "out") if command == "train" else ("grid.toml", "out/runs/a.seed0")

    with exclusive_output(tmp_path / run):
        result = CliRunner().invoke(
            app, [command, str(tmp_path / file), "--output", str(tmp_path / "out")]
        )

    assert result.exit_code == 1
    refusal = f"another run is writing to {tmp_path / run}: wait for it, or name another --output"
    assert refusal in result.stderr


def test_a_run_that_is_refused_leaves_no_folder(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('[data]\nrows = ["missing.jsonl"]\n')

    result = CliRunner().invoke(
        app, ["train", str(tmp_path / "c.toml"), "--output", str(tmp_path / "out")]
    )

    assert result.exit_code == 1
    assert "missing.jsonl does not exist" in result.stderr
    assert not (tmp_path / "out").exists()
