"""A service of records that a test chooses, and what it answers to a search."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from service.app import create_app
from service.retrieval.corpus.reader import read_passages
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.indexing.build import build_index
from service.settings.settings import Settings
from tests.conftest import write_passages


@contextmanager
def serving(
    folder: Path, records: Sequence[dict[str, Any]], encoder: Encoder, **build: Any
) -> Iterator[TestClient]:
    """Build an index of records with options of `build_index`, and serve it by the encoder."""
    passages = read_passages(write_passages(folder / "passages.jsonl", records))
    build_index(passages, folder / "index", encoder, **build)
    checkpoint = str(encoder.checkpoint.directory)
    settings = Settings(encoder=checkpoint, index=folder / "index", device="cpu")
    with TestClient(create_app(settings)) as client:
        yield client


def result_of(client: TestClient, **body: Any) -> dict[str, Any]:
    """Return the result of the first query of a search."""
    response = client.post("/search", json=body)
    assert response.status_code == 200, response.text
    return dict(response.json()["results"][0])


def hits_of(client: TestClient, **body: Any) -> list[dict[str, Any]]:
    """Return the hits of the first query of a search."""
    return list(result_of(client, **body)["hits"])
