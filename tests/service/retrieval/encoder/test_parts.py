"""Late chunking: parts of a text, each pooled from its own tokens of one pass over the whole."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from service.retrieval.encoder.bulk import (
    MIN_TOKENS_A_CORE,
    digest_of,
    digest_of_part,
    encode_passages,
)
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.encoder.parts import EncodedText, tokenize_passages
from service.retrieval.hardware import available_cores

TITLE, SENTENCES = "Kenya ", ["Nairobi is the capital. ", "Tea grows here. ", "The coast is hot."]
PARTS: list[EncodedText] = [
    (TITLE + "".join(SENTENCES[:row]), SENTENCES[row], "".join(SENTENCES[row + 1 :]))
    for row in range(3)
]


def passes(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Return a list that will hold the shape of each batch that the transformer computes."""
    runtime: Any = encoder.runtime
    shapes: list[tuple[int, ...]] = []
    compute = runtime.hidden_states

    def hidden_states(token_ids: Tensor, attention_mask: Tensor) -> Tensor:
        shapes.append(tuple(token_ids.shape))
        states: Tensor = compute(token_ids, attention_mask)
        return states

    monkeypatch.setattr(runtime, "hidden_states", hidden_states)
    return shapes


def test_a_part_is_the_mean_of_its_tokens_in_a_pass_over_the_whole_text(
    tiny_encoder: Encoder,
) -> None:
    prompt = tiny_encoder.prompts["passage"]
    encoding = tiny_encoder.tokenizer.encode(prompt + TITLE + "".join(SENTENCES))
    ids = torch.tensor([encoding.ids])
    runtime: Any = tiny_encoder.runtime
    with torch.inference_mode():
        states = runtime.hidden_states(ids, torch.ones_like(ids))[0]
    begin, expected = len(prompt + TITLE), []
    for sentence in SENTENCES:
        end = begin + len(sentence)
        offsets: Any = encoding.offsets  # type: ignore[union-attr]
        own = [row for row, (start, stop) in enumerate(offsets) if begin <= start < stop <= end]
        mean = states[own].mean(dim=0)
        expected.append((mean / mean.norm()).numpy())
        begin = end

    found = encode_passages(tiny_encoder, PARTS)

    np.testing.assert_allclose(found.embeddings, np.stack(expected), atol=1e-6)


def test_parts_of_one_text_take_one_pass(
    tiny_encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = passes(tiny_encoder, monkeypatch)

    encode_passages(tiny_encoder, ["tea", *PARTS, "tea"])

    [part, whole] = tokenize_passages(tiny_encoder, [PARTS[0], "tea"])
    least_tokens = MIN_TOKENS_A_CORE * available_cores()
    num_rows = max(2, -(-least_tokens // len(whole.token_ids)))  # two texts, and filled rows
    assert shapes == [(num_rows, len(whole.token_ids)), (1, len(part.token_ids))]


@pytest.mark.parametrize("rows", [[0], [2, 1], [0, 1, 2]])
def test_a_part_has_the_same_bits_in_any_company(tiny_encoder: Encoder, rows: list[int]) -> None:
    expected = encode_passages(tiny_encoder, PARTS).embeddings

    found = encode_passages(tiny_encoder, [*(PARTS[row] for row in rows), "tea"]).embeddings

    np.testing.assert_array_equal(found[:-1], expected[rows])


def test_a_part_differs_from_its_text_alone(tiny_encoder: Encoder) -> None:
    alone = encode_passages(tiny_encoder, SENTENCES).embeddings

    assert ((alone * encode_passages(tiny_encoder, PARTS).embeddings).sum(axis=1) < 0.999).all()


def test_no_whole_text_has_the_digest_of_a_part() -> None:
    splits = [("a", "b", "c"), ("ab", "", "c"), ("", "abc", "")]

    found = {digest_of_part(*parts) for parts in splits}

    assert len(found | {digest_of("abc"), digest_of("a\0b\0c\0")}) == 5
