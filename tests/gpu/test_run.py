"""The runner of the GPU's steps; the steps are stand-ins."""

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.gpu import run, step
from tests.gpu.material import texts
from tests.gpu.run import DRY_SLOWNESS, SKIPPED, STEPS, TOTAL_SECONDS, main
from tests.gpu.step import Machine


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace the processes of steps; list the steps that were run."""
    ran: list[str] = []

    def run_process(command: list[str], timeout: float, **_: object) -> SimpleNamespace:
        name, out = command[4], Path(command[6])
        ran.append(name)
        assert 0 < timeout <= STEPS[name].seconds * DRY_SLOWNESS
        assert command[-1] == "--dry-run"
        if name == "tests":
            Machine(is_dry=True, work=out.parent, out=out).keep({"kept": 1})
            raise subprocess.TimeoutExpired(command, timeout)
        if name != "bulk":
            out.write_text(json.dumps({"figure": len(ran)}))
        return SimpleNamespace(returncode={"bulk": 1, "faiss": SKIPPED}.get(name, 0))

    monkeypatch.setattr(run, "surroundings", dict)
    monkeypatch.setattr(subprocess, "run", run_process)
    return ran


def results(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "results.json").read_text())["steps"]
    return found


def test_a_step_that_fails_or_takes_too_long_costs_only_itself(
    calls: list[str], tmp_path: Path
) -> None:
    assert main(["--out", str(tmp_path), "--dry-run"]) == 1

    assert calls == list(STEPS)
    found = results(tmp_path)
    assert found["tests"]["status"] == "stopped after 800 s"
    assert found["tests"]["kept"] == 1
    assert found["bulk"]["status"] == "exit code 1"
    assert found["faiss"]["status"] == "skipped"
    assert found["limits"] == {"status": "ok", "seconds": 0.0, "figure": 1}
    assert (tmp_path / "log.txt").read_text().count("== ") == len(STEPS)


def test_steps_are_chosen_by_name_and_resumed(calls: list[str], tmp_path: Path) -> None:
    arguments = ["--out", str(tmp_path), "--dry-run", "--resume", "--steps", "search", "bulk"]

    assert [main(arguments), main(arguments)] == [1, 1]
    assert calls == ["search", "bulk", "bulk"]
    assert main([*arguments[:-1], "faiss"]) == 0


def test_without_time_left_no_step_is_started(calls: list[str], tmp_path: Path) -> None:
    assert main(["--out", str(tmp_path), "--dry-run", "--seconds", "0"]) == 1

    assert calls == []
    assert {each["status"] for each in results(tmp_path).values()} == {"no time left"}


def test_all_steps_together_take_less_than_nine_minutes() -> None:
    assert sum(each.seconds for each in STEPS.values()) <= TOTAL_SECONDS < 540
    assert set(step.steps()) == set(STEPS)


def test_the_texts_are_different() -> None:
    assert len(set(texts(2000))) == 2000
