"""Calibrations: reading, and which one is in force."""

import json
from pathlib import Path

import pytest

from service.retrieval.relevance.calibration import (
    PACKAGED,
    Calibration,
    CalibrationError,
    calibration_of,
    read_calibration,
    write_calibration,
)

CALIBRATION = Calibration(
    fingerprint="a" * 64,
    scale=0.02,
    best=[0, 1, 2, 3, 4],
    other=[0, 1, 2, 3, 4],
    short=[0, 1],
    sets=["xquad"],  # type: ignore[call-arg]
)
FACTS = {"calibration": CALIBRATION.model_dump(mode="json")}


def test_a_calibration_is_read_as_it_was_written_with_its_facts(tmp_path: Path) -> None:
    write_calibration(tmp_path / "c.json", CALIBRATION)
    assert read_calibration(tmp_path / "c.json") == CALIBRATION


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("best", [1.0], "`best`"),
        ("scale", 0, "`scale` must be greater than or equal to"),
        ("scale", 1e-308, "`scale` must be greater than or equal to"),
        ("scale", 1e308, "`scale` must be less than or equal to 2"),
        ("best", [0, 1e308, 0, 0, 0], "`best[1]` must be less than or equal to 1000000"),
        ("other", [0, 0, -1e7, 0, 0], "`other[2]` must be greater than or equal to -1000000"),
        ("short", [float("nan"), 0], "`short[0]` is not a finite number"),
        ("short", [0, float("inf")], "`short[1]` is not a finite number"),
        ("short", None, "`short` is not a list"),
        ("fingerprint", 1, "`fingerprint` is not text"),
        ("format_version", 2, "`format_version`"),
    ],
)
def test_a_wrong_field_is_named_with_its_file(
    tmp_path: Path, field: str, value: object, words: str
) -> None:
    path = tmp_path / "c.json"
    path.write_text(json.dumps(CALIBRATION.model_dump(mode="json") | {field: value}))
    with pytest.raises(CalibrationError) as found:
        read_calibration(path)
    assert str(found.value).startswith(f"{path}: {words}")
    assert "clear-trainer calibrate" in str(found.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="is missing: fit it again"):
        read_calibration(tmp_path / "none.json")


def test_the_manifest_s_calibration_is_in_force_for_its_query_side() -> None:
    assert calibration_of(FACTS, "a" * 64) == CALIBRATION


def test_a_calibration_of_another_query_side_is_not_in_force() -> None:
    reason = calibration_of(FACTS, "b" * 64)
    assert isinstance(reason, str)
    assert "a" * 16 in reason and "b" * 16 in reason


def test_a_broken_calibration_in_the_manifest_is_a_reason_not_an_error() -> None:
    reason = calibration_of({"calibration": {"scale": 1}}, "a" * 64)
    assert isinstance(reason, str) and "`fingerprint` is missing" in reason


def test_an_encoder_without_one_is_told_how_to_get_one() -> None:
    reason = calibration_of({}, "c" * 64)
    assert isinstance(reason, str) and "clear-trainer calibrate" in reason


@pytest.mark.parametrize(("name", "least"), [("bundled", 0.91), ("bundled-base", 0.89)])
@pytest.mark.parametrize("left_out", ["language left out", "corpus left out"])
def test_the_bundled_encoders_carry_calibrations_that_are_right_on_what_was_left_out(
    name: str, least: float, left_out: str
) -> None:
    found = read_calibration(PACKAGED / f"{name}.json")
    measured = found.model_dump()["measured"][left_out]
    assert measured["all"]["auroc"] >= least
    assert measured["all"]["ece"] <= 0.05
    assert calibration_of({}, found.fingerprint) == found


@pytest.mark.parametrize("left_out", ["language left out", "corpus left out"])
def test_no_corpus_is_hard_for_the_default_encoder(left_out: str) -> None:
    measured = read_calibration(PACKAGED / "bundled.json").model_dump()["measured"][left_out]
    corpora = {name: values["all"] for name, values in measured.items() if name != "all"}
    assert set(corpora) == {"afriqa", "factbook", "xquad"}
    assert min(values["auroc"] for values in corpora.values()) >= 0.88
    assert max(values["ece"] for values in corpora.values()) <= 0.1  # see docs/relevance.md
