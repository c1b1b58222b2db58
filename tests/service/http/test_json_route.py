"""Routes whose body is JSON: answered as FastAPI would answer them."""

from email.message import Message
from functools import cache

import pytest
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.routing import APIRoute
from starlette.testclient import TestClient

from service.api.schemas import EncodeRequest
from service.http.json_route import JsonRoute, is_json
from service.problems import install_problems

VALID = b'{"texts": ["tea"], "role": "query"}'
BODIES = {
    "valid": VALID,
    "several": b'{"texts": ["tea", "milk"], "role": "passage", "dimensions": 2.0}',
    "empty": b"",
    "no object": b"[1]",
    "null": b"null",
    "no text": b'{"role": "query"}',
    "a wrong place": b'{"texts": ["tea", 7], "role": "query"}',
    "a wrong role": b'{"texts": ["tea"], "role": "user"}',
    "an unknown field": b'{"texts": ["tea"], "role": "query", "dimension": 2}',
    "a field with half a pair": b'{"texts": ["tea"], "role": "query", "\\ud800": 2}',
}
SECRET = b'{"texts": ["secret"], "role": "query", '
UNREADABLE = {
    b"{secret: 1}": "Expecting property name enclosed in double quotes at column 2: correct it",
    b'{\n "texts": secret}': "Expecting value at line 2, column 11: correct it",
    b'["secret"] secret': "Extra data at column 12: correct it",
    b'["secret': "Unterminated string starting at column 2: correct it",
    b"[" * 100_000: "it is nested too deeply: flatten it",
    SECRET + b'"timeout_ms": NaN}': "NaN at column 54 is not a JSON value: write null",
    SECRET + b'\n"NaN": -Infinity}': (
        "-Infinity at line 2, column 8 is not a JSON value: write null"
    ),
    SECRET + b'"timeout_ms": %s}' % (b"1" * 5000): (
        "a whole number has 5,000 digits, of 4,300 at most: write it in quotes, as text"
    ),
}
TYPES = """application/json|Application/JSON; charset=utf-8|application/ld+json| application/json |
application/x/y+json|application/jsonl|application/json, text/plain|text/json|json|application/|
application/json/|text/plain|;application/json""".replace("\n", "").split("|")


@cache
def client_of(route_class: type[APIRoute]) -> TestClient:
    app, router = FastAPI(), APIRouter(route_class=route_class)

    @router.post("/encode")
    async def encode(body: EncodeRequest, request: Request) -> Response:
        return Response(body.model_dump_json(), media_type="application/json")

    install_problems(app)
    app.include_router(router)
    return TestClient(app, raise_server_exceptions=False)


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", None])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_body_is_answered_as_fastapi_answers_it(body: bytes, content_type: str | None) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    ours, theirs = (
        client_of(kind).post("/encode", content=body, headers=headers)
        for kind in (JsonRoute, APIRoute)
    )
    assert (ours.status_code, ours.content) == (theirs.status_code, theirs.content)
    assert ours.headers == theirs.headers


@pytest.mark.parametrize(("body", "reason"), UNREADABLE.items(), ids=UNREADABLE.values())
def test_what_is_not_json_is_told_with_its_place_and_without_its_content(
    body: bytes, reason: str
) -> None:
    response = client_of(JsonRoute).post(
        "/encode", content=body, headers={"Content-Type": "application/json"}
    )
    problem = response.json()
    assert (response.status_code, problem["field"]) == (400, "body")
    assert problem["detail"] == f"the body cannot be read as JSON in UTF-8: {reason}"


def test_the_model_of_the_body_is_known_when_the_route_is_made() -> None:
    async def encode(body: EncodeRequest, request: Request) -> Response:
        raise AssertionError

    assert JsonRoute("/encode", encode, methods=["POST"])._model is EncodeRequest
    with pytest.raises(NameError):
        JsonRoute("/encode", unresolvable, methods=["POST"])


async def unresolvable(request: "Nowhere") -> None:  # type: ignore[name-defined]  # noqa: F821
    raise AssertionError


def test_a_byte_order_mark_is_no_part_of_the_json() -> None:
    response = client_of(JsonRoute).post(
        "/encode", content=b"\xef\xbb\xbf" + VALID, headers={"Content-Type": "application/json"}
    )
    assert response.json()["texts"] == ["tea"]


@pytest.mark.parametrize(
    "body",
    [b'{"texts": ["a"], "role": "query", "role": "passage"}', b'[{"a": {"b": 1, "b": 1}}]'],
)
def test_a_key_that_an_object_has_twice_is_refused_as_in_files(body: bytes) -> None:
    response = client_of(JsonRoute).post(
        "/encode", content=body, headers={"Content-Type": "application/json"}
    )
    assert response.status_code == 400
    assert response.json()["detail"] == "an object of the body has a key twice: remove one"


@pytest.mark.parametrize("other", ["utf-16", "utf-32"])
def test_json_in_another_encoding_is_refused(other: str) -> None:
    response = client_of(JsonRoute).post(
        "/encode",
        content=VALID.decode().encode(other),
        headers={"Content-Type": "application/json"},
    )
    assert response.status_code == 400
    assert response.json()["detail"] == "the body is not UTF-8 at byte 1: send JSON in UTF-8"


@pytest.mark.parametrize("content_type", TYPES)
def test_a_content_type_is_json_where_the_email_library_reads_it_so(content_type: str) -> None:
    message = Message()
    message["content-type"] = content_type
    subtype = message.get_content_subtype()
    is_subtype = subtype == "json" or subtype.endswith("+json")
    expected = message.get_content_maintype() == "application" and is_subtype
    assert is_json(content_type) == expected
