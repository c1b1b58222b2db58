import json
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from service.cli.doctor import examine as doctor
from service.cli.main import app
from service.retrieval.encoder.batches import Role
from service.retrieval.encoder.encoder import EncodedTexts, Encoder
from service.retrieval.encoder.reference import computed
from service.retrieval.hardware import Contention
from tests.conftest import make_checkpoint


def examine(encoder: Path, index: Path | None, cache: Path) -> tuple[int, dict[str, Any]]:
    """Run the command; return its exit code and its findings by subject."""
    flags = ["--encoder", str(encoder), "--cache", str(cache), "--json"]
    if index:
        flags += ["--index", str(index)]
    result = CliRunner().invoke(app, ["doctor", *flags])
    return result.exit_code, {found["subject"]: found for found in json.loads(result.stdout)}


def test_a_whole_installation_needs_no_fix(
    tiny_checkpoint: Path, tiny_index: Path, tmp_path: Path
) -> None:
    exit_code, findings = examine(tiny_checkpoint, tiny_index, tmp_path)

    assert exit_code == 0
    assert [found["subject"] for found in findings.values() if found["mend"]] == []
    assert "32 dimensions, 64 tokens" in findings["encoder"]["found"]
    assert "12 passages, whole" in findings["index"]["found"]
    assert 'passage prompt "passage: " (config_' in findings["prompts"]["found"]
    assert findings["cost"]["found"].startswith("loaded in ")
    assert {"python", "cores", "packages", "cache", "device", "faiss"} < set(findings)


def test_no_index_is_not_wrong(tiny_checkpoint: Path, tmp_path: Path) -> None:
    exit_code, findings = examine(tiny_checkpoint, None, tmp_path / "not" / "made" / "yet")

    assert exit_code == 0
    assert "CLEAR_INDEX" in findings["index"]["found"]


def test_the_times_of_a_busy_machine_are_marked_and_nothing_must_be_fixed(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Contention, "warning", lambda self: "others took 1.3 cores")

    exit_code, findings = examine(tiny_checkpoint, None, tmp_path)

    assert exit_code == 0
    assert findings["other load"]["found"] == "others took 1.3 cores"


def test_an_index_of_another_encoder_must_be_fixed(tiny_index: Path, tmp_path: Path) -> None:
    other = make_checkpoint(tmp_path / "other", seed=1)

    exit_code, findings = examine(other, tiny_index, tmp_path)

    assert exit_code == 1
    assert "build again" in findings["index"]["mend"]
    assert findings["encoder"]["mend"] == ""


def test_the_index_is_checked_without_an_encoder(tiny_index: Path, tmp_path: Path) -> None:
    exit_code, findings = examine(tmp_path / "missing", tiny_index, tmp_path)

    assert exit_code == 1
    assert "does not exist" in findings["encoder"]["mend"]
    assert "12 passages, whole" in findings["index"]["found"]


def test_two_builds_of_faiss_are_one_too_many(
    monkeypatch: pytest.MonkeyPatch, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(doctor, "version", lambda name: "1.0")

    exit_code, findings = examine(tiny_checkpoint, None, tmp_path)

    assert exit_code == 1
    assert "keep one" in findings["faiss"]["mend"]


def test_the_table_shows_commands_as_they_are_typed(
    monkeypatch: pytest.MonkeyPatch, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    """`'clear-search[cpu]'` was printed without its bracket."""

    def no_faiss(name: str) -> str:
        if name.startswith("faiss"):
            raise PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(doctor, "version", no_faiss)
    flags = ["--encoder", str(tiny_checkpoint), "--cache", str(tmp_path)]

    result = CliRunner().invoke(app, ["doctor", *flags], env={"COLUMNS": "200"})

    shown = "".join(result.stdout.split())
    assert "pipinstall'clear-search[cpu]'(or[gpu])" in shown


def doctor_reference(encoder: Path, cache: Path) -> tuple[int, dict[str, Any]]:
    flags = ["--reference", "--encoder", str(encoder), "--cache", str(cache), "--json"]
    result = CliRunner().invoke(app, ["doctor", *flags])
    return result.exit_code, {found["subject"]: found for found in json.loads(result.stdout)}


def test_the_reference_s_figure_is_told_by_script_and_kept_in_the_cache(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    exit_code, findings = doctor_reference(tiny_checkpoint, tmp_path)

    assert exit_code == 0
    found = findings["reference"]["found"]
    assert found.startswith(("least cosine 1.0000", "least cosine 0.9999"))
    assert "of torch-fp32 to sentence-transformers 6." in found
    assert "Ethiopic 1.0000" in findings["reference by script"]["found"]
    [record] = tmp_path.glob("reference1-*-torch-fp32-*.json")
    assert json.loads(record.read_text())["by_script"].keys() >= {"Latin", "Han"}


def test_an_encoder_that_differs_from_its_reference_fails(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed = Encoder.encode

    def reversed_words(encoder: Encoder, texts: Sequence[str], role: Role) -> EncodedTexts:
        return embed(encoder, [" ".join(reversed(text.split())) for text in texts], role)

    monkeypatch.setattr(Encoder, "encode", reversed_words)

    exit_code, findings = doctor_reference(tiny_checkpoint, tmp_path)

    assert exit_code == 1
    assert "CLEAR_CPU_ENGINE=torch" in findings["reference"]["mend"]


def test_without_a_reference_the_extra_is_named(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(computed, "has_library", lambda: False)

    exit_code, findings = doctor_reference(tiny_checkpoint, tmp_path)

    assert exit_code == 1
    assert "pip install 'clear-search[reference]'" in findings["reference"]["mend"]
    assert not list(tmp_path.glob("reference1-*"))


@pytest.mark.slow
def test_another_query_prompt_than_the_indexs_is_named_with_its_setting(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    passages = tmp_path / "passages.jsonl"
    passages.write_text('{"id": "1", "text": "tea"}\n')
    flags = ["--encoder", str(tiny_checkpoint), "--index", str(tmp_path / "index")]
    CliRunner().invoke(app, ["index", "build", str(passages), *flags, "--query-prompt", "q: "])

    exit_code, findings = examine(tiny_checkpoint, tmp_path / "index", tmp_path)
    same = CliRunner().invoke(app, ["doctor", *flags, "--query-prompt", "q: ", "--json"])

    assert exit_code == 0
    assert "set CLEAR_QUERY_PROMPT='\"q: \"' to search" in findings["query prompt"]["found"]
    assert "query prompt" not in [found["subject"] for found in json.loads(same.stdout)]
