"""The process that makes a graph: its answer, its errors and its end."""

import errno
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from service.retrieval.checkpoint.layout import CheckpointLayout
from service.retrieval.checkpoint.sides import read_layout
from service.retrieval.encoder.runtime.openvino import export_process
from service.retrieval.encoder.runtime.openvino.export_process import export_in_own_process
from service.retrieval.errors import CheckpointError


@pytest.fixture
def layout(tiny_checkpoint: Path) -> CheckpointLayout:
    return read_layout(tiny_checkpoint)


def answer_with(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Let another program stand for the one that makes the graph."""
    start = subprocess.Popen

    def start_other(command: list[str], **options: Any) -> "subprocess.Popen[bytes]":
        assert command[1:] == ["-P", "-m", export_process.MODULE]
        return start([sys.executable, "-c", f"import os, sys, signal, time; {program}"], **options)

    monkeypatch.setattr(subprocess, "Popen", start_other)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", r"died \(exit status -9, perhaps for lack of mem"),
        ("sys.exit('no module')", r"died \(exit status 1: no module\): set CLEAR_CPU_ENGINE=torch"),
        ('print(\'["", "cannot be exported", 0]\')', "^cannot be exported$"),
    ],
)
def test_a_process_that_makes_no_graph_is_reported(
    tmp_path: Path,
    layout: CheckpointLayout,
    monkeypatch: pytest.MonkeyPatch,
    program: str,
    message: str,
) -> None:
    answer_with(monkeypatch, program)

    with pytest.raises(CheckpointError, match=message):
        export_in_own_process(tmp_path, layout)


def test_a_full_disk_is_reported_as_such(
    tmp_path: Path, layout: CheckpointLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_with(monkeypatch, f'print(\'["", "No space left", {errno.ENOSPC}]\')')

    with pytest.raises(OSError, match="No space left") as caught:
        export_in_own_process(tmp_path, layout)

    assert caught.value.errno == errno.ENOSPC


def test_the_process_ends_with_the_one_that_waits_for_it() -> None:
    program = (
        "from service.retrieval.encoder.runtime.openvino.export_process import _end_with_parent; "
        "_end_with_parent()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE) as process:
        assert process.stdin
        process.stdin.close()
        assert process.wait(60) == 1
