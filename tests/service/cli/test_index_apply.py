import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from service.cli.main import app
from service.retrieval.generation.generation import open_current


@pytest.fixture
def run(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("CLEAR_ENCODER", str(tiny_checkpoint))
    monkeypatch.setenv("CLEAR_CPU_ENGINE", "torch")
    monkeypatch.setenv("CLEAR_PRECISION", "fp32")
    return lambda *arguments, **named: CliRunner().invoke(
        app, [str(argument) for argument in arguments], **named
    )


@pytest.mark.parametrize("factory", ["Flat", "SQ8"])
def test_changes_from_the_standard_input_are_applied(
    tmp_path: Path, passages_file: Path, run: Any, factory: str
) -> None:
    index = ["--index", tmp_path / "i"]
    built = run("index", "build", passages_file, *index, "--factory", factory, "--json")
    ids = open_current(tmp_path / "i").passages.passage_ids([0, 1])
    lines = [
        {"id": ids[0], "delete": True},
        {"id": ids[1], "text": "changed"},
        {"id": ids[1]},
        {"id": "new", "text": "tea"},
    ]

    done = run(
        *("index", "apply", "-", *index, "--skip-invalid", "--json"),
        input="".join(f"{json.dumps(line)}\n" for line in lines),
    )

    assert done.exit_code == 0, done.stderr
    count = json.loads(built.stdout)["passages"]
    facts = json.loads(done.stdout)
    assert facts.pop("generation") == open_current(tmp_path / "i").name
    assert facts == {
        "passages": count,
        "truncated": 0,
        "reused": count - 2,
        "encoded": 2,
        "removed": 1,
        "skipped": 1,
        "unembedded": 0,
    }
    told = f"{factory} is made again from all {count} vectors; only Flat is copied" in done.stderr
    assert told == (factory != "Flat")


@pytest.mark.parametrize("command", ["update", "apply"])
def test_auto_reuses_the_embeddings_of_the_runtime_that_the_manifest_names(
    command: str, index_copy: Path, passages_file: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLEAR_CPU_ENGINE", "auto")  # which would choose OpenVINO
    monkeypatch.setenv("CLEAR_PRECISION", "auto")

    done = run("index", command, passages_file, "--index", index_copy, "--device", "cpu", "--json")

    assert done.exit_code == 0, done.stderr
    facts = json.loads(done.stdout)
    assert (facts["encoded"], facts["reused"]) == (0, facts["passages"])


def test_changes_without_an_index_are_refused(tmp_path: Path, run: Any) -> None:
    (tmp_path / "c.jsonl").write_text('{"id": "a", "text": "tea"}\n')

    done = run("index", "apply", tmp_path / "c.jsonl", "--index", tmp_path / "i")

    assert done.exit_code == 1
    assert "there is no index in" in done.stderr
