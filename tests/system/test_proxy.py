"""The service behind nginx, which serves it below a prefix."""

import json
import re
import shutil
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urljoin

import pytest

from tests.support.processes import TIMEOUT_SECONDS, running, wait_until

pytestmark = pytest.mark.slow
HEADERS = """
        proxy_set_header X-Forwarded-Prefix /clear;
        proxy_set_header X-Forwarded-Proto https;
        proxy_set_header X-Forwarded-Host $http_host;
"""
CONFIGURATION = """
daemon off; error_log stderr; pid {folder}/pid;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port};
    location /clear/ {{
        proxy_pass http://127.0.0.1:{service}{path};
        {headers}
    }}
  }}
}}
"""


@contextmanager
def nginx(folder: Path, service: int, path: str, headers: str) -> Iterator[str]:
    """Run nginx in front of a service; yield the address of the prefix, which ends with a slash."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    if program is None:
        pytest.skip("nginx is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    configuration = folder / "nginx.conf"
    configuration.write_text(
        CONFIGURATION.format(folder=folder, port=port, service=service, path=path, headers=headers)
    )
    process = subprocess.Popen([program, "-c", str(configuration), "-p", str(folder)])
    try:
        wait_until(lambda: process.poll() is not None or answers(port))
        assert process.poll() is None
        yield f"http://127.0.0.1:{port}/clear/"
    finally:
        process.terminate()
        process.wait(TIMEOUT_SECONDS)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as response:
        return str(response.read().decode(errors="replace"))


@pytest.mark.parametrize(
    ("paths", "headers", "variables"),
    [
        (["/"], HEADERS, {"CLEAR_TRUSTED_PROXIES": "127.0.0.0/8"}),
        (["/", ""], "", {"CLEAR_ROOT_PATH": "clear/"}),
    ],
    ids=["forwarded headers", "root path, prefix removed and left"],
)
def test_docs_and_page_work_below_the_prefix_of_a_proxy(
    tiny_checkpoint: Path,
    tiny_index: Path,
    tmp_path: Path,
    paths: list[str],
    headers: str,
    variables: dict[str, str],
) -> None:
    with running(tiny_checkpoint, tiny_index, **variables) as server:
        for path in paths:
            with nginx(tmp_path, server.port, path, headers) as address:
                check_links(address)


def check_links(address: str) -> None:
    """Follow each link of the page and of the manual of the API."""
    for page in ("", "docs"):
        text = get(address + page)
        found = re.findall(r"(?:href|src)=\"([^\"#]+)\"|url: '([^']+)'", text)
        links = {urljoin(address + page, one or other) for one, other in found}
        assert len(links) > 3
        for link in links:
            assert link.startswith(address)
            get(link)
    document = json.loads(get(f"{address}openapi.json"))

    assert urljoin(f"{address}openapi.json", document["servers"][0]["url"] + "/") == address
