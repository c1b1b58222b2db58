import json
from pathlib import Path

import pytest

from trainer.config import DataConfig, RunConfig
from trainer.errors import ConfigError, OutputError
from trainer.training.run_directory import RecordError, cut_log, exclusive_run, find_run


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


def test_a_damaged_last_line_is_removed_and_another_one_is_named(tmp_path: Path) -> None:
    write_log(tmp_path, {"step": 1, "loss": 0.5}, tail='{"step": 2, "lo\n')

    cut_log(tmp_path, 2)

    assert (tmp_path / "log.jsonl").read_text() == '{"step": 1, "loss": 0.5}\n'
    (tmp_path / "log.jsonl").write_text('{"step": 1, "lo\n{"step": 2, "loss": 0.5}\n')
    with pytest.raises(ConfigError, match=r"log.jsonl:1 is damaged: remove the line, and the same"):
        cut_log(tmp_path, 2)


def test_a_damaged_record_is_named_with_the_way_on(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("{}")
    (tmp_path / "run.json").write_text('{"config": ')
    config = RunConfig(data=DataConfig(rows=[tmp_path / "rows.jsonl"]))

    with pytest.raises(RecordError, match=r"run.json is not valid JSON: .* delete the run's"):
        find_run(tmp_path, config)


def test_a_full_disk_names_the_run_directory_and_other_errors_pass(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with (
        pytest.raises(
            OutputError, match=r"run directory .*run cannot be written \(No space left on device\)"
        ),
        exclusive_run(tmp_path / "run"),
    ):
        raise RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0")
    with pytest.raises(RuntimeError, match="^shapes$"), exclusive_run(tmp_path / "run"):
        raise RuntimeError("shapes")


def test_only_the_first_process_holds_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with exclusive_run(tmp_path / "run"):
        with (
            pytest.raises(OutputError, match="another run is writing to"),
            exclusive_run(tmp_path / "run"),
        ):
            pass
        monkeypatch.setenv("RANK", "1")
        with exclusive_run(tmp_path / "run"):
            pass
