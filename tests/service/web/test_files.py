"""The page's files as they are sent: whole or compressed, and from the browser's cache."""

import base64
import gzip
import hashlib
import re
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from service.api.page import YEAR
from service.web.files import WEB, read_files

NAMES = sorted(
    path.relative_to(WEB).as_posix()
    for path in WEB.rglob("*")
    if path.is_file() and path.suffix not in (".py", ".pyc") and path.name != "examples.json"
)


def version_of(client: TestClient) -> str:
    [version] = set(re.findall(r'"web/(\w{12})/', client.get("/").text))
    return str(version)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "index.html"])
def test_each_file_is_sent_whole_and_kept_for_a_year_below_its_version(
    client: TestClient, name: str
) -> None:
    plain = client.get(f"/web/{name}", headers={"Accept-Encoding": "identity", "Range": "bytes=9-"})
    versioned = client.get(f"/web/{version_of(client)}/{name}")

    assert plain.status_code == versioned.status_code == 200
    assert plain.content == versioned.content == (WEB / name).read_bytes()
    assert plain.headers["Cache-Control"] == "no-cache"
    assert versioned.headers["Cache-Control"] == YEAR
    assert plain.headers["X-Content-Type-Options"] == "nosniff"
    assert plain.headers["Content-Type"].partition(";")[0] in (
        *("text/html", "text/css", "text/javascript", "application/json", "image/svg+xml"),
    )


def test_a_page_of_another_release_gets_the_files_that_there_are_and_asks_again(
    client: TestClient,
) -> None:
    response = client.get("/web/0123456789ab/style.css")

    assert response.content == (WEB / "style.css").read_bytes()
    assert response.headers["Cache-Control"] == "no-cache"


def test_the_version_changes_with_any_file(tmp_path: Path) -> None:
    for name in ("index.html", "early.js", "search.js"):
        (tmp_path / name).write_text("one")
    version, _ = read_files(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.json").write_text("{}")
    read_files.cache_clear()

    assert read_files(tmp_path)[0] != version
    read_files.cache_clear()


@pytest.mark.parametrize("path", ["/", "/web/style.css", "/web/page.js"])
def test_a_file_that_the_browser_has_is_not_sent_again(client: TestClient, path: str) -> None:
    first = client.get(path)
    headers = {"If-None-Match": f'"other", {first.headers["ETag"]}'}
    again, changed = (
        client.get(path, headers=headers),
        client.get(path, headers={"If-None-Match": "x"}),
    )

    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["ETag"] == first.headers["ETag"]
    assert again.headers["Content-Security-Policy"] == first.headers["Content-Security-Policy"]
    assert changed.status_code == 200


def test_a_file_is_compressed_for_those_who_accept_it(client: TestClient) -> None:
    with client.stream("GET", "/web/style.css", headers={"Accept-Encoding": "gzip"}) as response:
        compressed = b"".join(response.iter_raw())
    refused = client.get("/web/style.css", headers={"Accept-Encoding": "gzip;q=0"})

    assert response.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(compressed) == (WEB / "style.css").read_bytes() == refused.content
    assert "Content-Encoding" not in refused.headers
    assert response.headers["Vary"] == "Accept-Encoding"


def test_the_only_script_in_the_page_is_allowed_by_its_hash(client: TestClient) -> None:
    response = client.get("/")
    [script] = re.findall(r"<script>(.*?)</script>", response.text, re.DOTALL)
    hashed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()

    policy = response.headers["Content-Security-Policy"]
    assert f"script-src 'self' 'sha256-{hashed}'" in policy
    assert "self.early = {" in script


def test_only_get_and_head_are_allowed(client: TestClient) -> None:
    response = client.post("/web/style.css")

    assert (response.status_code, response.headers["Allow"]) == (405, "GET, HEAD")


def test_the_page_with_its_files_and_a_search_takes_40_kb_on_the_wire(client: TestClient) -> None:
    """In each language but those whose names of languages no browser knows: 42 kB."""
    version = version_of(client)
    shared = ["", *(f"web/{version}/{name}" for name in ("style.css", "page.js", "favicon.svg"))]
    shared_bytes = sum(wire_bytes(client, f"/{path}") for path in shared)
    catalogs = {
        path.stem: wire_bytes(client, f"/web/{version}/languages/{path.name}")
        for path in WEB.glob("languages/*.json")
    }

    assert shared_bytes < 26_000
    assert {language for language, count in catalogs.items() if count > 3_500} <= {"ha", "yo"}
    assert max(catalogs.values()) < 6_000


def wire_bytes(client: TestClient, path: str) -> int:
    """Return the bytes of a response's body as a browser gets it."""
    headers = {"Accept-Encoding": "gzip, deflate, br", "Accept-Language": "en"}
    with client.stream("GET", path, headers=headers) as response:
        return len(b"".join(response.iter_raw()))
