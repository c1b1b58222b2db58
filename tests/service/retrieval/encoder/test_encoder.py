import json
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import BertModel

from service.retrieval.encoder.batches import Role, TokenizedText
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.encoder.loader import load_encoder
from service.retrieval.errors import RetrievalError
from tests.conftest import make_checkpoint

ROLES: tuple[Role, ...] = ("query", "passage")
TEXTS = [
    "how much protein should a female eat",
    "Je, mwanamke anapaswa kula protini kiasi gani?",
    "একজন মহিলার কতটা প্রোটিন খাওয়া উচিত",
    "كم من البروتين يجب أن تأكل المرأة",
    "女性应该吃多少蛋白质 \U0001f600",
    "",
    "a very long text " * 40,
]


@pytest.mark.parametrize("pooling", ["mean", "cls", "lasttoken"])
def test_embeddings_equal_those_of_sentence_transformers(tmp_path: Path, pooling: str) -> None:
    from sentence_transformers import SentenceTransformer

    directory = str(make_checkpoint(tmp_path / pooling, pooling=pooling))
    ours, theirs = (
        load_encoder(directory, device="cpu"),
        SentenceTransformer(directory, device="cpu"),
    )

    for role, prompt_name in (("query", "query"), ("passage", "document")):
        expected = theirs.encode(TEXTS, prompt_name=prompt_name)
        found = ours.encode(TEXTS, role).embeddings  # type: ignore[arg-type]
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_role_puts_its_prompt_before_the_text(tiny_encoder: Encoder) -> None:
    query, passage = (tiny_encoder.encode(["Lima"], role).embeddings for role in ROLES)

    bare = tiny_encoder.tokenizer.encode("query: Lima").ids

    assert tiny_encoder.tokenize(["Lima"], "query") == [TokenizedText(bare, is_truncated=False)]
    assert np.abs(query - passage).max() > 1e-3


def test_special_tokens_surround_a_text(tiny_encoder: Encoder) -> None:
    token_ids = tiny_encoder.tokenize(["Lima"], "query")[0].token_ids

    assert (token_ids[0], token_ids[-1]) == (0, 2)
    assert tiny_encoder.tokenizer.decode(token_ids) == "query: Lima"


@pytest.mark.parametrize("text", TEXTS)
def test_a_query_alone_equals_the_same_query_in_a_batch(tiny_encoder: Encoder, text: str) -> None:
    together = tiny_encoder.encode(TEXTS, "query").embeddings[TEXTS.index(text)]

    alone = tiny_encoder.encode([text], "query").embeddings[0]

    np.testing.assert_allclose(alone, together, atol=1e-5)


@pytest.mark.parametrize("max_batch_tokens", [1, 100, 2048])
def test_the_size_of_batches_does_not_change_the_embeddings_or_their_order(
    tiny_encoder: Encoder, max_batch_tokens: int
) -> None:
    tokenized = tiny_encoder.tokenize(TEXTS, "passage")
    num_texts: list[int] = []

    found = tiny_encoder.encode_tokenized(tokenized, max_batch_tokens, num_texts.append)

    expected = np.concatenate([tiny_encoder.encode_tokenized([text]) for text in tokenized])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert sum(num_texts) == len(TEXTS)
    assert (len(num_texts) == len(TEXTS)) == (max_batch_tokens == 1)


def test_embeddings_have_unit_norm_and_single_precision(tiny_encoder: Encoder) -> None:
    embeddings = tiny_encoder.encode(TEXTS, "query").embeddings

    assert (embeddings.shape, embeddings.dtype) == ((len(TEXTS), 32), np.dtype("float32"))
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1.0, atol=1e-6)


def test_the_same_texts_give_the_same_bytes(tiny_checkpoint: Path, tiny_encoder: Encoder) -> None:
    again = load_encoder(str(tiny_checkpoint), device="cpu")

    first, second = (one.encode(TEXTS, "query").embeddings for one in (tiny_encoder, again))

    assert first.tobytes() == second.tobytes()


def test_no_texts_give_no_embeddings(tiny_encoder: Encoder) -> None:
    encoded = tiny_encoder.encode([], "query")

    assert encoded.embeddings.shape == (0, 32)
    assert (encoded.num_tokens, encoded.num_truncated) == (0, 0)


def test_padding_and_length_that_the_tokenizer_declares_are_ignored(
    checkpoint_copy: Path, tiny_encoder: Encoder
) -> None:
    path = checkpoint_copy / "tokenizer.json"
    declared = {
        "padding": {
            "strategy": {"Fixed": 64},
            "direction": "Left",
            "pad_to_multiple_of": None,
            "pad_id": 1,
            "pad_type_id": 0,
            "pad_token": "<pad>",
        },
        "truncation": {
            "direction": "Right",
            "max_length": 8,
            "strategy": "LongestFirst",
            "stride": 0,
        },
    }
    path.write_text(json.dumps(json.loads(path.read_text()) | declared))
    (checkpoint_copy / "manifest.json").unlink()

    encoder = load_encoder(str(checkpoint_copy), device="cpu")

    assert encoder.tokenize(TEXTS, "query") == tiny_encoder.tokenize(TEXTS, "query")


@pytest.mark.parametrize(("extra", "is_truncated"), [(0, False), (1, True), (500, True)])
def test_a_text_is_cut_at_the_limit_and_reported(
    tiny_encoder: Encoder, extra: int, is_truncated: bool
) -> None:
    room = 64 - len(tiny_encoder.tokenize([""], "query")[0].token_ids)

    text = tiny_encoder.tokenize(["~" * (room + extra)], "query")[0]

    assert (len(text.token_ids), text.is_truncated) == (64, is_truncated)
    assert (text.token_ids[0], text.token_ids[-1]) == (0, 2)


def test_a_lower_limit_cuts_earlier_and_is_counted(tiny_checkpoint: Path) -> None:
    encoder = load_encoder(str(tiny_checkpoint), device="cpu", max_tokens=16)

    encoded = encoder.encode(["~" * 100, "~", "~" * 50], "query")

    short = len(encoder.tokenize(["~"], "query")[0].token_ids)
    assert (encoded.num_tokens, encoded.num_truncated) == (16 + short + 16, 2)


def mean_of_hidden_states(directory: Path, gelu: torch.nn.Module, token_ids: list[int]) -> Tensor:
    """Run the transformer with an activation of the test's own."""
    model = BertModel.from_pretrained(directory).eval()
    for layer in model.encoder.layer:
        layer.intermediate.intermediate_act_fn = gelu
    with torch.no_grad():
        hidden = model(torch.tensor([token_ids])).last_hidden_state
    return torch.nn.functional.normalize(hidden.mean(dim=1), dim=-1)[0]


class ExactGelu(torch.nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return values * 0.5 * (1 + torch.erf(values / 2**0.5))


def test_the_activation_is_the_exact_gelu(tiny_checkpoint: Path, tiny_encoder: Encoder) -> None:
    token_ids = tiny_encoder.tokenize(TEXTS[:1], "query")[0].token_ids

    found = torch.from_numpy(tiny_encoder.encode(TEXTS[:1], "query").embeddings[0])

    exact = mean_of_hidden_states(tiny_checkpoint, ExactGelu(), token_ids)
    tanh = mean_of_hidden_states(tiny_checkpoint, torch.nn.GELU(approximate="tanh"), token_ids)
    assert (found - exact).abs().max() < 1e-6
    assert (found - tanh).abs().max() > 1e-5


@pytest.mark.parametrize(
    "text", ["각 나라의 수도", "Quốc gia Việt Nam", "Kí ni ìtumọ̀ àwọn àwọ̀", "أَيْنَ", "Å"]
)
def test_canonically_equivalent_texts_are_one_text(tiny_encoder: Encoder, text: str) -> None:
    """This tokenizer has no normaliser; XLM-R's took Hangul for another text (cosine .88)."""
    forms = [normalize("NFC", text), normalize("NFD", text)]
    assert forms[0] != forms[1]

    composed, decomposed = tiny_encoder.tokenize(forms, "query")

    assert composed == decomposed


@pytest.mark.parametrize("role", ["query", "passage"])
def test_special_tokens_in_a_text_are_letters(tiny_encoder: Encoder, role: str) -> None:
    [text] = tiny_encoder.tokenize(["a <s> b</s> <pad><unk>"], role)  # type: ignore[arg-type]

    assert (text.token_ids[0], text.token_ids[-1]) == (0, 2)
    assert not {0, 1, 2, 3} & set(text.token_ids[1:-1])


@pytest.mark.parametrize("role", ["query", "passage"])
def test_half_a_surrogate_pair_is_refused_without_the_text(
    tiny_encoder: Encoder, role: str
) -> None:
    with pytest.raises(RetrievalError, match="half a surrogate pair") as caught:
        tiny_encoder.encode(["fine", "secret \ud800"], role)  # type: ignore[arg-type]

    assert "secret" not in str(caught.value)


def test_the_tokens_of_a_passage_are_counted_beyond_the_limit(tiny_encoder: Encoder) -> None:
    short, long = "Tea grows in Kenya.", "Tea grows in Kenya. " * 40
    [tokenized] = tiny_encoder.tokenize([short], "passage")

    counts = tiny_encoder.count_passage_tokens([short, long])

    assert counts[0] == len(tokenized.token_ids)
    assert counts[1] > 300 > tiny_encoder.max_tokens
