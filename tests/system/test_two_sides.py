"""A service whose encoder has two sides, or only the query side, over an existing index."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from time import monotonic

import numpy as np
import pytest
from numpy.typing import NDArray
from starlette.testclient import TestClient

from service.app import create_app
from service.batching.program import Limits
from service.engine.engine import Engine
from service.retrieval.corpus.reader import read_passages
from service.retrieval.encoder.batches import PaddedBatch, Role
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.encoder.loader import load_encoder
from service.retrieval.errors import EncoderMismatchError, GenerationError
from service.retrieval.generation.generation import Generation, open_current
from service.retrieval.generation.manifest import Canary
from service.retrieval.indexing.build import build_index
from service.retrieval.searcher import Searcher
from service.settings.settings import Settings
from service.telemetry.metrics import Metrics
from tests.conftest import make_adapter, make_checkpoint

QUERIES = ["capital of Kenya", "chai inakua wapi?", "Was kocht auf einem Berg?"]


@pytest.fixture(scope="module")
def two_sided(tuned_checkpoint: Path, tiny_index: Path) -> Iterator[TestClient]:
    """Serve the tuned encoder over the index that the base encoder embedded."""
    settings = Settings(encoder=str(tuned_checkpoint), index=tiny_index, device="cpu")
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        yield client


def encode(client: TestClient, role: str) -> NDArray[np.float32]:
    answer = client.post("/encode", json={"texts": QUERIES, "role": role})
    return np.array(answer.json()["embeddings"], dtype=np.float32)


def test_an_index_of_the_base_is_searched_by_the_tuned_side(
    two_sided: TestClient, tuned_encoder: Encoder, tiny_index: Path
) -> None:
    answer = two_sided.post("/search", json={"queries": QUERIES, "top_k": 12}).json()

    searcher = Searcher(tuned_encoder, open_current(tiny_index))
    for result, hits in zip(answer["results"], searcher.search(QUERIES, 12), strict=True):
        assert [hit["passage_id"] for hit in result["hits"]] == [
            hit.passage.passage_id for hit in hits
        ]
        np.testing.assert_allclose(
            [hit["score"] for hit in result["hits"]], [hit.score for hit in hits], atol=1e-5
        )


@pytest.mark.parametrize("role", ["query", "passage"])
def test_encode_uses_the_side_of_its_role(
    two_sided: TestClient, tuned_encoder: Encoder, tiny_encoder: Encoder, role: Role
) -> None:
    of_role = tuned_encoder if role == "query" else tiny_encoder

    expected = of_role.encode(QUERIES, role).embeddings

    np.testing.assert_allclose(encode(two_sided, role), expected, atol=1e-5)


def test_info_and_metrics_show_both_fingerprints(
    two_sided: TestClient, tuned_encoder: Encoder, tiny_encoder: Encoder
) -> None:
    facts = two_sided.get("/info").json()["encoder"]

    assert facts["fingerprint"] == tuned_encoder.fingerprint
    assert facts["passage_fingerprint"] == tiny_encoder.fingerprint
    assert facts["has_two_sides"] is True
    (line,) = (
        line
        for line in two_sided.get("/metrics").text.splitlines()
        if line.startswith("clear_encoder_info{")
    )
    assert f'passage_fingerprint="{tiny_encoder.fingerprint[:16]}"' in line
    assert f',fingerprint="{tuned_encoder.fingerprint[:16]}"' in line


def test_a_batch_holds_texts_of_one_side(
    tuned_checkpoint: Path, tiny_index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = load_encoder(str(tuned_checkpoint), device="cpu")
    batches: list[PaddedBatch] = []
    embed = encoder.embed
    monkeypatch.setattr(encoder, "embed", lambda batch: batches.append(batch) or embed(batch))
    searcher = Searcher(encoder, open_current(tiny_index))
    engine = Engine(searcher, Metrics(), Limits(2048, 2048, 65_536, 0.25), 0)
    roles: list[Role] = ["query", "passage"] * 10

    async def play() -> list[NDArray[np.float32]]:
        asked = (engine.encode(["Lima"], role, monotonic() + 10) for role in roles)
        return [answer.embeddings for answer in await asyncio.gather(*asked)]

    found = asyncio.run(play())
    engine.close()

    for role, embedding in zip(roles, found, strict=True):
        expected = encoder.encode(["Lima"], role).embeddings
        np.testing.assert_allclose(embedding, expected, atol=1e-5)
    served = batches[:-20]  # the last twenty are the expected ones
    assert sum(len(batch.token_ids) for batch in served) == 20
    assert any(len(batch.token_ids) > 1 for batch in served)


def test_building_embeds_by_the_passage_side(
    tmp_path: Path, tuned_encoder: Encoder, tiny_encoder: Encoder, passages_file: Path
) -> None:
    build_index(read_passages(passages_file), tmp_path / "index", tuned_encoder)

    generation = open_current(tmp_path / "index")
    built_by = generation.manifest.encoder
    assert built_by.fingerprint == tiny_encoder.fingerprint
    assert built_by.query_fingerprint == tuned_encoder.fingerprint
    Searcher(tuned_encoder, generation).check_canaries()
    Searcher(tiny_encoder, generation)


def test_an_index_of_another_passage_side_is_refused_with_both_fingerprints(
    tmp_path: Path, tiny_index: Path
) -> None:
    other = make_checkpoint(tmp_path / "other", seed=1)
    base = load_encoder(str(other), device="cpu")
    tuned = load_encoder(str(make_adapter(other, base)), device="cpu")
    generation = open_current(tiny_index)

    with pytest.raises(EncoderMismatchError) as caught:
        Searcher(tuned, generation)

    for fingerprint in (generation.manifest.encoder.fingerprint, base.fingerprint):
        assert fingerprint[:16] in str(caught.value)
    assert "set CLEAR_ENCODER to" in str(caught.value)
    assert "build again" in str(caught.value)


def test_another_query_side_may_rank_a_few_canaries_differently_but_not_most(
    tuned_encoder: Encoder, tiny_encoder: Encoder, tiny_index: Path
) -> None:
    generation = open_current(tiny_index)
    queries = [canary.query for canary in generation.manifest.canaries]
    found = [
        hits[0].passage.passage_id
        for hits in Searcher(tuned_encoder, generation).search(queries, 1, by_identifiers=False)
    ]

    def with_misses(num_misses: int) -> Generation:
        """Let the first canaries expect a passage that is not in the index."""
        expected = ["none of them"] * num_misses + found[num_misses:]
        pairs = zip(queries, expected, strict=True)
        canaries = [Canary(query=query, passage_ids=[each]) for query, each in pairs]
        changed = generation.manifest.model_copy(update={"canaries": canaries})
        return replace(generation, manifest=changed)

    Searcher(tuned_encoder, with_misses(4)).check_canaries()
    with pytest.raises(GenerationError, match="canary query 1: none of them expected"):
        Searcher(tiny_encoder, with_misses(4)).check_canaries()
    with pytest.raises(GenerationError, match="canary query 1: none of them expected"):
        Searcher(tuned_encoder, with_misses(5)).check_canaries()


@pytest.fixture(scope="module")
def query_only(
    tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Encoder, tiny_index: Path
) -> Iterator[TestClient]:
    """Serve a tuned query encoder without a passage side over the base encoder's index."""
    folder = make_checkpoint(
        tmp_path_factory.mktemp("bridge") / "query", passage_fingerprint=tiny_encoder.fingerprint
    )
    weights = folder / "config.json"
    weights.write_text(weights.read_text() + "\n")  # another file: another fingerprint
    (folder / "manifest.json").unlink()
    make_manifest(folder, tiny_encoder)
    settings = Settings(encoder=str(folder), index=tiny_index, device="cpu")
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        yield client


def make_manifest(folder: Path, base: Encoder) -> None:
    from service.retrieval.checkpoint.manifest import write_manifest

    write_manifest(folder, name="query-only", passage_fingerprint=base.fingerprint)


def test_a_query_encoder_alone_serves_the_index_it_was_trained_for(query_only: TestClient) -> None:
    answer = query_only.post("/search", json={"query": QUERIES[0], "top_k": 3})

    assert answer.status_code == 200
    assert len(answer.json()["results"][0]["hits"]) == 3
    assert query_only.get("/info").json()["encoder"]["has_two_sides"] is False
    assert encode(query_only, "query").shape == (3, 32)


def test_a_query_encoder_alone_refuses_passages_and_names_the_field(query_only: TestClient) -> None:
    answer = query_only.post("/encode", json={"texts": "Lima", "role": "passage"})

    assert answer.status_code == 422
    assert answer.json()["field"] == "role"


def test_an_index_cannot_be_built_by_a_query_encoder_alone(
    tmp_path: Path, passages_file: Path
) -> None:
    folder = make_checkpoint(tmp_path / "bridge", passage_fingerprint="f" * 64)

    with pytest.raises(EncoderMismatchError, match="encodes queries alone"):
        build_index(
            read_passages(passages_file),
            tmp_path / "index",
            load_encoder(str(folder), device="cpu"),
        )

    assert not (tmp_path / "index" / "CURRENT").exists()
