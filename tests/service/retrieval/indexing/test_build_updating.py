import itertools
import json
import random
from functools import partial
from pathlib import Path
from unicodedata import normalize

import pytest

from service.retrieval.corpus.chunks.chunking import Chunking
from service.retrieval.corpus.reader import Passage
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.encoder.loader import load_encoder
from service.retrieval.errors import EncoderMismatchError, GenerationError, PassageError
from service.retrieval.generation.generation import current_name, open_current
from service.retrieval.generation.history import UNFINISHED
from service.retrieval.indexing.build import (
    build_index,
    update_index,
)
from tests.conftest import flip_bit
from tests.support.builds import (
    CUT,
    MANY_WORDS,
    Origins,
    corpus,
    files_of,
    live_directory,
    write_manifest,
)

FACTORIES = ["Flat", "IVF2,SQ8", "HNSW8"]


def changed(passages: Origins) -> Origins:
    """Remove, add and change some passages, rename one, swap the texts of two; shuffle."""
    kept = [passage for _, passage in passages[10:]]
    first, second, third, *rest = kept
    result = [
        Passage(first.passage_id, second.text, metadata={"page": 1}),
        Passage(second.passage_id, first.text),
        Passage("renamed", third.text),
        Passage("0000", "wholly new"),
        Passage("9999", "new at the end, and rather a long one " * 2),
        *(Passage(each.passage_id, each.text + " changed") for each in rest[:7]),
        *rest[7:],
    ]
    random.Random(0).shuffle(result)
    return [("g", passage) for passage in result]


@pytest.mark.parametrize("factory", FACTORIES)
def test_an_update_has_the_bytes_of_a_fresh_build(
    tmp_path: Path, tiny_encoder: Encoder, factory: str
) -> None:
    old = corpus(1, most_words=MANY_WORDS)
    build_index(old, tmp_path / "updated", tiny_encoder, factory=factory, chunking=CUT)
    new = changed(old)
    build_index(new, tmp_path / "fresh", tiny_encoder, factory=factory, chunking=CUT)

    report = update_index(new, tmp_path / "updated", tiny_encoder)

    assert report.counts.num_truncated > 9
    assert report.counts.num_encoded == 9
    assert report.counts.num_reused == report.counts.num_passages - 9
    assert files_of(tmp_path / "updated") == files_of(tmp_path / "fresh")
    assert current_name(tmp_path / "updated") == current_name(tmp_path / "fresh")


def test_any_chain_of_updates_has_the_bytes_of_a_fresh_build(
    tmp_path: Path, tiny_encoder: Encoder
) -> None:
    build_index(corpus(0), tmp_path / "chain", tiny_encoder)

    for seed, count in itertools.product((0, 1), (1, 40)):
        passages = corpus(seed, count, MANY_WORDS)
        update_index(passages, tmp_path / "chain", tiny_encoder)
        build_index(passages, tmp_path / "fresh", tiny_encoder)
        assert files_of(tmp_path / "chain") == files_of(tmp_path / "fresh")


def test_an_update_without_a_change_encodes_nothing_and_keeps_the_generation(
    tmp_path: Path, tiny_encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    passages = corpus(3, 40)
    before = build_index(passages, tmp_path, tiny_encoder).directory

    report = update_index(passages, tmp_path, tiny_encoder)

    assert report.directory == before
    assert (report.counts.num_reused, report.counts.num_encoded) == (40, 0)


def test_an_update_encodes_texts_again_that_the_encoder_reads_otherwise_than_before(
    tmp_path: Path, tiny_checkpoint: Path, tiny_encoder: Encoder
) -> None:
    texts = ["tea", "a <s> b", "Caf\u00e9", "Cafe\u0301"]
    passages: Origins = [("f", Passage(str(row), text)) for row, text in enumerate(texts)]
    former = load_encoder(str(tiny_checkpoint), device="cpu")
    former.prepare = partial(normalize, "NFC")  # type: ignore[assignment]
    build_index(passages, tmp_path / "updated", former)
    build_index(passages, tmp_path / "fresh", tiny_encoder)

    report = update_index(passages, tmp_path / "updated", tiny_encoder)

    assert report.counts.num_encoded == 1
    assert files_of(tmp_path / "updated") == files_of(tmp_path / "fresh")


def test_new_metadata_alone_encodes_nothing(tmp_path: Path, tiny_encoder: Encoder) -> None:
    build_index([("f", Passage("a", "tea"))], tmp_path, tiny_encoder)

    report = update_index(
        [("f", Passage("a", "tea", metadata={"page": 2}))], tmp_path, tiny_encoder
    )

    assert report.counts.num_encoded == 0
    assert open_current(tmp_path).passages.read([0])[0].metadata == {"page": 2}


def test_a_title_is_part_of_the_text(tmp_path: Path, tiny_encoder: Encoder) -> None:
    build_index([("f", Passage("a", "tea"))], tmp_path, tiny_encoder)

    report = update_index([("f", Passage("a", "tea", "Kenya"))], tmp_path, tiny_encoder)

    assert report.counts.num_encoded == 1


def test_truncated_passages_are_counted_when_they_are_reused(
    tmp_path: Path, tiny_encoder: Encoder
) -> None:
    long = ("f", Passage("a", "~" * 500))
    build_index([long], tmp_path, tiny_encoder, chunking=Chunking.of(64, 0))

    report = update_index([long, ("f", Passage("b", "short"))], tmp_path, tiny_encoder)

    assert report.counts.num_truncated == 1
    assert open_current(tmp_path).manifest.num_truncated == 1


@pytest.mark.parametrize(("old", "new"), list(itertools.permutations(FACTORIES, 2)))
def test_another_factory_reuses_every_embedding(
    tmp_path: Path, tiny_encoder: Encoder, old: str, new: str
) -> None:
    passages = corpus(4, 60)
    build_index(passages, tmp_path / "updated", tiny_encoder, factory=old)
    build_index(passages, tmp_path / "fresh", tiny_encoder, factory=new)

    report = update_index(passages, tmp_path / "updated", tiny_encoder, factory=new)

    assert report.counts.num_encoded == 0
    assert files_of(tmp_path / "updated") == files_of(tmp_path / "fresh")


def test_another_encoder_is_refused_with_both_fingerprints(
    index_copy: Path, tiny_encoder: Encoder, other_encoder: Encoder
) -> None:
    with pytest.raises(EncoderMismatchError) as caught:
        update_index(corpus(0, 3), index_copy, other_encoder)

    assert tiny_encoder.fingerprint[:16] in str(caught.value)
    assert other_encoder.fingerprint[:16] in str(caught.value)


def test_under_another_limit_of_tokens_all_is_encoded(
    tmp_path: Path, tiny_encoder: Encoder, tiny_checkpoint: Path
) -> None:
    passages = corpus(5, 20)
    build_index(passages, tmp_path, tiny_encoder)

    shorter = load_encoder(str(tiny_checkpoint), device="cpu", max_tokens=32)
    report = update_index(passages, tmp_path, shorter, chunking=Chunking.of(32, 0))

    assert (report.counts.num_reused, report.counts.num_encoded) == (0, 20)
    assert open_current(tmp_path).manifest.encoder.max_tokens == 32


def test_without_an_index_there_is_nothing_to_update(tmp_path: Path, tiny_encoder: Encoder) -> None:
    with pytest.raises(GenerationError, match="there is no index in"):
        update_index(corpus(0, 3), tmp_path / "none", tiny_encoder)

    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("name", ["vectors.faiss", "texts.arrow", "passages.arrow"])
def test_a_damaged_generation_is_not_reused(
    index_copy: Path, tiny_encoder: Encoder, name: str
) -> None:
    before = current_name(index_copy)
    flip_bit(index_copy / "generations" / before / name)

    with pytest.raises(GenerationError, match=f"{name} was altered"):
        update_index(corpus(0, 3), index_copy, tiny_encoder)

    assert current_name(index_copy) == before


@pytest.mark.parametrize("name", ["identifiers.u64", "evidence.arrow"])
def test_a_damaged_further_file_is_made_again(
    tmp_path: Path, tiny_encoder: Encoder, name: str
) -> None:
    passages = corpus(5, 6)
    build_index(passages, tmp_path, tiny_encoder, evidence=True)
    whole = files_of(tmp_path)
    flip_bit(live_directory(tmp_path) / name)

    report = update_index(passages, tmp_path, tiny_encoder)

    assert report.counts.num_encoded == 0
    assert files_of(tmp_path) == whole


def test_an_invalid_passage_leaves_the_live_generation(
    index_copy: Path, tiny_encoder: Encoder
) -> None:
    before = current_name(index_copy)

    with pytest.raises(PassageError, match="repeats the id"):
        update_index([*corpus(0, 3), *corpus(0, 1)], index_copy, tiny_encoder)

    assert current_name(index_copy) == before


def test_what_a_stopped_update_encoded_is_kept(
    tmp_path: Path, tiny_encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.retrieval.indexing.encoding.SHARD_PASSAGES", 10)
    build_index(corpus(1, 50), tmp_path, tiny_encoder)
    stopped_at = []

    def stop(stage: str, done: int, total: int | None) -> None:
        if stage == "encode" and done >= 25:
            stopped_at.append((done, total))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        update_index(corpus(2, 50), tmp_path, tiny_encoder, on_progress=stop)
    report = update_index(corpus(2, 50), tmp_path, tiny_encoder)

    assert stopped_at
    assert report.counts.num_encoded == 50 - 20  # two whole shards were there
    assert not (tmp_path / UNFINISHED).exists()
    build_index(corpus(2, 50), tmp_path / "fresh", tiny_encoder)
    assert files_of(tmp_path) == files_of(tmp_path / "fresh")


def test_a_shard_that_a_crash_damaged_is_encoded_again(
    tmp_path: Path, tiny_encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.retrieval.indexing.encoding.SHARD_PASSAGES", 10)

    def stop(stage: str, done: int, total: int | None) -> None:
        if stage == "index":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_index(corpus(1, 30), tmp_path, tiny_encoder, on_progress=stop)
    flip_bit(min((tmp_path / UNFINISHED).iterdir()))

    assert build_index(corpus(1, 30), tmp_path, tiny_encoder).counts.num_encoded == 10


@pytest.mark.parametrize("name", ["max_tokens", "runtime"])
def test_a_manifest_without_what_made_its_embeddings_is_refused_in_words(
    index_copy: Path, tiny_encoder: Encoder, name: str
) -> None:
    """An update ended in a KeyError."""
    manifest = json.loads((live_directory(index_copy) / "manifest.json").read_text())
    del manifest["encoder"][name]
    (index_copy / "CURRENT").write_text(write_manifest(index_copy, manifest).name)

    with pytest.raises(GenerationError) as caught:
        update_index(corpus(0, 3), index_copy, tiny_encoder)

    assert f"manifest.json: `encoder.{name}` is missing" in str(caught.value)
    assert "`clear-service index build`" in str(caught.value)
