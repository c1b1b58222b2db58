"""Changes of an index that Milvus searches: each new generation is pushed before it is live."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.components import index_options_of
from service.engine.page import Page
from service.retrieval.corpus.changes import Change
from service.retrieval.corpus.chunks.chunking import Chunking
from service.retrieval.corpus.fields import FieldKind
from service.retrieval.corpus.filters import parse_filter
from service.retrieval.corpus.reader import Passage
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.generation.generation import open_current
from service.retrieval.hits import Hit
from service.retrieval.index.options import IndexOptions, MilvusOptions
from service.retrieval.indexing.apply import apply_changes
from service.retrieval.indexing.build import build_index
from service.retrieval.indexing.push import push_if_configured
from service.retrieval.progress import ignore_progress
from service.retrieval.searcher import Searcher
from service.settings.settings import Settings
from tests.support.relevance import calibrate

FIELDS: dict[str, FieldKind] = {"page": "number"}


def check_changes(uri: str, prefix: str, index: Path, encoder: Encoder) -> None:
    """Build, change and search by Milvus, and compare with an exact search of the files."""
    options = IndexOptions(
        backend="milvus", milvus=MilvusOptions(uri, index_type="FLAT", prefix=prefix)
    )
    push = partial(push_if_configured, options=options, on_progress=ignore_progress)
    passages = [
        ("f", Passage(f"{row:02}", f"tea {row}", metadata={"page": row % 3})) for row in range(30)
    ]
    build_index(passages, index, encoder, fields=FIELDS, before_publish=push)
    changes = [
        ("c", Change("05", Passage("05", "harp of Nairobi AA-1720", metadata={"page": 1}))),
        ("c", Change("new", Passage("new", "a mountain", metadata={"page": 1}))),
        ("c", Change("07")),
    ]

    apply_changes(changes, index, encoder, before_publish=push)
    calibrate(index, encoder.fingerprint)

    by_milvus = Searcher(encoder, open_current(index, options))
    exact = Searcher(encoder, open_current(index))
    by_milvus.check_canaries()
    for searcher in (by_milvus, exact):
        searcher.prepare_relevance()
    for chosen in (None, parse_filter({"page": 1})):
        for query in ("harp of Nairobi", "a mountain", "tea of aa1720"):
            found, expected = (
                [
                    (hit.passage.passage_id, round(hit.score, 4), *judged(hit))
                    for hit in each.search([query], 30, filter=chosen)[0]
                ]
                for each in (by_milvus, exact)
            )
            assert sorted(found) == sorted(expected)
            assert "07" not in {each[0] for each in found}
            assert [each[0] for each in found if each[3]] == ["05"] * (query != "a mountain")


WAIT_MS = 60_000  # a machine that does other work needs longer than the default


def judged(hit: Hit) -> tuple[float, tuple[str, ...]]:
    """Return a hit's relevance, and the identifiers of the query that it holds."""
    assert hit.relevance is not None
    return round(hit.relevance, 3), hit.matched


def check_folding(uri: str, prefix: str, index: Path, encoder: Encoder) -> None:
    """Fold chunks and duplicates that Milvus finds, and compare with an exact search."""
    options = IndexOptions(
        backend="milvus", milvus=MilvusOptions(uri, index_type="FLAT", prefix=prefix)
    )
    texts = ["tea " * 30 + "harp. ", "Nairobi is the capital. " * 9, "short"]
    passages = [("f", Passage(f"{row:02}", texts[row % 3])) for row in range(12)]
    build_index(
        passages,
        index,
        encoder,
        chunking=Chunking.of(64, 24),
        deduplicate=True,
        before_publish=partial(push_if_configured, options=options, on_progress=ignore_progress),
    )
    for fold, by_document in ((False, True), (True, False), (True, True)):
        page, found = Page(20, fold=fold, by_document=by_document), []
        for generation in (open_current(index, options), open_current(index)):
            searcher = Searcher(encoder, generation)
            resolved, _, _ = page.resolve(["tea"], searcher)
            embeddings = encoder.encode(["tea"], "query").embeddings
            [ranking] = searcher.rank(embeddings, 200)
            hits = resolved.left(searcher.hits(ranking))
            found.append({(hit.passage.text, hit.duplicates, hit.more_chunks) for hit in hits})
        assert found[0] == found[1]
        assert sum(1 + (hit.duplicates or 0) for hit in hits) >= len(passages)


def hits_of(settings: Settings, changes: Mapping[str, Any], **search: Any) -> list[Any]:
    """Change documents by a service, if some are given, and search it."""
    with TestClient(create_app(settings)) as client:
        if changes:
            change = client.post(
                "/documents", json={**changes, "wait": True, "timeout_ms": WAIT_MS}
            ).json()
            assert change["state"] == "applied", change
        hits = client.post("/search", json={"query": "tea", "top_k": 20} | search).json()
    return [
        (hit["passage_id"], hit.get("duplicates"), hit.get("more_chunks"), round(hit["score"], 3))
        for hit in hits["results"][0]["hits"]
    ]


def check_service(uri: str, index: Path, checkpoint: Path, encoder: Encoder) -> None:
    """Change documents over HTTP and fold hits, and compare with a service without Milvus."""
    files = Settings(encoder=str(checkpoint), index=index, device="cpu", documents="open")
    changed = {"index_backend": "milvus", "milvus_uri": uri, "milvus_index_type": "FLAT"}
    milvus = files.model_copy(update=changed | {"milvus_prefix": "served", "apply_seconds": 0.01})
    push = partial(
        push_if_configured, options=index_options_of(milvus), on_progress=ignore_progress
    )
    passages = [("f", Passage(f"{row:02}", f"harp {row}")) for row in range(9)]
    build_index(passages, index, encoder, before_publish=push)
    long = " ".join(f"Sentence {number} speaks of salt." for number in range(60))
    copies = [{"id": f"copy{number}", "text": "tea and salt of Kenya"} for number in range(3)]
    changes = {"put": [{"id": "long", "text": long}, *copies], "delete": ["03"]}

    for body in ({}, {"fold": "duplicates"}, {"group": "chunk"}, {"more_like": "copy1"}):
        search = {"query": None, **body} if "more_like" in body else body
        found = hits_of(milvus, changes, **search)
        changes = {}

        assert sorted(found) == sorted(hits_of(files, {}, **search)), body
        assert (2 in [hit[1] for hit in found]) == ("fold" in body)
        assert any(hit[2] for hit in found) == ("group" not in body)


@pytest.mark.slow
def test_changes_are_searched_and_folded_by_milvus_lite(
    tmp_path: Path, milvus_uri: str, tiny_encoder: Encoder
) -> None:
    check_changes(milvus_uri, "changes", tmp_path / "a", tiny_encoder)
    check_folding(milvus_uri, "folding", tmp_path / "b", tiny_encoder)


@pytest.mark.slow
def test_changes_over_http_are_folded_by_milvus_lite(
    tmp_path: Path, milvus_uri: str, tiny_checkpoint: Path, tiny_encoder: Encoder
) -> None:
    check_service(milvus_uri, tmp_path, tiny_checkpoint, tiny_encoder)


@pytest.mark.slow
def test_changes_are_searched_and_folded_by_the_standalone_milvus(
    tmp_path: Path, milvus_server_uri: str, tiny_checkpoint: Path, tiny_encoder: Encoder
) -> None:
    check_changes(milvus_server_uri, "changes", tmp_path / "a", tiny_encoder)
    check_folding(milvus_server_uri, "folding", tmp_path / "b", tiny_encoder)
    check_service(milvus_server_uri, tmp_path / "c", tiny_checkpoint, tiny_encoder)
