"""The commands `import` and `mine`, from the command line to the files."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.support.progress import KeptProgress
from trainer.cli.main import app
from trainer.data.rows import Row, read_rows, write_rows


def test_an_unknown_kind_is_one_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["import", "msmarco", str(tmp_path), "--output", "x"])

    assert result.exit_code == 1
    assert "there is no import of 'msmarco'" in result.stderr


def test_mine_writes_rows_with_negatives_and_reports_its_phases(
    tmp_path: Path, tiny: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        Row(f"Query {n}?", f"Swali {n}?", "sw", f"p{n}", f"Passage {n}.", f"q{n}") for n in range(9)
    ]
    write_rows(tmp_path / "rows.jsonl", rows)
    arguments = ["mine", str(tmp_path / "rows.jsonl"), "--output", str(tmp_path / "mined.jsonl")]
    window = ["--num-negatives", "2", "--first-rank", "1", "--last-rank", "5"]

    progress = KeptProgress()
    monkeypatch.setattr("trainer.cli.prepare.show_progress", progress.show)

    result = CliRunner().invoke(app, [*arguments, *window, *tiny])

    assert result.exit_code == 0, result.stderr
    assert progress.stages == ["read", "load", "encode", "index", "check", "mine"]
    assert result.stdout.startswith("9 rows with negatives in ")
    assert {len(row.hard_negatives) for _, row in read_rows(tmp_path / "mined.jsonl")} == {2}


def test_invalid_rows_are_reported_before_any_encoder_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"query": "a"}\n')
    arguments = ["mine", str(tmp_path / "rows.jsonl"), "--output", str(tmp_path / "mined.jsonl")]

    result = CliRunner().invoke(app, [*arguments, "--encoder", "nowhere"])

    assert result.exit_code == 1
    assert "rows.jsonl:1 lacks the role" in result.stderr


def test_mine_refuses_its_input_as_output_before_any_encoder_is_loaded(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    write_rows(rows, [Row("Tea?", "Chai?", "sw", "p", "Tea grows.", "q")])
    before = rows.read_bytes()

    result = CliRunner().invoke(
        app, ["mine", str(rows), "--output", str(rows), "--encoder", "nowhere"]
    )

    assert result.exit_code == 1
    assert "which is read: name another file or folder" in result.stderr
    assert rows.read_bytes() == before


@pytest.mark.parametrize("command", ["import", "mine", "train"])
@pytest.mark.parametrize("seed", ["-1", "4294967296"])
def test_a_seed_that_is_no_seed_is_refused(tmp_path: Path, command: str, seed: str) -> None:
    source = ["xquad", "x"] if command == "import" else ["x"]

    result = CliRunner().invoke(app, [command, *source, "--output", "y", "--seed", seed])

    assert result.exit_code == 2
    assert "Invalid value for '--seed'" in result.stderr
