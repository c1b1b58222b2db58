"""Which calibration is in force."""

from pathlib import Path

import pytest

from service.retrieval.relevance.background import Background
from service.retrieval.relevance.calibration import Calibration
from service.retrieval.relevance.choice import Relevance, choose_relevance, read_own_calibration
from tests.support.relevance import calibration_for

SIDE = "a" * 64
BACKGROUND = Background(fingerprint=SIDE, best=0.8, tail=0.7, spread=0.01)
ENCODERS = {"calibration": calibration_for(SIDE).model_dump(mode="json")}


def chosen(own: Calibration | str | None) -> Relevance:
    return choose_relevance(own, ENCODERS, BACKGROUND, SIDE)


def test_the_calibration_of_the_index_precedes_that_of_the_encoder() -> None:
    assert chosen(None).source == "encoder"
    assert chosen(calibration_for(SIDE)).source == "index"


def test_a_calibration_that_cannot_be_used_is_not_replaced_by_the_encoder_s() -> None:
    assert chosen("calibration.json is damaged") == Relevance(
        None, None, None, "calibration.json is damaged"
    )
    other = chosen(calibration_for("b" * 64))
    assert (other.source, other.of([0.8])) == (None, None)
    assert "the index's calibration was fitted for the query side bbbbbbbbbbbbbbbb" in other.reason


@pytest.mark.parametrize("content", ["", "{", "{}", "[1]", "NaN", None])
def test_a_damaged_file_gives_the_reason(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "calibration.json"
    assert read_own_calibration(path) is None
    if content is None:
        path.mkdir()
    else:
        path.write_text(content)

    found = read_own_calibration(path)

    assert isinstance(found, str) and found.startswith("calibration.json")
    assert chosen(found).reason == found
