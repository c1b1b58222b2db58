"""The fit of a calibration on evaluation sets."""

from dataclasses import replace
from pathlib import Path

import pytest

from service.retrieval.encoder.encoder import Encoder
from service.retrieval.progress import ignore_progress
from trainer.calibration import calibrate as calibration
from trainer.calibration.calibrate import CORPUS_OUT, LANGUAGE_OUT, Outcome, calibrate
from trainer.calibration.report import calibration_table, write_report
from trainer.data.evaluation_set import EvaluationSet
from trainer.errors import DataError, OutputError


@pytest.fixture
def outcome(
    small_set: EvaluationSet,
    tiny_encoder: Encoder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Outcome:
    monkeypatch.setattr(calibration, "LEAST_OF_A_KIND", 1)
    sets = [small_set, replace(small_set, name="again")]
    return calibrate(tiny_encoder, sets, (), tmp_path / "cache", ignore_progress)


def test_a_calibration_is_bound_to_the_query_side_and_states_its_sets(
    outcome: Outcome, tiny_encoder: Encoder
) -> None:
    facts = outcome.calibration.model_dump()
    assert outcome.calibration.fingerprint == tiny_encoder.fingerprint
    assert facts["sets"] == ["again", "small"] and facts["queries"] == len(outcome.judged)


def test_measures_are_given_by_corpus_and_language_with_either_left_out(outcome: Outcome) -> None:
    for left_out in (LANGUAGE_OUT, CORPUS_OUT):
        measured = outcome.measured[left_out]
        assert set(measured) == {"all", "small", "again"}
        assert set(measured["small"]) == {"all", "en", "de"}
        assert 0.5 < measured["all"]["auroc"] <= 1


def test_a_calibration_is_the_same_again(
    outcome: Outcome, small_set: EvaluationSet, tiny_encoder: Encoder, tmp_path: Path
) -> None:
    sets = [small_set, replace(small_set, name="again")]
    again = calibrate(tiny_encoder, sets, (), tmp_path / "cache", ignore_progress)
    assert again.calibration == outcome.calibration


@pytest.mark.parametrize(("languages", "counts"), [(("fr",), "0 of 0"), ((), r"\d of 145")])
def test_fewer_than_fifty_answered_queries_are_refused_with_their_number(
    small_set: EvaluationSet,
    tiny_encoder: Encoder,
    tmp_path: Path,
    languages: tuple[str, ...],
    counts: str,
) -> None:
    with pytest.raises(
        DataError, match=rf"answers {counts} searches, .*at least 50 .*name more sets or languages"
    ):
        calibrate(tiny_encoder, [small_set], languages, tmp_path, ignore_progress)


def test_the_table_has_a_line_for_each_corpus_and_language(outcome: Outcome) -> None:
    lines = calibration_table(outcome.measured).splitlines()
    assert len(lines) == 2 + 1 + 2 * 3
    assert lines[2].startswith("| all | all |")
    assert "AUROC, corpus out" in lines[0]


def test_the_report_is_a_table_and_a_plot(outcome: Outcome, tmp_path: Path) -> None:
    write_report(tmp_path / "report", outcome)
    assert (tmp_path / "report" / "calibration.md").read_text().startswith("| corpus |")
    assert "<svg" in (tmp_path / "report" / "reliability.svg").read_text()


def test_a_report_that_cannot_be_written_names_the_folder(outcome: Outcome, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="name another folder"):
        write_report(tmp_path / "file", outcome)
