"""OpenAI's API, asked by plain HTTP; tests/integrations ask it with the official client."""

import base64
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr
from starlette.testclient import TestClient

from service.app import create_app
from service.retrieval.encoder.encoder import Encoder
from service.settings.settings import Settings
from tests.support.responses import assert_problem

NAME = "tiny-mean-0"
TEXTS = ["Nairobi", "Where does tea grow in Kenya?", "肯尼亚的首都", "سؤال"]


def embed(client: TestClient, **body: object) -> dict[str, Any]:
    response = client.post("/v1/embeddings", json={"model": NAME, "input": TEXTS, **body})
    assert response.status_code == 200, response.text
    return dict(response.json())


def rows(answer: dict[str, Any]) -> Any:
    return np.array([each["embedding"] for each in answer["data"]], dtype=np.float32)


@pytest.mark.parametrize(
    ("model", "role"),
    [(NAME, "passage"), (f"{NAME}:passage", "passage"), (f"{NAME}:query", "query")],
)
def test_the_model_s_name_selects_the_prompt(
    client: TestClient, tiny_encoder: Encoder, model: str, role: Any
) -> None:
    expected = tiny_encoder.encode(TEXTS, role)

    answer = embed(client, model=model)

    np.testing.assert_allclose(rows(answer), expected.embeddings, atol=1e-6)
    assert answer["usage"] == {
        "prompt_tokens": expected.num_tokens,
        "total_tokens": expected.num_tokens,
    }
    assert (answer["object"], answer["model"]) == ("list", model)
    assert [each["index"] for each in answer["data"]] == [0, 1, 2, 3]
    assert {each["object"] for each in answer["data"]} == {"embedding"}


def test_one_text_is_a_list_of_one(client: TestClient) -> None:
    np.testing.assert_array_equal(
        rows(embed(client, input=TEXTS[0])), rows(embed(client, input=TEXTS[:1]))
    )


def test_base64_holds_the_same_little_endian_floats(client: TestClient) -> None:
    written = embed(client, encoding_format="base64")["data"]

    decoded = [np.frombuffer(base64.b64decode(each["embedding"]), "<f4") for each in written]
    np.testing.assert_array_equal(np.stack(decoded), rows(embed(client)))


def test_fewer_dimensions_are_renormalized(client: TestClient) -> None:
    shortened = rows(embed(client, dimensions=7))

    head = rows(embed(client))[:, :7]
    expected = head / np.linalg.norm(head, axis=1, keepdims=True)
    np.testing.assert_allclose(shortened, expected, atol=1e-6)


def test_more_texts_than_encode_takes_come_back_in_order(
    client: TestClient, tiny_encoder: Encoder
) -> None:
    texts = [f"text {number}" for number in range(300)]

    answer = embed(client, input=texts)

    expected = tiny_encoder.encode(texts, "passage")
    np.testing.assert_allclose(rows(answer), expected.embeddings, atol=1e-5)
    assert answer["usage"]["total_tokens"] == expected.num_tokens


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"input": [[1, 2, 3]]}, "input"),
        ({"input": [1, 2, 3]}, "input"),
        ({"input": []}, "input"),
        ({"input": ""}, "input[0]"),
        ({"input": [" "]}, "input[0]"),
        ({"input": ["x"] * 2049}, "input"),
        ({"input": 5}, "input"),
        ({"input": None}, "input"),
        ({"model": 5}, "model"),
        ({"dimensions": 33}, "dimensions"),
        ({"dimensions": 0}, "dimensions"),
        ({"encoding_format": "int8"}, "encoding_format"),
        ({"user": 5}, "user"),
    ],
)
def test_a_wrong_field_is_named_in_both_forms(
    client: TestClient, body: dict[str, object], field: str
) -> None:
    response = client.post("/v1/embeddings", json={"model": NAME, "input": "a", **body})

    assert_problem(response, 422, field)
    problem = response.json()
    assert problem["error"] == {
        "message": problem["detail"],
        "type": "invalid_request_error",
        "param": field,
        "code": "invalid-request",
    }
    assert int(response.headers["Content-Length"]) == len(response.content)


def test_null_stands_for_the_default(client: TestClient) -> None:
    """LiteLLM sends `encoding_format: null`."""
    nulls = dict.fromkeys(("encoding_format", "dimensions", "user"))

    np.testing.assert_allclose(rows(embed(client, **nulls)), rows(embed(client)), atol=1e-6)


def test_unknown_fields_are_ignored(client: TestClient) -> None:
    """OpenAI-compatible servers do, and clients send the fields of each."""
    unknown = {
        "input_type": "query",
        "truncate": "END",
        "extra_body": {"a": 1},
        "prompt_name": None,
        "encodingFormat": "x",
        "timeout_ms": 0,
    }

    np.testing.assert_allclose(rows(embed(client, **unknown)), rows(embed(client)), atol=1e-6)


def test_whole_numbers_may_have_a_decimal_point(client: TestClient) -> None:
    whole, decimal = embed(client, dimensions=7), embed(client, dimensions=7.0)

    np.testing.assert_allclose(rows(decimal), rows(whole), atol=1e-6)


def test_token_ids_are_refused_with_advice(client: TestClient) -> None:
    response = client.post("/v1/embeddings", json={"model": NAME, "input": [[9906, 11]]})

    assert "must be texts" in response.json()["detail"]
    assert "check_embedding_ctx_length=False" in response.json()["detail"]


@pytest.mark.parametrize("name", ["text-embedding-3-small", f"{NAME}:document", "", NAME.upper()])
def test_an_unknown_model_is_not_found_and_the_known_ones_are_named(
    client: TestClient, name: str
) -> None:
    response = client.post("/v1/embeddings", json={"model": name, "input": "a"})

    assert_problem(response, 404, None)
    assert response.json()["error"]["code"] == "unknown-model"
    assert f"{NAME}:query" in response.json()["detail"]
    assert "text-embedding-3-small" not in response.text


def test_models_are_listed_and_described(client: TestClient) -> None:
    listed = client.get("/v1/models").json()

    assert [each["id"] for each in listed["data"]] == [NAME, f"{NAME}:query", f"{NAME}:passage"]
    assert listed["object"] == "list"
    for each in listed["data"]:
        assert each["object"] == "model" and each["created"] > 1_700_000_000
        assert client.get(f"/v1/models/{each['id']}").json() == each
    assert client.get("/v1/models/owner/other").status_code == 404


def test_a_missing_key_is_reported_in_both_forms(service_settings: Settings) -> None:
    settings = service_settings.model_copy(update={"api_key": SecretStr("a" * 20)})

    response = TestClient(create_app(settings)).get("/v1/models")

    assert_problem(response, 401, None)
    assert response.json()["error"]["type"] == "authentication_error"
    assert response.headers["WWW-Authenticate"] == "Bearer"


def test_errors_elsewhere_have_one_form(client: TestClient) -> None:
    assert "error" not in client.post("/encode", json={}).json()
