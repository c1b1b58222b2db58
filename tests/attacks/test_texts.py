"""Texts of every kind in Unicode: valid embeddings or a refusal with a message, never a failure.

The tokenizer here normalizes (NFKC), as those of multilingual encoders do.
"""

import json
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from starlette.testclient import TestClient
from tokenizers import Tokenizer, normalizers

from service.api.schemas import MAX_CHARACTERS
from service.app import create_app
from service.retrieval.checkpoint.manifest import write_manifest
from service.retrieval.corpus.chunks.chunking import Chunking
from service.retrieval.corpus.reader import read_passages
from service.retrieval.encoder.loader import load_encoder
from service.retrieval.indexing.build import build_index
from service.retrieval.text import is_blank
from service.settings.settings import Settings
from tests.conftest import make_checkpoint, write_passages

CONTRACT = json.loads((Path(__file__).parents[2] / "service/api/openapi.json").read_text())
ROUTES = ("/search", "/encode", "/v1/embeddings")
NEIGHBOURS = ["Where does tea grow?", "一", "a much longer text than the others " * 3]
MEGABYTE = 1_000_000
NAME = "normalising"
PLANE = 0x1_0000
SURROGATES = st.characters(categories=["Cs"])
NONCHARACTERS = [chr(0xFDD0 + offset) for offset in range(32)] + [
    chr(plane * PLANE + last) for plane in range(17) for last in (0xFFFE, 0xFFFF)
]
BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
EMOJI = [
    "👩\u200d👩\u200d👧\u200d👦", "👨🏿\u200d🚀", "🤦🏽\u200d♀\ufe0f", "🏳\ufe0f\u200d🌈", "🇰🇪", "🇰",
    "1\ufe0f\u20e3", "🏴\U000e0067\U000e0062\U000e007f", "\u200d👩", "👩\u200d", "🏿", "\ufe0f",
]  # fmt: skip


def texts(*alternatives: st.SearchStrategy[str], max_size: int = 12) -> st.SearchStrategy[str]:
    """Build texts of pieces, each from one of the alternatives."""
    return st.lists(st.one_of(*alternatives), min_size=1, max_size=max_size).map("".join)


def characters(*categories: Any) -> st.SearchStrategy[str]:
    return st.characters(categories=categories)


LETTERS = st.sampled_from(["tea", "चाय", "شاي", "תה", "茶", " "])
KINDS = {
    **{
        f"plane {plane}": st.text(
            st.characters(
                min_codepoint=plane * PLANE,
                max_codepoint=(plane + 1) * PLANE - 1,
                exclude_categories=["Cs"],
            ),
            min_size=1,
            max_size=20,
        )
        for plane in range(17)
    },
    "unassigned": texts(LETTERS, characters("Cn")),
    "private use": texts(LETTERS, characters("Co")),
    "noncharacters": texts(LETTERS, st.sampled_from(NONCHARACTERS)),
    "bidi controls": texts(LETTERS, st.sampled_from(BIDI)),
    "emoji": texts(LETTERS, st.sampled_from(EMOJI)),
    "piles of marks": texts(LETTERS, st.text(characters("Mn", "Me"), min_size=50, max_size=300)),
    "controls": texts(LETTERS, characters("Cc")),
    "formats": texts(characters("Cf")),
    "blanks": texts(characters("Zs", "Zl", "Zp"), st.sampled_from("\t\n\u200b\u2060\ufeff\u3164")),
}


@pytest.fixture(scope="module")
def strange() -> list[str]:
    """Texts that passages have: one of each kind."""
    return [
        f"tea {BIDI}{''.join(NONCHARACTERS)}",
        "".join(EMOJI),
        "a" + "\u0301\u0316" * 400,
        "\U0001f9ff\U000f0000\U0010fffd\U00040000\u0378",
        "\u202eDESREVER\u202c \u2067שלום\u2069 \x01\x1f\x7f\x85\u2028\u2029.",
        "\ufb01 \u1e9b\u0323 \u212b",  # a normalizer changes these: a passage keeps them
    ]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, strange: list[str]) -> Iterator[TestClient]:
    """A service whose encoder normalizes, without a cache, over passages of strange texts."""
    folder = tmp_path_factory.mktemp("texts")
    checkpoint = make_checkpoint(folder / "checkpoint", with_manifest=False)
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.save(str(checkpoint / "tokenizer.json"))
    write_manifest(checkpoint, name=NAME)
    records = [
        {"id": str(number), "title": text, "text": text, "source": text}
        for number, text in enumerate(strange)
    ]
    passages = read_passages(write_passages(folder / "passages.jsonl", records))
    encoder = load_encoder(str(checkpoint), device="cpu")
    whole = Chunking.of(encoder.side("passage").max_tokens, 0)
    build_index(passages, folder / "index", encoder, chunking=whole)
    wanted = Settings(
        encoder=str(checkpoint), index=folder / "index", device="cpu", query_cache_entries=0
    )
    with TestClient(create_app(wanted), raise_server_exceptions=False) as client:
        yield client


def post(client: TestClient, route: str, body: str) -> Any:
    return client.post(route, content=body, headers={"Content-Type": "application/json"})


def body_of(route: str, asked: list[str]) -> dict[str, Any]:
    if route == "/search":
        return {"queries": asked, "top_k": 6}
    if route == "/encode":
        return {"texts": asked, "role": "passage"}
    return {"model": f"{NAME}:passage", "input": asked}


def ask(client: TestClient, route: str, asked: list[str]) -> Any:
    """Post ASCII-only JSON; check what holds for every response."""
    response = post(client, route, json.dumps(body_of(route, asked)))
    assert response.status_code < 500, response.text
    assert str(response.status_code) in CONTRACT["paths"][route]["post"]["responses"]
    if response.status_code != 200:
        assert response.headers["Content-Type"] == "application/problem+json"
        problem = response.json()
        assert problem["status"] == response.status_code
        assert problem["detail"].isprintable()
    return response


def vectors(response: Any) -> NDArray[np.float32]:
    """Return the embeddings in a response of /encode or /v1/embeddings, after a check."""
    answer = response.json()
    rows = answer.get("embeddings") or [each["embedding"] for each in answer["data"]]
    found = np.array(rows, np.float32)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    return found


def is_refusable(text: str) -> bool:
    return "\x00" in text or is_blank(text)


def test_the_kinds_of_text_match_their_names() -> None:
    assert len(set(NONCHARACTERS)) == 66
    assert {unicodedata.category(each) for each in NONCHARACTERS} == {"Cn"}
    assert all(unicodedata.bidirectional(each) in {
        "AL", "L", "R", "LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"
    } for each in BIDI)  # fmt: skip


UNASSIGNED = [f"plane {plane}" for plane in range(4, 14)]  # which hold nothing: one is enough


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=[pytest.mark.slow] * (kind in UNASSIGNED[1:])) for kind in KINDS],
)
def test_a_text_of_any_kind_has_a_sound_vector_that_no_batch_changes(
    client: TestClient, kind: str
) -> None:
    @settings(max_examples=5, deadline=None, derandomize=True)
    @given(text=KINDS[kind])
    def check(text: str) -> None:
        responses = {route: ask(client, route, [text]) for route in ROUTES}
        statuses = {response.status_code for response in responses.values()}
        assert statuses == {422 if is_refusable(text) else 200}
        if is_refusable(text):
            return
        alone = vectors(responses["/encode"])
        np.testing.assert_allclose(vectors(responses["/v1/embeddings"]), alone, atol=1e-6)
        for route in ROUTES[1:]:
            together = vectors(ask(client, route, [*NEIGHBOURS, text]))
            np.testing.assert_allclose(together[-1:], alone, atol=1e-5)
        [found] = responses["/search"].json()["results"]
        among = ask(client, "/search", [*NEIGHBOURS, text]).json()["results"][-1]
        assert among["language"] == found["language"]
        scores = [
            {hit["passage_id"]: hit["score"] for hit in each["hits"]} for each in (found, among)
        ]
        assert scores[0].keys() == scores[1].keys()
        assert scores[1] == pytest.approx(scores[0], abs=1e-5)

    check()


@pytest.mark.parametrize("route", ROUTES)
@settings(max_examples=10, deadline=None, derandomize=True)
@given(text=st.tuples(texts(LETTERS), SURROGATES, texts(LETTERS)).map("".join))
def test_a_lone_surrogate_is_refused_with_its_field(
    client: TestClient, route: str, text: str
) -> None:
    response = ask(client, route, ["tea", text])

    field = {"/search": "queries", "/encode": "texts", "/v1/embeddings": "input"}[route]
    assert response.status_code == 422
    assert response.json()["field"] == f"{field}[1]"


def test_a_pair_of_surrogates_is_the_character_that_it_writes(client: TestClient) -> None:
    body = r'{"role": "passage", "texts": ["\ud83d\ude00", "😀"]}'

    pair, character = vectors(post(client, "/encode", body))

    np.testing.assert_allclose(pair, character, atol=1e-6)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(text=texts(LETTERS, characters("L", "M"), st.sampled_from("éǆﬁ①ｱﾞ각Ωｶ𝒜𝟘"), max_size=20))
def test_texts_that_normalise_to_the_same_have_the_same_vector(
    client: TestClient, text: str
) -> None:
    forms = {unicodedata.normalize(form, text) for form in ("NFC", "NFD", "NFKC", "NFKD")} | {text}
    forms = {form for form in forms if not is_blank(form)}

    found = [vectors(ask(client, "/encode", [form])) for form in sorted(forms)]

    for each in found:
        np.testing.assert_array_equal(each, found[0])


def test_a_passage_comes_back_as_it_was_written(client: TestClient, strange: list[str]) -> None:
    [result] = ask(client, "/search", ["tea"]).json()["results"]

    assert len(result["hits"]) == len(strange)
    for hit in result["hits"]:
        text = strange[int(hit["passage_id"])]
        assert (hit["text"], hit["title"], hit["metadata"]) == (text, text, {"source": text})


BLANKS = {"spaces": " ", "ideographic spaces": "\u3000", "zero-width spaces": "\u200b"}


@pytest.mark.parametrize("is_escaped", [True, False], ids=["escaped", "UTF-8"])
@pytest.mark.parametrize("blank", BLANKS.values(), ids=BLANKS)
@pytest.mark.parametrize("route", ROUTES)
def test_a_megabyte_of_blanks_is_refused(
    client: TestClient, route: str, blank: str, is_escaped: bool
) -> None:
    text = blank * (MEGABYTE // len(blank.encode()))
    response = post(client, route, json.dumps(body_of(route, [text]), ensure_ascii=is_escaped))

    assert response.status_code in (413, 422)
    assert response.headers["Content-Type"] == "application/problem+json"
    assert len(response.content) < 1000  # it does not repeat them


@pytest.mark.parametrize("text", [" ", "\u200b\u2060", "\u00ad", "\x01\x7f", "\u3164", "\ufe0f"])
@pytest.mark.parametrize("route", ROUTES)
def test_a_text_without_a_visible_character_is_refused_with_its_field(
    client: TestClient, route: str, text: str
) -> None:
    response = ask(client, route, ["tea", text])

    field = {"/search": "queries", "/encode": "texts", "/v1/embeddings": "input"}[route]
    assert response.status_code == 422
    assert response.json()["field"] == f"{field}[1]"
    assert "no character is visible" in response.json()["detail"]


@pytest.mark.parametrize("blank", BLANKS.values(), ids=BLANKS)
@pytest.mark.parametrize("route", ROUTES)
def test_blanks_up_to_the_limit_are_answered(client: TestClient, route: str, blank: str) -> None:
    response = ask(client, route, ["tea" + blank * (MAX_CHARACTERS - 4) + "a"])

    assert response.status_code == 200
    if route != "/search":
        vectors(response)
