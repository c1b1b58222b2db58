from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from service.retrieval.encoder.encoder import Encoder
from service.retrieval.progress import ignore_progress
from tests.support.training_rows import ROWS
from trainer.errors import DataError
from trainer.objective import frozen
from trainer.objective.frozen import build_frozen_pool, embed_cached

TEXTS = ["Tea grows on hills.", "Salt is mined."]


def test_a_text_is_embedded_once_and_read_from_the_cache_after(
    tiny_encoder: Encoder, tmp_path: Path
) -> None:
    embedded: list[int] = []

    def on_progress(stage: str, done: int, total: int | None) -> None:
        embedded.append(done)

    first = embed_cached(TEXTS[:1], "passage", tiny_encoder, tmp_path, on_progress)
    both = embed_cached(TEXTS, "passage", tiny_encoder, tmp_path, on_progress)

    assert embedded == [1, 1]
    assert np.array_equal(both[0], first[0])
    expected = tiny_encoder.encode(TEXTS, "passage").embeddings
    np.testing.assert_allclose(both, expected, atol=1e-6)


def test_a_damaged_cache_is_computed_again(tiny_encoder: Encoder, tmp_path: Path) -> None:
    first = embed_cached(TEXTS, "query", tiny_encoder, tmp_path, ignore_progress)
    (path,) = (tmp_path / "embeddings").glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:20])

    again = embed_cached(TEXTS, "query", tiny_encoder, tmp_path, ignore_progress)

    assert np.array_equal(again, first)


def test_targets_of_a_pool_are_the_places_of_the_rows_passages(
    tiny_encoder: Encoder, tmp_path: Path
) -> None:
    rows = [*ROWS[:3], ROWS[1]]

    pool = build_frozen_pool(rows, tiny_encoder, tmp_path, ignore_progress)

    assert pool.targets.tolist() == [0, 1, 2, 1]
    assert len(pool.passages) == 3
    assert len(set(pool.passage_codes.tolist())) == 3
    assert pool.query_places.tolist() == [0, 1, 2, 1]
    assert pool.queries.shape == (3, pool.passages.shape[1])


def test_a_row_without_a_passage_has_no_target_and_adds_no_passage(
    tiny_encoder: Encoder, tmp_path: Path
) -> None:
    pair = replace(ROWS[1], passage_id="", positive="", group_id="")

    pool = build_frozen_pool(
        [ROWS[0], pair, replace(ROWS[2], cross_weight=0.5)],
        tiny_encoder,
        tmp_path,
        ignore_progress,
    )

    assert pool.targets.tolist() == [0, -1, 1]
    assert len(pool.passages) == 2
    assert pool.cross_weights is not None
    assert pool.cross_weights.tolist() == [1, 0, 0.5]


def test_rows_without_any_passage_are_refused(tiny_encoder: Encoder, tmp_path: Path) -> None:
    pair = replace(ROWS[1], passage_id="", positive="", group_id="")

    with pytest.raises(DataError, match="no row has a passage"):
        build_frozen_pool([pair], tiny_encoder, tmp_path, ignore_progress)


def test_texts_are_written_to_the_cache_in_parts(
    tiny_encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is stopped does not embed again what it has embedded."""
    monkeypatch.setattr(frozen, "PART_TEXTS", 1)

    def stop(stage: str, done: int, total: int | None) -> None:
        assert total == 2
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed_cached(TEXTS, "query", tiny_encoder, tmp_path, stop)
    done: list[int] = []
    embed_cached(TEXTS, "query", tiny_encoder, tmp_path, lambda *report: done.append(report[1]))

    assert done == [1]


def test_encoders_of_one_passage_side_share_its_embeddings(
    tiny_encoder: Encoder, tuned_encoder: Encoder, tmp_path: Path
) -> None:
    first = embed_cached(TEXTS, "passage", tiny_encoder, tmp_path, ignore_progress)

    def stop(*report: object) -> None:
        raise AssertionError("embedded again")

    again = embed_cached(TEXTS, "passage", tuned_encoder, tmp_path, stop)
    assert again.tolist() == first.tolist()
    queries = embed_cached(TEXTS, "query", tuned_encoder, tmp_path, ignore_progress)
    assert queries.tolist() != first.tolist()
