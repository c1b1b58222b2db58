import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from trainer.cli.main import app

COMMAND = ["evaluate", "xquad"]
HEAVY = {"torch", "transformers", "faiss", "ir_measures", "numpy"}


def test_importing_the_command_line_imports_nothing_heavy() -> None:
    code = "import sys, trainer.cli.main; sys.stdout.write(' '.join(sys.modules))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert HEAVY.isdisjoint(done.stdout.split())


def test_a_missing_folder_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [*COMMAND, str(tmp_path / "missing")])

    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1


def test_the_console_script_reports_an_error_without_a_traceback(tmp_path: Path) -> None:
    code = "from trainer.cli.main import main; main()"

    done = subprocess.run(
        [sys.executable, "-c", code, *COMMAND, str(tmp_path)], capture_output=True, text=True
    )

    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"error: {tmp_path} holds no xquad.en.json: name the folder of XQuAD"
    ]


def test_a_missing_encoder_is_one_line_and_exit_code_1(xquad: Path) -> None:
    result = CliRunner().invoke(app, [*COMMAND, str(xquad), "--encoder", "nowhere"])

    assert result.exit_code == 1
    assert result.stderr.startswith("error: the encoder nowhere does not exist")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "exit_code"), [pytest.param("SIGINT", 130, marks=pytest.mark.slow), ("SIGTERM", 143)]
)
def test_a_signal_is_one_line_and_its_exit_code(xquad: Path, name: str, exit_code: int) -> None:
    code = f"""
import os, signal
from trainer.__main__ import main
from trainer.report import run
run.load_encoder = lambda *_, **options: os.kill(os.getpid(), signal.{name})
main()
"""

    done = subprocess.run(
        [sys.executable, "-c", code, *COMMAND, str(xquad)], capture_output=True, text=True
    )

    assert done.returncode == exit_code
    assert done.stderr.splitlines() == ["error: interrupted"]


def test_the_version_is_that_of_the_package() -> None:
    result = CliRunner().invoke(app, ["--version"])

    assert (result.exit_code, result.stdout) == (0, f"clear-trainer {version('clear-search')}\n")


def test_the_help_names_the_commands_that_take_json() -> None:
    commands = get_command(app).commands
    takers = {name for name, each in commands.items() if "--json" in options_of(each)}

    assert set(re.findall(r"`([^`]+)`", get_command(app).epilog or "")) == takers | {"--json"}


def options_of(command: Any) -> set[str]:
    return {option for parameter in command.params for option in parameter.opts}


def test_the_commands_are_listed_in_their_order_of_use() -> None:
    names = [*get_command(app).commands]

    assert names == [
        *("import", "mine", "train", "ablate", "evaluate", "report"),
        *("blend", "sum", "calibrate", "publish"),
    ]
