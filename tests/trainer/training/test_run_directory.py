import json
from pathlib import Path

import pytest

from trainer.training.run_directory import cut_log


def write_log(folder: Path, *entries: dict[str, object], tail: str = "") -> None:
    lines = "".join(json.dumps(entry) + "\n" for entry in entries)
    (folder / "log.jsonl").write_text(lines + tail)


@pytest.mark.parametrize(("step", "kept"), [(0, 0), (1, 1), (2, 3), (9, 4)])
def test_a_log_is_cut_after_the_step_that_is_resumed(tmp_path: Path, step: int, kept: int) -> None:
    entries: list[dict[str, object]] = [
        {"step": 1, "loss": 0.5},
        {"step": 2, "loss": 0.4},
        {"step": 2, "dev": {}},
        {"step": 3, "loss": 0.3},
    ]
    write_log(tmp_path, *entries)

    cut_log(tmp_path, step)

    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == entries[:kept]


def test_a_line_that_was_not_finished_is_removed(tmp_path: Path) -> None:
    write_log(tmp_path, {"step": 1, "loss": 0.5}, tail='{"step": 2, "lo')

    cut_log(tmp_path, 2)

    assert (tmp_path / "log.jsonl").read_text() == '{"step": 1, "loss": 0.5}\n'


def test_a_run_without_a_log_and_another_process_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_log(tmp_path, 0)
    write_log(tmp_path, {"step": 1, "loss": 0.5})
    monkeypatch.setenv("RANK", "1")

    cut_log(tmp_path, 0)

    assert (tmp_path / "log.jsonl").read_text() == '{"step": 1, "loss": 0.5}\n'
