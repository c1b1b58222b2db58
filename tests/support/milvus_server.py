"""The Milvus standalone of the wheel `milvus` 2.3.5, in its own environment."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

REQUIREMENTS = ("milvus==2.3.5", "setuptools<81")  # which it imports pkg_resources of
START_SECONDS = 600


@contextmanager
def milvus_server(folder: Path) -> Iterator[str]:
    """Start a server that stores everything in one folder; yield its address; stop it."""
    program = _installed(folder) / "bin" / "milvus-server"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, "--data", folder / "data", "--proxy-port", str(port)],
            env={"PATH": os.environ["PATH"], "HOME": str(folder)},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        _wait(process, port)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
        with suppress(ProcessLookupError):  # the launcher may have ended before its server
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _installed(folder: Path) -> Path:
    """Return the environment that `CLEAR_TEST_MILVUS` names, or create one."""
    if named := os.environ.get("CLEAR_TEST_MILVUS"):
        return Path(named)
    environment = folder / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    pip = [sys.executable, "-m", "pip", "--python", environment, "install", "--quiet"]
    if subprocess.run([*pip, "--no-compile", *REQUIREMENTS], check=False).returncode:
        pytest.skip("the wheel of the Milvus server cannot be installed")
    return environment


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, "the Milvus server ended"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.5)
    raise TimeoutError("the Milvus server does not listen")
