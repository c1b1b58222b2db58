from pathlib import Path

import pytest
from pydantic import ValidationError

from service.retrieval.checkpoint.checkpoint import open_checkpoint
from service.retrieval.checkpoint.manifest import write_manifest
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.errors import CheckpointError
from service.retrieval.language_quality import LanguageQuality, describe_languages, grade_of
from tests.conftest import make_adapter

RECORD = {"ay": {"statements": 0.6, "n": 800}, "zh-Hant": {"questions": 0.85, "n": 5}}


@pytest.mark.parametrize(
    ("kind", "value", "grade"),
    [
        ("questions", 1, "good"),
        ("questions", 0.8, "good"),
        ("questions", 0.7999, "fair"),
        ("questions", 0.6, "fair"),
        ("questions", 0.5999, "poor"),
        ("questions", 0, "poor"),
        ("statements", 0.97, "good"),
        ("statements", 0.9699, "fair"),
        ("statements", 0.85, "fair"),
        ("statements", 0.8499, "poor"),
    ],
)
def test_a_grade_begins_at_its_threshold(kind: str, value: float, grade: str) -> None:
    assert LanguageQuality.model_validate({kind: value, "n": 1}).grade == grade


@pytest.mark.parametrize(
    ("questions", "statements", "grade"),
    [(0.9, 0.9, "fair"), (0.5, 0.99, "poor"), (0.9, 0.99, "good")],
)
def test_the_lower_grade_counts(questions: float, statements: float, grade: str) -> None:
    assert LanguageQuality(questions=questions, statements=statements, n=1).grade == grade


@pytest.mark.parametrize(
    "wrong",
    [
        {"n": 1},
        {"questions": 1.1, "n": 1},
        {"questions": float("nan"), "n": 1},
        {"questions": "0.5", "n": 1},
        {"statements": 0.5},
        {"statements": 0.5, "n": 0},
    ],
)
def test_a_wrong_measurement_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        LanguageQuality.model_validate(wrong)


@pytest.mark.parametrize(
    ("language", "grade"),
    [
        ("zh-Hant-TW", "good"),
        ("ZH-hant", "good"),
        ("zh", "unknown"),
        ("und", "unknown"),
        ("tl", "poor"),
        ("tl-PH", "poor"),
        ("x-klingon", "unknown"),
        ("no", "fair"),
        ("nb-NO", "fair"),
        ("nn", "unknown"),
    ],
)
def test_a_tag_is_looked_up_without_its_last_parts(language: str, grade: str) -> None:
    record = {
        "zh-Hant": LanguageQuality(questions=0.9, n=1),
        "fil": LanguageQuality(questions=0.1, n=1),
        "nb": LanguageQuality(questions=0.7, n=1),
    }

    assert grade_of(record, language) == grade


def test_without_a_record_each_language_is_unknown() -> None:
    assert grade_of(None, "en") == grade_of({}, "en") == "unknown"
    assert describe_languages(None) is None


def test_an_adapters_record_is_read_and_changes_no_fingerprint(
    tmp_path: Path, tiny_encoder: Encoder, tiny_checkpoint: Path, tuned_checkpoint: Path
) -> None:
    folder = make_adapter(
        tmp_path / "tuned", tiny_encoder, base=str(tiny_checkpoint), languages=RECORD
    )

    with_record = open_checkpoint(str(folder), tmp_path)
    without = open_checkpoint(str(tuned_checkpoint), tmp_path)

    assert describe_languages(with_record.languages) == {
        "ay": {"quality": "poor", "statements": 0.6, "n": 800},
        "zh-Hant": {"quality": "good", "questions": 0.85, "n": 5},
    }
    assert without.languages is None
    assert with_record.query_fingerprint == without.query_fingerprint
    assert "languages" not in with_record.facts  # it is not true of weights made of these


def test_an_adapter_does_not_inherit_the_record_of_its_base(
    tmp_path: Path, checkpoint_copy: Path, tiny_encoder: Encoder
) -> None:
    (checkpoint_copy / "manifest.json").unlink()
    write_manifest(checkpoint_copy, languages=RECORD)
    adapter = make_adapter(tmp_path / "tuned", tiny_encoder, base=str(checkpoint_copy))

    base = open_checkpoint(str(checkpoint_copy), tmp_path)

    assert base.languages is not None
    assert base.languages.keys() == RECORD.keys()
    assert base.query_fingerprint == tiny_encoder.fingerprint
    assert open_checkpoint(str(adapter), tmp_path).languages is None


@pytest.mark.parametrize(
    ("record", "field"),
    [
        ([], "`languages` is not an object"),
        ({"ay": {"statements": 2.0, "n": 1}}, "`languages.ay.statements`"),
        ({"ay": {"n": 1}}, "`languages.ay` has neither `questions` nor `statements`"),
    ],
)
def test_a_damaged_record_is_refused_by_file_and_field(
    tmp_path: Path, tiny_encoder: Encoder, tiny_checkpoint: Path, record: object, field: str
) -> None:
    folder = make_adapter(
        tmp_path / "tuned", tiny_encoder, base=str(tiny_checkpoint), languages=record
    )

    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(str(folder), tmp_path)

    assert str(folder / "adapter.json") in str(caught.value)
    assert field in str(caught.value)
