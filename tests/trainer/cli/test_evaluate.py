"""The commands `evaluate` and `report`, from the command line to the files."""

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.support.progress import KeptProgress
from trainer.cli.main import app
from trainer.evaluation import comparison
from trainer.output import exclusive_output

COMMAND = ["evaluate", "xquad"]


def test_help_names_each_variable() -> None:
    result = CliRunner().invoke(app, [*COMMAND, "--help"], terminal_width=200)

    assert result.exit_code == 0
    for name in ("ENCODER", "MAX_TOKENS", "CACHE", "TRAINER_LANGUAGE", "TRAINER_OUTPUT", "JSON"):
        assert f"CLEAR_{name}" in result.stdout


def test_a_missing_measures_package_is_reported_without_a_traceback(
    xquad: Path, tiny: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ir_measures", None)

    result = CliRunner().invoke(app, [*COMMAND, str(xquad), *tiny])

    assert result.exit_code == 1
    assert "pip install 'clear-search[train]'" in result.stderr


def test_only_json_goes_to_stdout(xquad: Path, tiny: list[str]) -> None:
    result = CliRunner().invoke(app, [*COMMAND, str(xquad), *tiny, "--json"])

    assert result.exit_code == 0, result.stderr
    (evaluation,) = json.loads(result.stdout)["evaluations"]
    directions = evaluation["sets"]["xquad"]
    assert list(directions) == ["en-en", "L-en", "L-L", "en-L", "mixed"]
    assert directions["L-en"]["languages"]["de"]["ndcg@10"] == 1.0
    assert evaluation["encoder"]["max_tokens"] == 64


def test_the_table_goes_to_stdout_with_its_conditions(xquad: Path, tiny: list[str]) -> None:
    result = CliRunner().invoke(app, [*COMMAND, str(xquad), *tiny])

    assert result.exit_code == 0, result.stderr
    assert "xquad, L-en" in result.stdout
    conditions = result.stdout.splitlines()[-1]
    assert "at most 64 tokens, on cpu by torch-fp32; passages: xquad 1" in conditions


def test_the_phases_of_an_evaluation_are_reported(
    xquad: Path, tiny: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    progress = KeptProgress()
    monkeypatch.setattr("trainer.cli.evaluate.show_progress", progress.show)

    CliRunner().invoke(app, [*COMMAND, str(xquad), *tiny, "--direction", "L-en"])

    assert progress.stages[:2] == ["read", "load"]
    assert progress.stages[-1] == "compare"
    assert {stage.partition(": ")[2].partition(" ")[0] for stage in progress.stages[2:-1]} == {
        "encode",
        "search",
    }


def test_only_the_directions_asked_for_are_measured(xquad: Path, tiny: list[str]) -> None:
    arguments = [*COMMAND, str(xquad), *tiny, "--json", "--direction", "L-en", "--language", "deu"]

    result = CliRunner().invoke(app, arguments)

    (evaluation,) = json.loads(result.stdout)["evaluations"]
    assert list(evaluation["sets"]["xquad"]) == ["L-en"]


def test_a_variable_sets_its_option(xquad: Path, tiny_checkpoint: Path) -> None:
    variables = {
        "CLEAR_ENCODER": str(tiny_checkpoint),
        "CLEAR_MAX_TOKENS": "32",
        "CLEAR_DEVICE": "cpu",
        "CLEAR_TRAINER_LANGUAGE": "en de",
        "CLEAR_TRAINER_OUTPUT": str(xquad / "out"),
        "CLEAR_JSON": "1",
    }

    result = CliRunner().invoke(app, [*COMMAND, str(xquad)], env=variables)

    (evaluation,) = json.loads(result.stdout)["evaluations"]
    assert evaluation["encoder"]["max_tokens"] == 32
    assert sorted(path.name for path in (xquad / "out" / "runs").rglob("*.run")) == [
        "xquad.de-de.run",
        "xquad.de-en+de.run",
        "xquad.de-en.run",
        "xquad.en-de.run",
        "xquad.en-en.run",
    ]
    assert json.loads((xquad / "out" / "report.json").read_text()) == json.loads(result.stdout)


def test_import_then_evaluate_by_folder(xquad: Path, tiny: list[str], tmp_path: Path) -> None:
    output = tmp_path / "imported"
    imported = CliRunner().invoke(app, ["import", "xquad", str(xquad), "--output", str(output)])
    assert imported.exit_code == 0, imported.stderr
    assert "| de | 1 |" in imported.stdout

    result = CliRunner().invoke(app, ["evaluate", str(output), *tiny, "--json"])

    assert result.exit_code == 0, result.stderr
    assert list(json.loads(result.stdout)["evaluations"][0]["sets"]) == ["xquad"]


def test_two_encoders_and_the_control_are_compared(
    xquad: Path, tiny: list[str], tiny_checkpoint: Path
) -> None:
    arguments = [*COMMAND, str(xquad), *tiny, "--against", str(tiny_checkpoint), "--json"]

    result = CliRunner().invoke(app, [*arguments, "--control", "mean-centred"])

    assert result.exit_code == 0, result.stderr
    content = json.loads(result.stdout)
    assert [each["encoder"]["control"] for each in content["evaluations"]] == [
        None,
        None,
        "mean-centred",
    ]
    against_itself, control = content["comparisons"]
    assert {each["difference"] for each in against_itself["macro_means"]} == {0.0}
    assert control["encoder"].endswith("(mean-centred)")


def test_english_worse_than_the_base_is_exit_code_3(
    xquad: Path, tiny: list[str], tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison.Gate, "passes", False)

    result = CliRunner().invoke(
        app, [*COMMAND, str(xquad), *tiny, "--against", str(tiny_checkpoint)]
    )

    assert result.exit_code == 3
    assert "English gate on xquad: FAILED" in result.stdout


def test_the_page_is_written_and_can_be_rendered_again(
    xquad: Path, tiny: list[str], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    done = CliRunner().invoke(app, [*COMMAND, str(xquad), *tiny, "--output", str(output)])
    assert done.exit_code == 0, done.stderr
    page = (output / "report.html").read_text()
    (output / "report.html").unlink()

    again = CliRunner().invoke(app, ["report", str(output)])

    assert again.exit_code == 0, again.stderr
    assert (output / "report.html").read_text() == page
    assert "### xquad, mixed" in (output / "report.md").read_text()


def test_the_coverage_report_is_written_and_the_checkpoint_is_not(
    xquad: Path, tiny: list[str], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    files = {path: path.read_bytes() for path in tiny_checkpoint.rglob("*") if path.is_file()}
    output = tmp_path / "report"
    command = [*COMMAND, str(xquad), *tiny, "--against", str(tiny_checkpoint)]

    result = CliRunner().invoke(app, [*command, "--output", str(output)])

    assert result.exit_code == 0, result.stderr
    record = json.loads((output / "languages.json").read_text())
    assert record == {code: {"questions": 1.0, "n": 1} for code in ("de", "en")}
    csv = (output / "coverage.csv").read_text().splitlines()
    assert csv[0] == "kind,language,queries,encoder,ndcg@10,low,high,grade"
    assert csv[1] == "questions,en,1,tiny-mean-0,1.0000,1.0000,1.0000,good"
    assert len(csv) == 1 + 2 * 2
    assert (output / "coverage-questions.svg").read_text().startswith("<svg")
    assert "<h2>Coverage: questions</h2>" in (output / "report.html").read_text()
    assert {path: path.read_bytes() for path in files} == files
    assert {path for path in tiny_checkpoint.rglob("*") if path.is_file()} == files.keys()


def test_a_direction_from_english_has_no_record(
    xquad: Path, tiny: list[str], tmp_path: Path
) -> None:
    command = [*COMMAND, str(xquad), *tiny, "--direction", "en-L", "--output", str(tmp_path / "r")]

    result = CliRunner().invoke(app, command)

    assert result.exit_code == 0, result.stderr
    assert not (tmp_path / "r/languages.json").exists()
    assert not (tmp_path / "r/coverage.csv").exists()


def test_at_most_so_many_queries_of_a_language_are_measured(xquad: Path, tiny: list[str]) -> None:
    for path in xquad.glob("*.json"):
        content = json.loads(path.read_text())
        [paragraph] = content["data"][0]["paragraphs"]
        [question] = paragraph["qas"]
        paragraph["qas"] = [question | {"id": f"q{number}"} for number in range(7)]
        path.write_text(json.dumps(content))
    flags = ["--direction", "L-en", "--max-queries", "3", "--json"]

    result = CliRunner().invoke(app, [*COMMAND, str(xquad), *tiny, *flags])

    [evaluation] = json.loads(result.stdout)["evaluations"]
    assert evaluation["sets"]["xquad"]["L-en"]["languages"]["de"]["num_queries"] == 3


def test_a_further_encoder_is_in_the_tables_and_not_compared(
    xquad: Path, tiny: list[str], tiny_checkpoint: Path
) -> None:
    flags = ["--against", str(tiny_checkpoint), "--also", str(tiny_checkpoint), "--json"]

    result = CliRunner().invoke(app, [*COMMAND, str(xquad), *tiny, *flags])

    found = json.loads(result.stdout)
    assert (len(found["evaluations"]), len(found["comparisons"])) == (3, 1)


def test_an_output_is_refused_before_the_encoder_is_loaded(xquad: Path, tmp_path: Path) -> None:
    arguments = [*COMMAND, str(xquad), "--encoder", "nowhere", "--output"]
    mine, locked = tmp_path / "mine", tmp_path / "locked"
    mine.mkdir()
    (mine / "report.json").write_text("{}")

    with exclusive_output(locked):
        for output, message in (
            (xquad, "which is read: name another file or folder"),
            (mine, "mine has other content ("),
            (locked, "another run is writing to"),
        ):
            result = CliRunner().invoke(app, [*arguments, str(output)])
            assert result.exit_code == 1
            assert message in result.stderr

    assert (mine / "report.json").read_text() == "{}"


def test_a_gate_on_what_is_not_evaluated_is_refused_before_the_encoder_is_loaded(
    xquad: Path, tmp_path: Path
) -> None:
    gates = tmp_path / "gates.toml"
    gates.write_text('[[gates]]\nset = "afriqa"\ndirection = "L-en"\nsignificance = 0.1\n')
    arguments = [*COMMAND, str(xquad), "--encoder", "nowhere", "--against", "nowhere"]

    result = CliRunner().invoke(app, [*arguments, "--gates", str(gates)])

    assert result.exit_code == 1
    assert "gates.toml: gates.0: afriqa, L-en is not evaluated, only xquad en-en" in result.stderr


def test_the_folder_of_a_run_is_not_measured_in_place_of_its_encoder(
    xquad: Path, tmp_path: Path
) -> None:
    (tmp_path / "run/adapter").mkdir(parents=True)

    result = CliRunner().invoke(
        app, [*COMMAND, str(xquad), "--encoder", str(tmp_path / "run"), "--direction", "en-en"]
    )

    assert result.exit_code == 1
    assert f"is the folder of a run or a blend: name {tmp_path / 'run/adapter'}" in result.stderr
