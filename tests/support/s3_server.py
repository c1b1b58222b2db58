"""moto's server of S3's protocol, in a process of its own, with faults on demand.

`python -m tests.support.s3_server` prints its port. POST /faults takes {"delay_seconds", "status",
"cut"}: answer later, with an error, or with the first half of the body, to every request.
"""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
BUCKET = "bucket"


@dataclass
class S3Server:
    """A running server; `variables` let a process find it."""

    address: str

    @property
    def variables(self) -> dict[str, str]:
        return KEYS | {
            "AWS_ENDPOINT_URL": self.address,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_CONFIG_FILE": os.devnull,
        }

    def post(self, path: str, content: object) -> None:
        body = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        request = urllib.request.Request(f"{self.address}{path}", data=body, method="POST")
        request.add_header("Content-Type", "application/octet-stream")
        urllib.request.urlopen(request, timeout=10).close()

    def fail(self, **faults: object) -> None:
        """Answer every request with these faults from now on; with none, as it should."""
        self.post("/faults", faults)


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """Start a server with an empty bucket; stop it at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.s3_server"],
        cwd=Path(__file__).parents[2],
        env=os.environ | KEYS | {"AWS_DEFAULT_REGION": "us-east-1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        server = S3Server(f"http://127.0.0.1:{int(process.stdout.readline())}")
        request = urllib.request.Request(f"{server.address}/{BUCKET}", method="PUT")
        urllib.request.urlopen(request, timeout=10).close()
        yield server
    finally:
        process.kill()
        process.communicate()


class Faulty:
    """A WSGI application whose answers come late, fail or end early."""

    def __init__(self, application: Any) -> None:
        self._application = application
        self._faults: dict[str, Any] = {}

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/faults":
            size = int(environ["CONTENT_LENGTH"])
            self._faults = json.loads(environ["wsgi.input"].read(size))
            start_response("204 No Content", [])
            return []
        faults = self._faults
        time.sleep(faults.get("delay_seconds", 0))
        if status := faults.get("status"):
            start_response(f"{status} Fault", [("Content-Length", "0")])
            return []
        answer = self._application(environ, start_response)
        if faults.get("cut"):
            content = b"".join(answer)
            return [content[: len(content) // 2]]
        return answer  # type: ignore[no-any-return]


def main() -> None:
    """Serve until this process is killed."""
    from moto.moto_server.werkzeug_app import (
        DomainDispatcherApplication,
        MotoRequestHandler,
        create_backend_app,
    )
    from werkzeug.serving import make_server

    application = Faulty(DomainDispatcherApplication(create_backend_app))
    server = make_server(
        "127.0.0.1", 0, application, threaded=True, request_handler=MotoRequestHandler
    )
    sys.stdout.write(f"{server.port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
