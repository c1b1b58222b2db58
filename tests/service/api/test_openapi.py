"""The OpenAPI document is the code's; `python tests/service/api/test_openapi.py` writes it anew."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from service.app import create_app
from service.settings.settings import Settings

DOCUMENT = Path(__file__).resolve().parents[3] / "service" / "api" / "openapi.json"


def written() -> str:
    document = create_app(Settings()).openapi()
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def test_the_document_checked_in_is_that_of_the_code() -> None:
    """A change of the contract is seen in a diff."""
    assert DOCUMENT.read_text() == written(), "run: python tests/service/api/test_openapi.py"


def test_the_document_served_is_that_checked_in(client: TestClient) -> None:
    assert client.get("/openapi.json").json() == json.loads(DOCUMENT.read_text())


def references(value: object) -> set[str]:
    if isinstance(value, dict):
        found = {str(value["$ref"])} if "$ref" in value else set()
        return found.union(*map(references, value.values()))
    if isinstance(value, list):
        return set().union(*map(references, value))
    return set()


def test_every_schema_is_referred_to_and_every_reference_leads_somewhere() -> None:
    document = json.loads(DOCUMENT.read_text())

    named = {reference.rpartition("/")[2] for reference in references(document)}

    assert named == {*document["components"]["schemas"], *document["components"]["responses"]}


@pytest.mark.parametrize("path", ["/search", "/encode"])
def test_the_example_of_a_request_is_answered_in_the_shape_of_the_example_of_its_answer(
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


def test_every_operation_is_described_and_says_what_key_it_needs() -> None:
    document = json.loads(DOCUMENT.read_text())

    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert re.search(r"\.", operation["description"]), path
            is_open = path in ("/livez", "/readyz", "/metrics")
            assert ("security" in operation) != is_open, path


if __name__ == "__main__":
    DOCUMENT.write_text(written())
