"""A service killed at random points while documents change: nothing acknowledged is lost.

`TEST_KILLS=20` kills it so many times.
"""

import json
import os
import random
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from service.retrieval.corpus.reader import Passage
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.indexing.build import build_index
from tests.support.builds import files_of
from tests.support.processes import RunningServer, running, wait_until

ROUNDS = int(os.environ.get("TEST_KILLS", "1"))
NUM_DOCUMENTS = 12
VARIABLES = {
    "CLEAR_DOCUMENTS": "open",
    "CLEAR_APPLY_SECONDS": "0.05",
    "CLEAR_CPU_ENGINE": "torch",
    "CLEAR_PRECISION": "fp32",
}


def text_of(version: int) -> str:
    return f"tea of version {version}"


def ask(port: int, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}",
        data=json.dumps(body).encode() if body else None,
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return dict(json.load(answer))


@dataclass
class Author:
    """Writes new versions of documents one after another, until the service is gone."""

    dice: random.Random
    sent: dict[str, int] = field(default_factory=dict)  # last version sent of each document
    acknowledged: dict[str, int] = field(default_factory=dict)
    numbers: list[int] = field(default_factory=list)  # of acknowledged changes
    version: int = 0

    def write_until_killed(self, port: int) -> None:
        while True:
            self.version += 1
            ids = [str(each) for each in self.dice.sample(range(NUM_DOCUMENTS), 3)]
            put = [{"id": each, "text": text_of(self.version)} for each in ids]
            self.sent |= dict.fromkeys(ids, self.version)
            try:
                answer = ask(port, "/documents", {"put": put})
            except (OSError, HTTPException, ValueError):
                return
            self.numbers.append(answer["change"])
            self.acknowledged |= dict.fromkeys(ids, self.version)


def check_all_there(server: RunningServer, author: Author) -> None:
    """Check that each document has its last version: acknowledged, or sent when it was killed."""
    last = ask(server.port, "/documents", {"delete": ["none"], "wait": True, "timeout_ms": 30_000})
    assert last["state"] == "applied"
    for number in author.numbers:
        assert ask(server.port, f"/changes/{number}")["state"] == "applied"
    for document_id, version in list(author.acknowledged.items()):
        found = ask(server.port, f"/documents/{document_id}")["document"]["text"]
        assert found in {text_of(version), text_of(author.sent[document_id])}, document_id
        # What was sent and not acknowledged may be there, and then it stays.
        author.acknowledged[document_id] = int(found.rpartition(" ")[2])


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.timeout(900)
def test_after_kill_9_every_acknowledged_change_is_there_once_and_in_order(
    tmp_path: Path, tiny_checkpoint: Path, tiny_encoder: Encoder
) -> None:
    author = Author(random.Random(time.time_ns()))
    index = tmp_path / "index"
    build_index([("f", Passage("kept", "tea"))], index, tiny_encoder)
    for _ in range(ROUNDS):
        with running(tiny_checkpoint, index, **VARIABLES) as server:
            check_all_there(server, author)
            writing = threading.Thread(target=author.write_until_killed, args=(server.port,))
            writing.start()
            wait_until(partial(len, author.numbers))
            time.sleep(author.dice.uniform(0, 1.5))
            server.process.kill()
            writing.join()
    with running(tiny_checkpoint, index, **VARIABLES) as server:
        check_all_there(server, author)
        texts = {
            name: ask(server.port, f"/documents/{name}")["document"]["text"] for name in author.sent
        }
    corpus = ({"kept": "tea"} | texts).items()
    build_index([("f", Passage(*each)) for each in corpus], tmp_path / "fresh", tiny_encoder)
    assert files_of(index) == files_of(tmp_path / "fresh")
