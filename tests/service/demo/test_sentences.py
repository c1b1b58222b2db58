import logging
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from service.demo.factbook import factbook_passages
from service.demo.sentences import SENTENCES, sentences_of, write_sentences
from service.demo.vectors import open_published, write_vectors
from service.retrieval.corpus.reader import Passage
from service.retrieval.encoder.bulk import encode_passages
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.encoder.loader import load_encoder
from service.retrieval.evidence.table import quantized
from service.retrieval.generation.generation import open_current
from service.retrieval.indexing.build import build_index
from service.retrieval.searcher import Searcher
from tests.conftest import cut_short

PASSAGES = [
    Passage(
        f"{name}.1",
        f"{name} is a country of tea and harps. Its capital has a warm coast; note: {name}.",
        name,
    )
    for name in ("Kenya", "Peru", "Nepal")
]
CORPUS = [("corpus", passage) for passage in PASSAGES]


@pytest.fixture(autouse=True)
def no_least_lead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Show evidence however little it leads: the tiny encoder's cosines are close together."""
    monkeypatch.setattr("service.retrieval.evidence.table.LEAST_LEAD", 0.0)


@pytest.fixture
def files(tmp_path: Path, tiny_encoder: Encoder) -> tuple[Path, Path]:
    vectors, sentences = tmp_path / "vectors.safetensors", tmp_path / "sentences.safetensors"
    write_vectors(PASSAGES, tiny_encoder, vectors)
    write_sentences(PASSAGES, tiny_encoder, sentences)
    return vectors, sentences


def test_an_index_of_published_sentences_has_the_evidence_of_an_encoded_one(
    tmp_path: Path, files: tuple[Path, Path], tiny_encoder: Encoder
) -> None:
    published = open_published(PASSAGES, tiny_encoder, *files)
    assert published is not None and published.has_sentences
    for name, source in (("published", published), ("encoded", None)):
        build_index(CORPUS, tmp_path / name, tiny_encoder, evidence=True, shard_encoder=source)

    ours, theirs = (
        Searcher(tiny_encoder, open_current(tmp_path / name)).search(["tea"], 3, evidence=True)[0]
        for name in ("published", "encoded")
    )

    for hit, other in zip(ours, theirs, strict=True):
        assert hit.evidence is not None and other.evidence is not None
        assert hit.evidence.score == pytest.approx(other.evidence.score, abs=1e-3)


@pytest.mark.parametrize("damage", [cut_short, Path.unlink])
def test_without_the_file_the_demo_has_its_vectors_and_no_evidence(
    files: tuple[Path, Path],
    tiny_encoder: Encoder,
    damage: object,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert callable(damage)
    damage(files[1])

    with caplog.at_level(logging.WARNING):
        published = open_published(PASSAGES, tiny_encoder, *files)

    assert published is not None and not published.has_sentences
    assert f"{files[1]} cannot be read" in caplog.text


def test_sentences_of_another_encoder_or_corpus_are_not_used(
    files: tuple[Path, Path], tiny_encoder: Encoder, other_encoder: Encoder
) -> None:
    write_sentences(PASSAGES, other_encoder, files[1])
    published = open_published(PASSAGES, tiny_encoder, *files)
    assert published is not None and not published.has_sentences

    write_sentences(PASSAGES[1:], tiny_encoder, files[1])
    published = open_published(PASSAGES, tiny_encoder, *files)
    assert published is not None and not published.has_sentences


def test_each_sentence_is_published_once() -> None:
    assert len(sentences_of([*PASSAGES, *PASSAGES])) == 2 * len(PASSAGES)


def test_the_published_sentences_take_less_than_eight_megabytes() -> None:
    with safe_open(SENTENCES, "numpy") as file:
        assert file.get_slice("vectors").get_dtype() == "I8"
    assert SENTENCES.stat().st_size < 8_000_000


@pytest.mark.slow
def test_the_published_sentences_are_those_of_the_bundled_encoder() -> None:
    encoder = load_encoder("bundled-base", device="cpu")
    texts = sentences_of([passage for _, passage in factbook_passages()])
    with safe_open(SENTENCES, "numpy") as file:
        published = file.get_tensor("vectors").reshape(len(texts), -1)

    rows = range(0, len(texts), len(texts) // 24)
    found = quantized(encode_passages(encoder, [texts[row] for row in rows]).embeddings)

    differences = np.abs(published[rows].astype(int) - found.reshape(len(rows), -1))
    assert differences.max() <= 1  # another machine may round otherwise
