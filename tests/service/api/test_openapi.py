"""The OpenAPI document is the code's; `python tests/service/api/test_openapi.py` writes it."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from service.api.openapi import set_maxima
from service.api.schemas import Problem
from service.app import create_app
from service.problem import MEDIA_TYPE
from service.problems import TABLE
from service.retrieval.encoder.encoder import Encoder
from service.settings.settings import Settings

DOCUMENT = Path(__file__).resolve().parents[3] / "service" / "api" / "openapi.json"


def written() -> str:
    document = create_app(Settings()).openapi()
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def test_the_document_checked_in_is_that_of_the_code() -> None:
    """A change of the API shows in a diff."""
    assert DOCUMENT.read_text() == written(), "run: python tests/service/api/test_openapi.py"


def test_the_document_served_is_that_checked_in_and_has_the_limits(
    client: TestClient, tiny_encoder: Encoder
) -> None:
    document = json.loads(DOCUMENT.read_text())

    set_maxima(document, {"dimensions": tiny_encoder.embedding_dim, "timeout_ms": 60_000})

    assert client.get("/openapi.json").json() == document
    limited = document["components"]["schemas"]["EncodeRequest"]["properties"]["dimensions"]
    assert limited["anyOf"][0]["maximum"] == 32


def test_every_operation_has_a_summary_of_its_own() -> None:
    """FastAPI's is the name of the function, such as `Livez`."""
    for methods in json.loads(DOCUMENT.read_text())["paths"].values():
        for operation in methods.values():
            function = operation["summary"].lower().replace(" ", "_")
            assert not operation["operationId"].startswith(f"{function}_")


@pytest.mark.parametrize("name", ["SearchRequest", "EncodeRequest", "EmbeddingsRequest"])
def test_every_optional_field_of_a_body_may_be_null(name: str) -> None:
    schema = json.loads(DOCUMENT.read_text())["components"]["schemas"][name]

    for field, content in schema["properties"].items():
        is_optional = field not in schema.get("required", ())
        assert ({"type": "null"} in content.get("anyOf", ())) == is_optional, field


def test_a_search_takes_a_query_or_queries_and_not_both() -> None:
    from jsonschema import Draft202012Validator  # a second, in the one process that needs it

    schema = json.loads(DOCUMENT.read_text())["components"]["schemas"]["SearchRequest"]
    validator = Draft202012Validator({"oneOf": schema["oneOf"]})
    one, several = {"query": "a"}, {"queries": ["a"]}

    assert validator.is_valid(one) and validator.is_valid(several)
    assert validator.is_valid({**one, "queries": None})
    for body in ({}, {**one, **several}, {"query": None}, {"query": None, "queries": None}):
        assert not validator.is_valid(body)


def references(value: object) -> set[str]:
    if isinstance(value, dict):
        found = {str(value["$ref"])} if "$ref" in value else set()
        return found.union(*map(references, value.values()))
    if isinstance(value, list):
        return set().union(*map(references, value))
    return set()


def test_every_schema_is_referenced_and_every_reference_resolves() -> None:
    document = json.loads(DOCUMENT.read_text())

    named = {reference.rpartition("/")[2] for reference in references(document)}

    assert named == {*document["components"]["schemas"], *document["components"]["responses"]}


@pytest.mark.parametrize("path", ["/search", "/encode"])
def test_the_response_to_an_example_request_has_the_keys_of_the_example_response(
    client: TestClient, path: str
) -> None:
    document = json.loads(DOCUMENT.read_text())
    operation = document["paths"][path]["post"]

    def example(content: dict[str, Any]) -> Any:
        name = content["application/json"]["schema"]["$ref"].rpartition("/")[2]
        return document["components"]["schemas"][name]["examples"][0]

    answer = client.post(path, json=example(operation["requestBody"]["content"]))

    assert answer.status_code == 200
    shown = example(operation["responses"]["200"]["content"])
    assert set(answer.json()) == set(shown)


def test_every_operation_has_a_description_and_its_security() -> None:
    document = json.loads(DOCUMENT.read_text())

    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert re.search(r"\.", operation["description"]), path
            is_open = path in ("/livez", "/readyz", "/metrics")
            assert ("security" in operation) != is_open, path


# Not errors of these routes: unknown path or method, client gone, of /admin or /documents only.
OF_NO_QUESTION = {404, 405, 409, 499, 507}


@pytest.mark.parametrize("path", ["/search", "/encode"])
def test_the_document_lists_each_error_of_a_post(client: TestClient, path: str) -> None:
    responses = client.get("/openapi.json").json()["paths"][path]["post"]["responses"]

    documented = {int(status) for status in responses}
    assert documented == {200} | {kind.status for kind in TABLE} - OF_NO_QUESTION


def test_each_error_of_the_document_has_media_type_schema_and_example_of_a_problem(
    client: TestClient,
) -> None:
    """The document said application/json, the service application/problem+json."""
    document = client.get("/openapi.json").json()
    schema = document["components"]["schemas"]["Problem"]

    assert set(schema["properties"]) == set(Problem.model_fields)
    for name, response in document["components"]["responses"].items():
        content = response["content"]
        assert set(content) == {MEDIA_TYPE}
        assert content[MEDIA_TYPE]["schema"] == {"$ref": "#/components/schemas/Problem"}
        for one in content[MEDIA_TYPE]["examples"].values():
            assert Problem(**one["value"]).status == int(name)


def test_the_document_defines_each_error_once(client: TestClient) -> None:
    document = client.get("/openapi.json").json()

    for methods in document["paths"].values():
        for operation in methods.values():
            for status, response in operation["responses"].items():
                if status not in ("200", "202"):
                    assert response == {"$ref": f"#/components/responses/{status}"}


def test_the_document_s_examples_are_accepted(client: TestClient) -> None:
    schemas = client.get("/openapi.json").json()["components"]["schemas"]

    for path, name in (("/search", "SearchRequest"), ("/encode", "EncodeRequest")):
        for example in schemas[name]["examples"]:
            assert client.post(path, json=example).status_code == 200


if __name__ == "__main__":
    DOCUMENT.write_text(written())
