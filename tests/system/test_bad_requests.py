import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from service.api.schemas import EncodeRequest
from tests.support.responses import assert_problem

JSON = {"Content-Type": "application/json"}
SECRET = "Geheimnis"
TEN_MEGABYTES = 10_000_000


def post(client: TestClient, path: str, body: object) -> Any:
    """Post a value as JSON, or bytes unchanged."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.post(path, content=content, headers=JSON)


@pytest.mark.parametrize("path", ["/search", "/encode"])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"query": ',
        b'{"query": "\xff\xfe"}',
        b"[]",
        b'["query"]',
        b"null",
        b"5",
        b'"query"',
        b"[" * 100_000,
        b'{"query":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"top_k": 1' + b"0" * 5000 + b"}",
        b'{"query": "a", "\\ud800": 1}',
    ],
    ids=lambda body: repr(body[:30]),
)
def test_a_body_that_is_not_a_json_object_is_malformed(
    client: TestClient, path: str, body: bytes
) -> None:
    assert_problem(post(client, path, body), 400, "body")


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_another_content_type_is_malformed_and_the_right_one_is_named(
    client: TestClient, content_type: str
) -> None:
    headers = {"Content-Type": content_type} if content_type else {}

    response = client.post("/search", content=b'{"query": "a"}', headers=headers)

    assert_problem(response, 400, "body")
    assert "Content-Type: application/json" in response.json()["detail"]


@pytest.mark.parametrize("path", ["/search", "/encode", "/v1/embeddings"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
def test_a_body_in_utf_16_or_utf_32_is_malformed(
    client: TestClient, path: str, encoding: str
) -> None:
    content_type = {"Content-Type": f"application/json; charset={encoding}"}

    response = client.post(path, content='{"query": "a"}'.encode(encoding), headers=content_type)

    assert_problem(response, 400, "body")
    assert "UTF-8" in response.json()["detail"]


def test_a_byte_order_mark_before_utf_8_is_ignored(client: TestClient) -> None:
    body = '{"query": "a", "top_k": 1}'.encode("utf-8-sig")

    assert post(client, "/search", body).status_code == 200


def chunks() -> Iterator[bytes]:
    for _ in range(10):
        yield b"a" * (TEN_MEGABYTES // 10)


@pytest.mark.parametrize("body", [b"a" * TEN_MEGABYTES, chunks()], ids=["declared", "chunked"])
def test_a_body_over_the_limit_is_refused(client: TestClient, body: Any) -> None:
    response = client.post("/search", content=body, headers=JSON)

    assert_problem(response, 413, "body")
    assert response.json()["detail"] == (
        "the body is above 2097152 bytes (CLEAR_MAX_BODY_BYTES): send less at once"
    )


BAD_TEXTS = {
    "empty": "",
    "blank": " \n\t\u2003",
    "NUL": "a\x00b",
    "200,000 characters": "a" * 200_000,
    "surrogate": "\ud800",
    "surrogate within": "where is \udfff Kenya",
    "no text": 5,
    "object": {"a": 1},
}


@pytest.mark.parametrize("text", BAD_TEXTS.values(), ids=BAD_TEXTS)
@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/search", lambda text: {"query": text}, "query"),
        ("/search", lambda text: {"queries": ["a", text]}, "queries[1]"),
        ("/encode", lambda text: {"texts": ["a", "b", text], "role": "query"}, "texts[2]"),
    ],
    ids=["query", "queries", "texts"],
)
def test_a_bad_text_is_named(
    client: TestClient, path: str, body: Any, field: str, text: object
) -> None:
    assert_problem(post(client, path, body(text)), 422, field)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("top_k", 0),
        ("top_k", 1001),
        ("top_k", 100_000),
        ("top_k", True),
        ("top_k", "5"),
        ("top_k", 5.5),
        ("top_k", 1e300),
        ("min_score", 2),
        ("min_score", -1.5),
        ("min_score", True),
        ("min_score", "0.5"),
        ("include_text", "yes"),
        ("include_text", 1),
        ("language", "not a language"),
        ("language", "e"),
        ("language", "en_US"),
        ("language", "en\n"),
        ("language", ""),
        ("language", "i"),
        ("language", "x-"),
        ("language", 5),
        ("timeout_ms", 0),
        ("timeout_ms", 60_001),
        ("timeout_ms", 10**30),
        ("timeout_ms", "100"),
        ("unknown", 1),
        ("queries", ["both"]),
        ("filter", {"page": 1}),
        ("filter", {}),
    ],
)
def test_a_bad_field_of_a_search_is_named(client: TestClient, field: str, value: object) -> None:
    """`min_score: true` was read as 1, and the result was empty."""
    named = {"queries": "query", "filter": "filter.page" if value else "filter"}.get(field, field)

    assert_problem(post(client, "/search", {"query": "a", field: value}), 422, named)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize(
    "field", ["top_k", "offset", "min_score", "min_relevance", "answer_threshold", "timeout_ms"]
)
def test_json_has_no_nan_and_no_infinity(client: TestClient, field: str, number: str) -> None:
    begin = f'{{"query": "a", "{field}": '

    response = post(client, "/search", f"{begin}{number}}}".encode())

    assert_problem(response, 400, "body")
    place = f"{number} at column {len(begin) + 1}"
    assert f"{place} is not a JSON value: write null" in response.json()["detail"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("texts", []),
        ("texts", ["a"] * 257),
        ("texts", None),
        ("texts", {"a": 1}),
        ("role", "document"),
        ("role", None),
        ("dimensions", 0),
        ("dimensions", 33),
        ("dimensions", "8"),
        ("dimensions", True),
        ("encoding_format", "hex"),
        ("timeout_ms", 0),
        ("timeout_ms", 60_001),
        ("input", "a"),
    ],
)
def test_a_bad_field_of_an_encoding_is_named(client: TestClient, field: str, value: object) -> None:
    body = {"texts": ["a"], "role": "query", field: value}

    assert_problem(post(client, "/encode", body), 422, field)


@pytest.mark.parametrize("missing", ["texts", "role"])
def test_a_missing_field_of_an_encoding_is_named(client: TestClient, missing: str) -> None:
    body = {"texts": ["a"], "role": "query"}
    del body[missing]

    assert_problem(post(client, "/encode", body), 422, missing)


@pytest.mark.parametrize(
    ("body", "field"),
    [({}, "query"), ({"query": None}, "query"), ({"queries": []}, "queries")],
)
def test_a_search_without_a_query_is_refused(client: TestClient, body: object, field: str) -> None:
    assert_problem(post(client, "/search", body), 422, field)


def test_64_queries_are_answered_and_65_refused(client: TestClient) -> None:
    assert post(client, "/search", {"queries": ["a"] * 64}).status_code == 200
    assert_problem(post(client, "/search", {"queries": ["a"] * 65}), 422, "queries")


def test_a_filter_by_an_undeclared_field_is_refused_with_the_declared_ones(
    client: TestClient,
) -> None:
    response = post(client, "/search", {"query": "a", "filter": {"page": [1, 2]}})

    assert response.json()["detail"] == (
        "filter.page: this index declares no such field; it declares: none"
    )


@pytest.mark.parametrize("name", ["line\nbreak", "x" * 10_000, "\x1b[31mred", "\u202eright"])
def test_an_unknown_field_is_named_on_one_short_printable_line(
    client: TestClient, name: str
) -> None:
    response = post(client, "/search", {"query": "a", name: 1})

    problem = response.json()
    assert response.status_code == 422
    assert problem["field"].isprintable()
    assert len(problem["field"]) <= 100
    assert problem["detail"].startswith(f"{problem['field']}: the field is unknown: the fields are")


@pytest.mark.parametrize(
    ("path", "body", "detail"),
    [
        (
            "/search",
            {"query": "a", "topk": 3},
            "topk: the field is unknown: did you mean top_k?",
        ),
        (
            "/encode",
            {"text": ["a"], "role": "query"},
            "text: the field is unknown: did you mean texts?",
        ),
        (
            "/encode",
            {"texts": ["a"], "role": "query", "qq": None},
            "qq: the field is unknown: the fields are " + ", ".join(EncodeRequest.model_fields),
        ),
    ],
)
def test_an_unknown_field_is_refused_with_the_nearest_or_all(
    client: TestClient, path: str, body: object, detail: str
) -> None:
    response = post(client, path, body)

    assert (response.status_code, response.json()["detail"]) == (422, detail)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/search", {"query": SECRET + "\x00"}),
        ("/search", {"query": SECRET, "top_k": 0}),
        ("/search", {"query": SECRET, "queries": [SECRET]}),
        ("/search", {"queries": [SECRET, SECRET + "\ud800"]}),
        ("/search", {"query": SECRET * 10_000}),
        ("/search", {"query": [SECRET]}),
        ("/search", {"query": {"text": SECRET}}),
        ("/search", {"query": "a", "language": SECRET}),
        ("/search", {"query": "a", "top_k": SECRET}),
        ("/search", {"query": "a", "filter": {"country": SECRET}}),
        ("/search", {"query": "a", "filter": {"country": {"is": SECRET}}}),
        ("/search", {"query": "a", "unknown": SECRET}),
        ("/search", [SECRET]),
        ("/search", SECRET),
        ("/search", SECRET.encode() + b"\xff"),
        ("/search", b'{"query": "' + SECRET.encode()),
        ("/encode", {"texts": [SECRET, 5], "role": "query"}),
        ("/encode", {"texts": SECRET + "\ud800", "role": "query"}),
        ("/encode", {"texts": ["a"], "role": SECRET}),
        ("/encode", {"texts": ["a"], "role": "query", "encoding_format": SECRET}),
        ("/encode", {"texts": {"a": SECRET}, "role": "query"}),
    ],
    ids=lambda value: repr(value)[:50],
)
def test_user_content_is_in_neither_the_response_nor_the_log(
    client: TestClient, caplog: pytest.LogCaptureFixture, path: str, body: object
) -> None:
    caplog.set_level("DEBUG")

    response = post(client, path, body)

    assert 400 <= response.status_code < 500
    assert SECRET not in response.text + str(response.headers) + caplog.text


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda values: st.lists(values) | st.dictionaries(st.text(), values),
    max_leaves=10,
)
FIELDS = ["query", "queries", "texts", "role", "top_k", "filter", "min_score", "language"]


COUNTS = [30, pytest.param(200, marks=pytest.mark.slow)]


@pytest.mark.parametrize("path", ["/search", "/encode"])
@pytest.mark.parametrize("count", COUNTS)
def test_no_json_value_is_a_server_error(client: TestClient, path: str, count: int) -> None:
    @settings(max_examples=count, deadline=None, derandomize=True)
    @given(body=JSON_VALUES | st.dictionaries(st.sampled_from(FIELDS), JSON_VALUES))
    def check(body: object) -> None:
        response = post(client, path, body)

        assert response.status_code < 500
        assert response.json().get("field", "").isprintable()

    check()


@pytest.mark.parametrize("count", COUNTS)
def test_any_text_is_answered_or_refused_as_the_query(client: TestClient, count: int) -> None:
    @settings(max_examples=count, deadline=None, derandomize=True)
    @given(text=st.text(st.characters(codec=None, exclude_categories=[]), min_size=1))
    def check(text: str) -> None:
        response = post(client, "/search", {"query": text})

        if response.status_code == 200:
            assert len(response.json()["results"][0]["hits"]) == 10
        else:
            assert_problem(response, 422, "query")

    check()
