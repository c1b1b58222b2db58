import errno
import re
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from trainer.cli.crash_report import report_crash

FAILING = """
from trainer.cli import main
from trainer.evaluation import sets

def fail(*arguments):
    raise {error}

sets.open_sets = fail
main.main()
"""


def run_failing(error: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run `evaluate` with an error in it; its temporary folder is a test's own."""
    return subprocess.run(
        [sys.executable, "-c", FAILING.format(error=error), "evaluate", "x"],
        capture_output=True,
        text=True,
        env={"TMPDIR": str(folder), "PATH": ""},
    )


@pytest.mark.parametrize(
    "error",
    [
        "ValueError('a passage')",
        pytest.param("KeyError('int8')", marks=pytest.mark.slow),
        pytest.param("MemoryError", marks=pytest.mark.slow),
    ],
)
def test_an_unexpected_error_is_one_line_and_a_file_with_the_traceback(
    error: str, tmp_path: Path
) -> None:
    done = run_failing(error, tmp_path)

    (file,) = tmp_path.glob("clear-trainer-*.log")
    name = error.partition("(")[0]
    assert done.returncode == 1
    assert re.fullmatch(
        rf"error: {name} at <string>:6, which is not expected: "
        rf"please report it with the traceback in {file}\n",
        done.stderr,
    )
    assert "Traceback (most recent call last)" in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_an_error_of_the_operating_system_is_quoted(tmp_path: Path) -> None:
    done = run_failing("OSError(28, 'No space left on device', '/data')", tmp_path)

    assert done.stderr.startswith("error: OSError: [Errno 28] No space left on device: '/data' at ")
    assert done.stderr.count("\n") == 1


def test_a_traceback_that_cannot_be_written_is_one_line_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", fail)

    report_crash(KeyError, KeyError("x"), None)

    assert capsys.readouterr().err == (
        "error: KeyError, and its traceback cannot be written (No space left on device): "
        "free disk space\n"
    )
