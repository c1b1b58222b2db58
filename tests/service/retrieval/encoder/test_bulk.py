import random

import numpy as np
import pytest

from service.retrieval.encoder.batches import Shape
from service.retrieval.encoder.bulk import (
    MIN_TOKENS_A_CORE,
    batches_of_one_shape,
    encode_passages,
)
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.hardware import available_cores

WORDS = ["tea", "Nairobi", "mountain", "1707", "protein", "harp", "sun", "coast"]


def texts_of(count: int) -> list[str]:
    dice = random.Random(0)
    return [" ".join(dice.choices(WORDS, k=dice.randint(1, 70))) for _ in range(count)]


def test_an_embedding_has_the_same_bits_in_any_company(tiny_encoder: Encoder) -> None:
    texts = texts_of(60)
    expected = encode_passages(tiny_encoder, texts).embeddings
    order = list(range(60))

    for seed in range(2):
        random.Random(seed).shuffle(order)
        some = order[: 60 // (seed + 1)]
        found = encode_passages(tiny_encoder, [texts[row] for row in some]).embeddings
        np.testing.assert_array_equal(found, expected[some])
    for row in order[:20]:
        [found] = encode_passages(tiny_encoder, [texts[row]]).embeddings
        np.testing.assert_array_equal(found, expected[row])


def test_a_short_text_alone_is_computed_among_as_many_tokens_as_in_a_build(
    tiny_encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    embed = tiny_encoder.embed
    monkeypatch.setattr(
        tiny_encoder, "embed", lambda batch: sizes.append(batch.token_ids.size) or embed(batch)
    )

    found = encode_passages(tiny_encoder, ["tea"])

    assert len(found) == 1
    least_tokens = MIN_TOKENS_A_CORE * available_cores()
    assert least_tokens <= min(sizes) < least_tokens + 16


def test_embeddings_are_those_of_the_encoder_to_rounding(tiny_encoder: Encoder) -> None:
    texts = texts_of(50)

    found = encode_passages(tiny_encoder, texts)

    expected = tiny_encoder.encode(texts, "passage")
    np.testing.assert_allclose(found.embeddings, expected.embeddings, atol=1e-6)
    assert int(found.is_truncated.sum()) == expected.num_truncated > 0


def test_progress_counts_every_text_once(tiny_encoder: Encoder) -> None:
    counts: list[int] = []

    encode_passages(tiny_encoder, texts_of(100), counts.append)

    assert sum(counts) == 100


def test_a_batch_holds_one_shape_and_up_to_its_rows() -> None:
    dice = random.Random(1)
    shapes = [Shape(256 // length, length) for length in dice.choices([16, 32, 64, 256], k=300)]

    batches = batches_of_one_shape(shapes)

    assert sorted(position for batch in batches for position in batch) == list(range(300))
    for batch in batches:
        [shape] = {shapes[position] for position in batch}
        assert len(batch) <= shape.num_rows
