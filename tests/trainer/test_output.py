"""Outputs: never an input, never of other origin, never of two runs at once."""

import errno
from pathlib import Path

import pytest

from trainer.errors import DataError, OutputError
from trainer.output import (
    disk_failure,
    exclusive_output,
    refuse_input,
    refuse_other_files,
    refuse_run_folder,
)


def test_an_output_that_is_an_input_is_refused_by_any_path(tmp_path: Path) -> None:
    rows, link = tmp_path / "rows.jsonl", tmp_path / "link.jsonl"
    rows.write_text("{}\n")
    link.symlink_to(rows)

    for output in (
        rows,
        link,
        tmp_path / "." / "rows.jsonl",
        tmp_path / ".." / tmp_path.name / "link.jsonl",
    ):
        with pytest.raises(OutputError, match=r"^--output .*jsonl is .*rows\.jsonl, which is read"):
            refuse_input(output, [tmp_path / "absent", rows])

    refuse_input(tmp_path / "new.jsonl", [rows])


def test_a_second_run_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    (tmp_path / "two").mkdir()
    refusal = r"^another run is writing to .*two: wait for it, or name another --output$"

    with (
        exclusive_output(tmp_path / "two"),
        pytest.raises(OutputError, match=refusal),
        exclusive_output(tmp_path / "two"),
    ):
        pass

    with exclusive_output(tmp_path / "two"):
        pass


def test_a_folder_that_a_refused_run_created_is_removed_and_a_used_one_stays(
    tmp_path: Path,
) -> None:
    with pytest.raises(ValueError), exclusive_output(tmp_path / "refused"):
        raise ValueError
    with exclusive_output(tmp_path / "used"):
        (tmp_path / "used/run.json").write_text("{}")

    assert [path.name for path in tmp_path.iterdir()] == ["used"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with (
        pytest.raises(OutputError, match=r"file/run cannot be written \(Not a directory\)"),
        exclusive_output(tmp_path / "file/run"),
    ):
        pass


def test_files_without_the_one_that_is_written_first_are_other_content(tmp_path: Path) -> None:
    refuse_other_files(tmp_path, ["README.md"], "card.json")
    (tmp_path / "README.md").write_text("mine")

    with pytest.raises(OutputError, match=r"has other content \(README.md without card.json\)"):
        refuse_other_files(tmp_path, ["README.md"], "card.json")

    (tmp_path / "card.json").write_text("{}")
    refuse_other_files(tmp_path, ["README.md"], "card.json")


@pytest.mark.parametrize("inner", ["adapter", "encoder"])
def test_the_folder_of_a_run_names_the_encoder_in_it(tmp_path: Path, inner: str) -> None:
    (tmp_path / "base" / inner).mkdir(parents=True)

    with pytest.raises(DataError, match=rf"base is the folder of a run or .* name .*base/{inner}$"):
        refuse_run_folder(str(tmp_path / "base"))

    refuse_run_folder(str(tmp_path / "base" / inner))
    refuse_run_folder("bundled")


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (FULL, "No space left on device"),
        (RuntimeError("[enforce fail at x.cc:664] . unexpected pos 64 vs 0"), FULL.strerror),
        (RuntimeError("I/O error: Io(Os { code: 28, kind: StorageFull })"), FULL.strerror),
        (OSError(errno.EROFS, "Read-only file system"), "Read-only file system"),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), None),
        (OSError(errno.ECONNRESET, "Connection reset by peer"), None),
    ],
)
def test_a_disk_failure_is_told_from_other_errors(error: Exception, reason: str | None) -> None:
    assert disk_failure(error) == reason


def test_the_cause_of_an_error_of_torch_is_the_reason() -> None:
    error = RuntimeError("PytorchStreamWriter failed writing file")
    error.__context__ = OSError(errno.EDQUOT, "Disk quota exceeded")

    assert disk_failure(error) == "Disk quota exceeded"
