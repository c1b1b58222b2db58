import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from service.api.page import answered_by
from service.retrieval.generation.generation import open_current

FOREIGN = re.compile(r"(?:https?:)?//(?!localhost\b)[\w.-]+\.\w+")


class References(HTMLParser):
    """Collects the references of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in ("src", "href")]


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_a_page_loads_nothing_from_another_host(client: TestClient, path: str) -> None:
    html = client.get(path).text

    references = [reference for reference in References(html).found if reference != "."]
    assert references
    assert not FOREIGN.findall(html)
    for reference in references:
        if not reference.startswith("#"):
            assert client.get(f"/{reference.lstrip('/')}").status_code == 200, reference


@pytest.mark.parametrize("path", ["/", "/web/search.js", "/web/page.js"])
def test_the_page_may_load_only_from_its_own_host(client: TestClient, path: str) -> None:
    policy = client.get(path).headers["Content-Security-Policy"]

    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert not FOREIGN.search(policy)


def test_the_examples_are_those_that_the_index_answers(
    client: TestClient, tiny_index: Path
) -> None:
    examples = [{"text": "Chai?", "passage_id": passage_id} for passage_id in ("peru.2", "none")]

    assert client.get("/web/examples.json").json() == []
    assert answered_by(open_current(tiny_index).passages, examples) == examples[:1]


def test_head_of_the_page_has_its_headers_and_no_body(client: TestClient) -> None:
    response = client.head("/")

    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["Content-Type"].startswith("text/html")
