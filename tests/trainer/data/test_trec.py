from pathlib import Path

import pytest

from trainer.data.trec import make_runs_directory, write_run
from trainer.errors import OutputError


def test_a_run_file_has_six_columns_best_first_and_scores_in_full(tmp_path: Path) -> None:
    run = {"q1": {"a00.p01": 0.8113273978233337, "a00.p00": 0.5}, "q2": {"a01.p00": -0.25}}

    write_run(tmp_path / "de.run", run, tag="my encoder")

    assert (tmp_path / "de.run").read_text() == (
        "q1 Q0 a00.p01 1 0.8113273978233337 my-encoder\n"
        "q1 Q0 a00.p00 2 0.5 my-encoder\n"
        "q2 Q0 a01.p00 1 -0.25 my-encoder\n"
    )


def test_a_folder_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(OutputError, match="run files cannot be written to .*file/runs"):
        make_runs_directory(tmp_path / "file" / "runs")


def test_a_run_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "de.run").mkdir()

    with pytest.raises(OutputError, match=r"the run file .*de\.run cannot be written"):
        write_run(tmp_path / "de.run", {}, tag="tiny")
