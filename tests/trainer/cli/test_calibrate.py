"""The command `calibrate`."""

import json
from pathlib import Path
from random import Random
from string import ascii_lowercase

import pytest
from click.testing import Result
from typer.testing import CliRunner

from service.retrieval.checkpoint.checkpoint import open_checkpoint
from service.retrieval.corpus.reader import Passage
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.relevance.calibration import (
    Calibration,
    calibration_of,
    read_calibration,
    write_calibration,
)
from trainer.calibration import calibrate
from trainer.cli.main import app
from trainer.data.evaluation_set import EvaluationData, Query
from trainer.data.evaluation_set_writer import write_evaluation_set


def write_set(folder: Path, num_passages: int = 30) -> Path:
    numbers, random = range(num_passages), Random(0)
    texts = ["".join(random.choices(ascii_lowercase, k=20)) for _ in numbers]
    data = EvaluationData(
        {"en": [Passage(f"p{n}", texts[n]) for n in numbers]},
        {"en": [Query(f"q{n}", texts[n], f"a{n}") for n in numbers]},
        {f"q{n}": {f"p{n}": 1} for n in numbers},
    )
    write_evaluation_set(folder, data)
    return folder


def test_calibrate_writes_the_file_that_publish_takes(
    tmp_path: Path, tiny: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrate, "LEAST_OF_A_KIND", 1)
    arguments = ["calibrate", str(write_set(tmp_path / "set")), "--json", *tiny]
    arguments += ["--output", str(tmp_path / "c.json"), "--cache", str(tmp_path / "cache")]
    result = CliRunner().invoke(app, [*arguments, "--cpu-engine", "torch", "--precision", "fp32"])
    assert result.exit_code == 0, result.output
    measured = json.loads(result.stdout)
    assert measured["language left out"]["set"]["en"]["queries"] == 60
    assert read_calibration(tmp_path / "c.json").model_dump()["measured"] == measured


def test_a_set_that_is_missing_is_refused_before_the_encoder_is_loaded(tmp_path: Path) -> None:
    arguments = ["calibrate", str(tmp_path / "none"), "--output", str(tmp_path / "c.json")]
    result = CliRunner().invoke(app, [*arguments, "--encoder", str(tmp_path / "none")])
    assert result.exit_code == 1
    assert "is not a folder" in result.stderr


def calibration_for(fingerprint: str) -> Calibration:
    weights = [-1.0, 1.0, 0.0, 0.0, 0.0]
    return Calibration(
        fingerprint=fingerprint, scale=0.02, best=weights, other=weights, short=[-1.0, 2.0]
    )


def publish(checkpoint: Path, tmp_path: Path, *options: str) -> Result:
    base = json.loads((checkpoint / "adapter.json").read_text())["base"]
    arguments = ["publish", str(checkpoint), "--to", str(tmp_path / "published")]
    arguments += ["--passage-encoder", base, "--license", "mit"]
    return CliRunner().invoke(
        app, [*arguments, *options, "--calibration", str(tmp_path / "c.json")]
    )


@pytest.mark.parametrize("options", [(), ("--as-adapter",)])
def test_publish_puts_the_calibration_into_the_manifest_bound_to_the_published_queries(
    tmp_path: Path, tuned_checkpoint: Path, tuned_encoder: Encoder, options: tuple[str, ...]
) -> None:
    write_calibration(tmp_path / "c.json", calibration_for(tuned_encoder.fingerprint))
    result = publish(tuned_checkpoint, tmp_path, *options)
    assert result.exit_code == 0, result.output
    written = open_checkpoint(str(tmp_path / "published"), tmp_path)
    found = calibration_of(written.facts, written.query_fingerprint)
    assert isinstance(found, Calibration) and found.short == [-1.0, 2.0]


def test_publish_refuses_the_calibration_of_another_query_side(
    tmp_path: Path, tuned_checkpoint: Path
) -> None:
    write_calibration(tmp_path / "c.json", calibration_for("f" * 64))
    result = publish(tuned_checkpoint, tmp_path)
    assert result.exit_code == 1
    assert "the calibration was fitted for the query side ffffffffffffffff" in result.stderr


def test_an_output_that_is_no_calibration_is_refused_before_the_encoder_is_loaded(
    tmp_path: Path,
) -> None:
    arguments = ["calibrate", str(write_set(tmp_path / "set")), "--encoder", "nowhere"]
    (tmp_path / "mine.json").write_text("{}")
    for name, message in (
        ("mine.json", "mine.json has other content, no calibration: name another file"),
        ("absent/c.json", "absent is no folder: create it"),
    ):
        result = CliRunner().invoke(app, [*arguments, "--output", str(tmp_path / name)])
        assert result.exit_code == 1
        assert message in result.stderr
    assert (tmp_path / "mine.json").read_text() == "{}"


def test_an_encoder_is_not_published_into_its_own_folder(
    tmp_path: Path, tiny_checkpoint: Path
) -> None:
    arguments = ["publish", str(tiny_checkpoint), "--to", str(tiny_checkpoint)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert "which is read: name another file or folder" in result.stderr
