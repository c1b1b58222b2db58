"""The background of a generation that records none of the query side in force."""

import asyncio
import json
from pathlib import Path

import pytest

from service.engine.engine import Engine
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.generation.generation import open_current
from service.retrieval.searcher import Searcher
from tests.service.engine.test_engine import make_engine
from tests.support.relevance import calibrate


def tuned_searcher(index: Path, encoder: Encoder) -> Searcher:
    return Searcher(encoder, open_current(calibrate(index, encoder.fingerprint)))


def test_a_build_records_the_background_of_its_query_side(
    tiny_index: Path, tiny_encoder: Encoder
) -> None:
    manifest = open_current(tiny_index).manifest
    assert manifest.background is not None
    assert manifest.background.fingerprint == tiny_encoder.fingerprint
    assert manifest.background.tail is not None
    assert -1 <= manifest.background.tail <= manifest.background.best <= 1


def test_another_query_side_gets_a_background_when_the_service_warms_up(
    index_copy: Path, tuned_encoder: Encoder
) -> None:
    calibrate(index_copy, tuned_encoder.fingerprint)
    engine = make_engine(tuned_encoder, index_copy)
    assert engine.searcher.relevance.background is None
    assert "background" in engine.searcher.relevance.reason
    engine.warm_up()
    background = engine.searcher.relevance.background
    engine.close()
    assert background is not None and background.fingerprint == tuned_encoder.fingerprint
    assert engine.searcher.relevance.describe() == {"calibration": "index", "reason": None}


def test_a_swap_measures_the_same_background_between_the_batches(
    index_copy: Path, tuned_encoder: Encoder
) -> None:
    searcher = tuned_searcher(index_copy, tuned_encoder)
    expected = searcher.measure_background()
    engine: Engine = make_engine(tuned_encoder, index_copy)
    asyncio.run(engine.try_out(searcher))
    engine.close()
    found = searcher.relevance.background
    assert found is not None and expected is not None
    assert found.best == pytest.approx(expected.best, abs=1e-4)
    assert found.tail == pytest.approx(expected.tail, abs=1e-4)


def test_a_calibration_of_another_query_side_is_not_used(
    index_copy: Path, tuned_encoder: Encoder, tiny_encoder: Encoder
) -> None:
    calibrate(index_copy, tiny_encoder.fingerprint)
    searcher = Searcher(tuned_encoder, open_current(index_copy))
    searcher.prepare_relevance()
    assert searcher.relevance.describe()["calibration"] is None
    assert tiny_encoder.fingerprint[:16] in searcher.relevance.reason
    assert searcher.warning == f"hits have no relevance: {searcher.relevance.reason}"
    assert searcher.search(["tea"], 3)[0][0].relevance is None


def test_an_older_generation_without_background_gets_one(
    index_copy: Path, tiny_encoder: Encoder
) -> None:
    calibrate(index_copy, tiny_encoder.fingerprint)
    generation = open_current(index_copy)
    recorded = generation.manifest.background
    content = json.loads(generation.manifest.to_bytes())
    del content["background"]
    older = type(generation.manifest).model_validate(content)
    object.__setattr__(generation, "manifest", older)
    searcher = Searcher(tiny_encoder, generation)
    assert searcher.search(["tea"], 3)[0][0].relevance is None
    searcher.prepare_relevance()
    assert searcher.relevance.background == recorded
    assert searcher.search(["tea"], 3)[0][0].relevance is not None
