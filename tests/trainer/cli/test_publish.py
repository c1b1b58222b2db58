"""The commands `blend` and `publish`, from the command line to the files."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.retrieval.encoder.encoder import Encoder
from service.retrieval.encoder.loader import load_encoder
from trainer.cli.main import app

QUESTIONS = {"en": "Where does tea grow?", "de": "Wo wächst Tee?"}


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    """An evaluation set of one question in two languages."""
    folder = tmp_path / "xquad"
    folder.mkdir()
    for language, question in QUESTIONS.items():
        qas = [
            {"id": "q1", "question": question, "answers": [{"text": "hills", "answer_start": 13}]}
        ]
        content = {
            "data": [
                {"title": "Tea", "paragraphs": [{"context": "Tea grows on hills.", "qas": qas}]}
            ]
        }
        (folder / f"xquad.{language}.json").write_text(json.dumps(content))
    run("import", "xquad", folder, "--output", tmp_path / "set")
    return tmp_path / "set"


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [*map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_blend_is_written_published_and_served(
    tmp_path: Path,
    questions: Path,
    tiny_checkpoint: Path,
    tuned_checkpoint: Path,
    tiny_encoder: Encoder,
) -> None:
    blend = ["blend", tiny_checkpoint, tuned_checkpoint, "--output", tmp_path / "blend"]
    flags = ["--set", questions, "--share", 0.5, "--max-tokens", 64, "--device", "cpu", "--json"]

    curve = json.loads(run(*blend, *flags))
    published = run(
        *("publish", curve["written"], "--to", tmp_path / "out", "--license", "mit", "--json")
    )

    assert [point["share"] for point in curve["points"]] == [0, 0.5]
    assert curve["written"] == str(tmp_path / "blend/adapter")
    # One passage, which every query finds: nothing is better than the base, whose share is kept.
    assert curve["chosen_share"] == 0
    assert json.loads(published)["passage_fingerprint"] == tiny_encoder.fingerprint
    assert load_encoder(str(tmp_path / "out"), device="cpu").name == "out"


def test_a_wrong_pair_is_one_line(tmp_path: Path, questions: Path, tuned_checkpoint: Path) -> None:
    result = CliRunner().invoke(
        app,
        [
            *("blend", str(tuned_checkpoint), str(tuned_checkpoint)),
            *("--output", str(tmp_path / "blend"), "--set", str(questions)),
        ],
    )

    assert result.exit_code == 1
    assert result.stderr.startswith("error: the base ")
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "blend").exists()


def test_a_push_without_a_token_is_refused(
    tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)

    result = CliRunner().invoke(
        app,
        [
            *("publish", str(tiny_checkpoint), "--to", str(tmp_path / "out")),
            *("--license", "mit", "--push", "owner/name"),
        ],
    )

    assert result.exit_code == 1
    assert "the variable HF_TOKEN is not set" in result.stderr
    assert not (tmp_path / "out").exists()


def test_what_evaluate_measured_is_published_and_read(
    tmp_path: Path, questions: Path, tuned_checkpoint: Path
) -> None:
    flags = ["--max-tokens", 64, "--device", "cpu", "--direction", "en-en", "--direction", "L-en"]
    files = {path: path.read_bytes() for path in tuned_checkpoint.rglob("*") if path.is_file()}

    run("evaluate", questions, "--encoder", tuned_checkpoint, "--output", tmp_path / "r", *flags)
    languages = ["--languages", tmp_path / "r/languages.json", "--license", "mit"]
    run("publish", tuned_checkpoint, "--to", tmp_path / "encoder", *languages)
    run("publish", tuned_checkpoint, "--to", tmp_path / "adapter", *languages, "--as-adapter")

    # One passage, which every query finds.
    expected = {code: {"questions": 1.0, "n": 1} for code in QUESTIONS}
    assert json.loads((tmp_path / "r/languages.json").read_text()) == expected
    for name in ("encoder/manifest.json", "adapter/adapter.json"):
        assert json.loads((tmp_path / name).read_text())["languages"] == expected
    found = {path: path.read_bytes() for path in tuned_checkpoint.rglob("*") if path.is_file()}
    assert found == files  # neither command writes into the checkpoint


@pytest.mark.parametrize("option", ["--results", "--data-card", "--push"])
def test_an_adapter_is_copied_without_a_model_card(
    tmp_path: Path, tuned_checkpoint: Path, option: str
) -> None:
    command = ["publish", str(tuned_checkpoint), "--to", str(tmp_path / "out"), "--as-adapter"]

    result = CliRunner().invoke(app, [*command, option, "owner/name"])

    assert result.exit_code == 1
    assert "--as-adapter writes no model card" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_wrong_record_of_languages_is_refused_before_the_checkpoint_is_opened(
    tmp_path: Path,
) -> None:
    (tmp_path / "languages.json").write_text("{}")
    command = ["publish", "no-such-encoder", "--to", str(tmp_path / "out")]

    result = CliRunner().invoke(app, [*command, "--languages", str(tmp_path / "languages.json")])

    assert result.exit_code == 1
    assert "languages.json names no language" in result.stderr
