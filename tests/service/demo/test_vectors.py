import logging
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from service.demo.factbook import factbook_passages
from service.demo.vectors import RUNTIME, VECTORS, open_published, write_vectors
from service.retrieval.corpus.reader import Passage
from service.retrieval.encoder.batches import Role
from service.retrieval.encoder.bulk import encode_passages
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.encoder.loader import load_encoder
from service.retrieval.encoder.runtime.on_demand import OnDemandRuntime
from service.retrieval.encoder.runtime.runtime import Runtime
from service.retrieval.generation.generation import open_current
from service.retrieval.indexing.build import build_index, update_index
from service.retrieval.searcher import Searcher
from tests.conftest import PASSAGES, cut_short, make_adapter

CORPUS = [
    (f"corpus:{number}", Passage(str(record["id"]), str(record["text"]), str(record["title"])))
    for number, record in enumerate(PASSAGES)
]
ONLY_PASSAGES = [passage for _, passage in CORPUS]


@pytest.fixture
def vectors(tmp_path: Path, tiny_encoder: Encoder) -> Path:
    path = tmp_path / "vectors.safetensors"
    write_vectors(ONLY_PASSAGES, tiny_encoder, path)
    return path


def test_an_index_of_published_vectors_finds_what_an_encoded_one_finds(
    tmp_path: Path, vectors: Path, tiny_encoder: Encoder
) -> None:
    published = open_published(ONLY_PASSAGES, tiny_encoder, vectors)
    queries = [passage.text for passage in ONLY_PASSAGES]

    report = build_index(CORPUS, tmp_path / "published", tiny_encoder, shard_encoder=published)
    build_index(CORPUS, tmp_path / "encoded", tiny_encoder)

    found, expected = (
        Searcher(tiny_encoder, open_current(tmp_path / name)).search(queries, 3)
        for name in ("published", "encoded")
    )
    assert [[hit.passage.passage_id for hit in hits] for hits in found] == [
        [hit.passage.passage_id for hit in hits] for hits in expected
    ]
    assert open_current(tmp_path / "published").manifest.encoder.runtime == RUNTIME
    assert report.counts.num_passages == len(CORPUS)


def test_an_update_does_not_mix_published_vectors_with_its_own(
    tmp_path: Path, vectors: Path, tiny_encoder: Encoder
) -> None:
    published = open_published(ONLY_PASSAGES, tiny_encoder, vectors)
    build_index(CORPUS, tmp_path / "index", tiny_encoder, shard_encoder=published)

    counts = update_index(CORPUS, tmp_path / "index", tiny_encoder).counts

    assert (counts.num_reused, counts.num_encoded) == (0, len(CORPUS))


def test_vectors_of_another_encoder_are_not_used(vectors: Path, other_encoder: Encoder) -> None:
    assert open_published(ONLY_PASSAGES, other_encoder, vectors) is None


def test_vectors_of_another_token_limit_are_not_used(vectors: Path, tiny_checkpoint: Path) -> None:
    encoder = load_encoder(str(tiny_checkpoint), device="cpu", max_tokens=20)

    assert open_published(ONLY_PASSAGES, encoder, vectors) is None


def test_a_corpus_with_a_text_that_is_not_published_is_encoded(
    vectors: Path, tiny_encoder: Encoder
) -> None:
    changed = [*ONLY_PASSAGES[1:], Passage("kenya.1", "Nairobi was the capital of Kenya.")]

    assert open_published(changed, tiny_encoder, vectors) is None


def test_vectors_that_are_not_found_by_their_own_texts_are_not_used(
    vectors: Path, tiny_encoder: Encoder, caplog: pytest.LogCaptureFixture
) -> None:
    tensors = load_file(vectors)
    tensors["embeddings"] = np.roll(tensors["embeddings"], 1, axis=0)
    save_file(tensors, vectors, _facts(vectors))

    with caplog.at_level(logging.WARNING):
        assert open_published(ONLY_PASSAGES, tiny_encoder, vectors) is None
    assert "of 4 of the demo's passages are not found by their own texts" in caplog.text


def test_published_vectors_need_no_passage_side(
    vectors: Path, tiny_encoder: Encoder, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "adapter"
    tuned = load_encoder(
        str(make_adapter(folder, tiny_encoder, base=str(tiny_checkpoint), scale=0.001)),
        device="cpu",
    )

    def refuse(runtime: Runtime, role: Role) -> Runtime:
        def load() -> Runtime:
            raise AssertionError("the passage side is not needed")

        return OnDemandRuntime(load, runtime) if role == "passage" else runtime

    encoder = tuned.with_runtimes(refuse)
    published = open_published(ONLY_PASSAGES, encoder, vectors)

    assert published is not None
    build_index(CORPUS, tmp_path / "index", encoder, shard_encoder=published)
    assert encoder.has_two_sides


@pytest.mark.parametrize("damage", [cut_short, Path.unlink])
def test_a_damaged_file_of_vectors_is_reported_and_not_used(
    vectors: Path, tiny_encoder: Encoder, damage: object, caplog: pytest.LogCaptureFixture
) -> None:
    assert callable(damage)
    damage(vectors)

    with caplog.at_level(logging.WARNING):
        assert open_published(ONLY_PASSAGES, tiny_encoder, vectors) is None
    assert f"{vectors} cannot be read" in caplog.text


@pytest.mark.slow
def test_the_published_vectors_are_those_of_the_bundled_encoder_and_of_every_passage() -> None:
    encoder = load_encoder("bundled-base", device="cpu")
    passages = [passage for _, passage in factbook_passages()]

    published = open_published(passages, encoder, VECTORS)

    assert published is not None
    sample = [passage.encoder_text for passage in passages[:: len(passages) // 24]]
    expected = published.find(sample)
    assert expected is not None
    found = encode_passages(encoder, sample)
    assert (expected.embeddings * found.embeddings).sum(axis=1).min() > 0.99999
    np.testing.assert_array_equal(expected.is_truncated, found.is_truncated)


def _facts(path: Path) -> dict[str, str]:
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        return dict(file.metadata())
