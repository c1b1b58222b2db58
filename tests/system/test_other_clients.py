"""Clients of other languages, as they are by default."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import RunningServer, running

QUERY = json.dumps({"query": "tea", "top_k": 1})
JAVA = """
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;

class Search {
    public static void main(String[] arguments) throws Exception {
        var client = HttpClient.newHttpClient();
        for (int i = 0; i < 2; i++) {
            var request = HttpRequest.newBuilder(URI.create(arguments[0]))
                .header("Content-Type", "application/json")
                .POST(HttpRequest.BodyPublishers.ofString(arguments[1])).build();
            var response = client.send(request, BodyHandlers.ofString());
            System.out.println(response.statusCode() + " " + response.body());
        }
    }
}
"""


@pytest.fixture(scope="module")
def server(tiny_checkpoint: Path, tiny_index: Path) -> Iterator[RunningServer]:
    """A server of their own; the last test ends it and reads its whole log."""
    with running(tiny_checkpoint, tiny_index) as server:
        yield server


def output_of(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=100).stdout


def log_of(server: RunningServer) -> str:
    server.process.terminate()
    return server.end()[1]


@pytest.fixture
def java() -> str:
    java = shutil.which("java")
    if java is None or shutil.which("javac") is None:
        pytest.skip("a JDK is not installed")
    return java


@pytest.mark.slow
def test_java_s_client_is_answered(java: str, server: RunningServer, tmp_path: Path) -> None:
    """It offers HTTP/2 with the first request of a connection."""
    source = tmp_path / "Search.java"
    source.write_text(JAVA)

    lines = output_of(
        [java, str(source), f"http://127.0.0.1:{server.port}/search", QUERY]
    ).splitlines()

    assert [line[:4] for line in lines] == ["200 ", "200 "]
    assert len(json.loads(lines[0][4:])["results"][0]["hits"]) == 1


@pytest.fixture
def curl() -> str:
    curl = shutil.which("curl")
    if curl is None or "HTTP2" not in output_of([curl, "--version"]):
        pytest.skip("curl with HTTP/2 is not installed")
    return curl


@pytest.mark.slow
def test_curl_that_offers_http_2_is_answered_and_nothing_is_logged(
    curl: str, server: RunningServer
) -> None:
    url = f"http://127.0.0.1:{server.port}/search"
    command = [curl, "--silent", "--fail", "--http2", "--json", QUERY]

    answer = json.loads(output_of([*command, url]))

    assert len(answer["results"][0]["hits"]) == 1
    log = log_of(server)
    assert "WARNING" not in log and "WebSocket" not in log
