"""The command index calibrate, and the relevance that `search` shows then."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from service.cli.main import app
from tests.service.retrieval.test_index_calibration import questions, write


@pytest.fixture
def run(tiny_checkpoint: Path, index_copy: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("CLEAR_ENCODER", str(tiny_checkpoint))
    monkeypatch.setenv("CLEAR_INDEX", str(index_copy))
    monkeypatch.setenv("CLEAR_CPU_ENGINE", "torch")
    monkeypatch.setenv("CLEAR_PRECISION", "fp32")
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_an_index_gets_a_calibration_that_search_uses(
    run: Any, tmp_path: Path, index_copy: Path
) -> None:
    before = json.loads(run("search", "Tokyo", "--json").stdout)
    assert before["answered"] is None
    assert {hit["relevance"] for hit in before["hits"]} == {None}

    path = write(tmp_path / "q.jsonl", questions())
    result = run("index", "calibrate", "--questions", path, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["questions"] == 240

    found = json.loads(run("search", "Tokyo", "--json").stdout)
    hits = found["hits"]
    assert found["answered"] is (hits[0]["relevance"] >= 0.5)
    assert all(0 < hit["relevance"] < 1 for hit in hits)
    shown = run("search", "qx 7 zz 49").stdout
    assert "relevance" in shown and "probably not answered here; nearest passages:" in shown
    assert str(hits[0]["passage_id"]) in run("search", "Tokyo").stdout


def test_few_questions_are_refused_and_nothing_is_written(
    run: Any, tmp_path: Path, index_copy: Path
) -> None:
    path = write(tmp_path / "q.jsonl", questions()[:10])
    result = run("index", "calibrate", "--questions", path)
    assert result.exit_code == 1
    assert "at least 200 are needed" in " ".join(result.stderr.split())
    assert not (index_copy / "calibration.json").exists()
