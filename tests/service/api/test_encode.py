import base64
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from starlette.testclient import TestClient

from service.retrieval.encoder.batches import Role
from service.retrieval.encoder.encoder import Encoder

TEXTS = ["Nairobi", "Where does tea grow in Kenya?", "肯尼亚的首都", "سؤال"]


def encode(client: TestClient, **body: object) -> dict[str, Any]:
    response = client.post("/encode", json={"role": "query", **body})
    assert response.status_code == 200, response.text
    return dict(response.json())


def embeddings(client: TestClient, **body: object) -> NDArray[np.float32]:
    return np.array(encode(client, **body)["embeddings"], dtype=np.float32)


@pytest.mark.parametrize("role", ["query", "passage"])
def test_embeddings_are_those_of_the_encoder(
    client: TestClient, tiny_encoder: Encoder, role: Role
) -> None:
    expected = tiny_encoder.encode(TEXTS, role).embeddings

    np.testing.assert_allclose(embeddings(client, texts=TEXTS, role=role), expected, atol=1e-6)


def test_one_text_is_a_list_of_one(client: TestClient) -> None:
    one = embeddings(client, texts=TEXTS[0])

    np.testing.assert_array_equal(one, embeddings(client, texts=[TEXTS[0]]))


def test_the_role_changes_the_embedding(client: TestClient) -> None:
    as_query = embeddings(client, texts=TEXTS, role="query")
    as_passage = embeddings(client, texts=TEXTS, role="passage")

    assert np.abs(as_query - as_passage).max(axis=1).min() > 1e-3


def test_a_text_alone_is_embedded_as_among_others(client: TestClient) -> None:
    together = embeddings(client, texts=[*TEXTS, "long " * 40])

    alone = np.concatenate([embeddings(client, texts=text) for text in TEXTS])
    np.testing.assert_allclose(together[:-1], alone, atol=1e-5)


def test_embeddings_are_unit_norm(client: TestClient) -> None:
    np.testing.assert_allclose(np.linalg.norm(embeddings(client, texts=TEXTS), axis=1), 1, 1e-5)


def test_base64_holds_the_same_little_endian_floats(client: TestClient) -> None:
    written = encode(client, texts=TEXTS, encoding_format="base64")["embeddings"]

    rows = [np.frombuffer(base64.b64decode(row), dtype="<f4") for row in written]
    np.testing.assert_array_equal(np.stack(rows), embeddings(client, texts=TEXTS))


@pytest.mark.parametrize("dimensions", [1, 7, 31])
def test_fewer_dimensions_are_the_first_ones_renormalized(
    client: TestClient, dimensions: int
) -> None:
    shortened = encode(client, texts=TEXTS, dimensions=dimensions)

    head = embeddings(client, texts=TEXTS)[:, :dimensions]
    expected = head / np.linalg.norm(head, axis=1, keepdims=True)
    np.testing.assert_allclose(shortened["embeddings"], expected, atol=1e-6)
    assert shortened["dimension"] == dimensions


def test_all_dimensions_are_the_embedding_itself(client: TestClient) -> None:
    whole = encode(client, texts=TEXTS, dimensions=32)

    again = encode(client, texts=TEXTS)["embeddings"]
    np.testing.assert_allclose(
        whole["embeddings"], again, atol=1e-6
    )  # batches may be split differently


def test_usage_counts_tokens_and_truncated_texts(client: TestClient, tiny_encoder: Encoder) -> None:
    texts = ["short", "long " * 100, "longer " * 1000]

    usage = encode(client, texts=texts)["usage"]

    expected = tiny_encoder.encode(texts, "query")
    assert usage == {"tokens": expected.num_tokens, "truncated_texts": 2}


def test_a_response_names_encoder_and_dimension(client: TestClient, tiny_encoder: Encoder) -> None:
    answer = encode(client, texts=TEXTS)

    assert (answer["encoder"], answer["dimension"]) == (tiny_encoder.name, 32)


def test_took_ms_names_the_stages_of_encoding(client: TestClient) -> None:
    assert list(encode(client, texts=TEXTS)["took_ms"]) == ["tokenize", "queue", "encode"]


def test_256_texts_are_embedded_in_order(client: TestClient, tiny_encoder: Encoder) -> None:
    texts = [f"text {number} " * (number % 9 + 1) for number in range(256)]

    np.testing.assert_allclose(
        embeddings(client, texts=texts), tiny_encoder.encode(texts, "query").embeddings, atol=1e-5
    )


def test_null_stands_for_the_default_of_every_optional_field(client: TestClient) -> None:
    nulls = dict.fromkeys(("dimensions", "encoding_format", "timeout_ms"))

    response = client.post("/encode", json={"texts": ["a"], "role": "query", **nulls})

    assert response.status_code == 200
    assert response.json()["dimension"] == 32
