"""Documents that are split into chunks: built, changed, deleted, updated, read back."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from service.retrieval.corpus.changes import Change
from service.retrieval.corpus.chunks.chunking import Chunking
from service.retrieval.corpus.fields import FieldKind
from service.retrieval.corpus.reader import Passage
from service.retrieval.corpus.selection import Selections
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.encoder.loader import load_encoder
from service.retrieval.errors import GenerationError, PassageError
from service.retrieval.generation.generation import open_current
from service.retrieval.generation.manifest import chunking_of
from service.retrieval.indexing.apply import apply_changes
from service.retrieval.indexing.build import build_index, update_index
from tests.conftest import make_checkpoint
from tests.support.builds import files_of

pytestmark = pytest.mark.usefixtures("one_thread")
Documents = dict[str, Passage]
FIELDS: dict[str, FieldKind] = {"kind": "string"}
WORDS = ["tea.", "Nairobi", "mountain", "1707.", "café", "harp?\n\n", "日本。", "coast"]
IDS = ["a", "a#", "a#b", "b", "é", "日本", "Z", "0", "~"]
SPLIT = Chunking.of(64, 24, 8)
LATE = Chunking.of(64, 24, 8, is_late=True)


def document(name: str, num_words: int, seed: int = 0) -> Passage:
    dice = random.Random(f"{name}{seed}")
    text = " ".join(dice.choices(WORDS, k=num_words))
    return Passage(name, text, dice.choice(["", "A"]), {"kind": dice.choice(WORDS[:3])})


def origins(documents: Documents) -> list[tuple[str, Passage]]:
    return [("f", each) for each in documents.values()]


def passages_of(index: Path) -> list[Passage]:
    table = open_current(index).passages
    return table.read(range(len(table)))


def random_document(dice: random.Random) -> Passage:
    return document(dice.choice(IDS), dice.choice([1, 5, 30, 60]), dice.randrange(10**6))


@pytest.fixture(scope="module")
def kept() -> Documents:
    return {name: document(name, size) for name, size in zip(IDS, [2, 40, 90] * 3, strict=True)}


def test_a_document_is_read_back_as_it_was(
    tmp_path: Path, tiny_encoder: Encoder, kept: Documents
) -> None:
    build_index(origins(kept), tmp_path, tiny_encoder, fields=FIELDS, chunking=SPLIT)

    table = open_current(tmp_path).passages

    assert {name: table.document(name) for name in IDS} == kept
    assert table.document("a#1") is None
    assert (len(table) > len(kept), table.num_documents) == (True, len(kept))


def test_the_manifest_says_how_documents_were_split(
    tmp_path: Path, tiny_encoder: Encoder, kept: Documents
) -> None:
    build_index(origins(kept), tmp_path, tiny_encoder, chunking=SPLIT)

    manifest = open_current(tmp_path).manifest

    assert manifest.chunking is not None
    found = manifest.chunking.model_dump(exclude_none=True)
    assert found == {"tokens": 24, "overlap": 8, "longest": 24}
    assert manifest.num_documents == len(kept)


def test_an_index_without_a_long_document_has_the_bytes_of_one_that_splits_none(
    tmp_path: Path, tiny_encoder: Encoder
) -> None:
    short = origins({name: document(name, 3) for name in IDS})

    build_index(short, tmp_path / "a", tiny_encoder)
    build_index(short, tmp_path / "b", tiny_encoder, chunking=Chunking.of(64, 0))

    ours, theirs = files_of(tmp_path / "a"), files_of(tmp_path / "b")
    assert b"chunking" not in ours.pop("manifest.json")
    assert b'"chunking"' in theirs.pop("manifest.json")
    assert ours == theirs


def test_a_facet_counts_a_document_once(
    tmp_path: Path, tiny_encoder: Encoder, kept: Documents
) -> None:
    build_index(origins(kept), tmp_path, tiny_encoder, fields=FIELDS, chunking=SPLIT)

    facet = Selections(open_current(tmp_path).passages).facets(["kind"], None)["kind"]

    kinds = [each.metadata["kind"] for each in kept.values()]
    assert dict(facet.values) == {kind: kinds.count(kind) for kind in kinds}


@pytest.mark.parametrize(
    "change",
    [
        lambda old: Change("a#b"),
        lambda old: Change("a#b", document("a#b", 2)),
        lambda old: Change("a", document("a", 80)),
        lambda old: Change("a#", old["a#"]),
        lambda old: Change("new", document("new", 50)),
    ],
)
def test_a_change_of_a_document_changes_all_its_chunks(
    tmp_path: Path,
    tiny_encoder: Encoder,
    kept: Documents,
    change: Callable[[Documents], Change],
) -> None:
    made = change(kept)
    after = {name: each for name, each in kept.items() if name != made.document_id}
    if made.document:
        after[made.document_id] = made.document
    build_index(origins(kept), tmp_path / "a", tiny_encoder, fields=FIELDS, chunking=SPLIT)
    build_index(origins(after), tmp_path / "b", tiny_encoder, fields=FIELDS, chunking=SPLIT)

    apply_changes([("c", made)], tmp_path / "a", tiny_encoder)

    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("chunking", [SPLIT, Chunking.of(64), LATE])
def test_any_changes_give_the_bytes_of_a_fresh_build(
    tmp_path: Path, tiny_encoder: Encoder, seed: int, chunking: Chunking
) -> None:
    dice = random.Random(seed)
    live: Documents = {"a": document("a", 3)}
    build_index(origins(live), tmp_path / "a", tiny_encoder, fields=FIELDS, chunking=chunking)
    for number in range(5):
        changes = []
        for _ in range(dice.randint(1, 6)):
            found = random_document(dice)
            live.pop(found.passage_id, None)
            put = dice.random() < 0.7
            changes.append(("c", Change(found.passage_id, found if put else None)))
            if put:
                live[found.passage_id] = found
        if not live:
            continue
        apply_changes(changes, tmp_path / "a", tiny_encoder)
        fresh = tmp_path / f"fresh{number}"
        build_index(origins(live), fresh, tiny_encoder, fields=FIELDS, chunking=chunking)
        assert files_of(tmp_path / "a") == files_of(fresh)


def test_an_update_reuses_the_chunks_that_did_not_change(
    tmp_path: Path, tiny_encoder: Encoder, kept: Documents
) -> None:
    build_index(origins(kept), tmp_path / "a", tiny_encoder, chunking=SPLIT)
    after = {**kept, "a": Passage("a", "wholly new")}
    build_index(origins(after), tmp_path / "b", tiny_encoder, chunking=SPLIT)

    report = update_index(origins(after), tmp_path / "a", tiny_encoder)

    assert report.counts.num_encoded == 1
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


def test_under_another_limit_documents_are_split_by_the_default_of_that_limit(
    tmp_path: Path, tiny_encoder: Encoder, kept: Documents
) -> None:
    build_index(origins(kept), tmp_path, tiny_encoder)
    manifest = open_current(tmp_path).manifest

    assert manifest.chunking is not None
    assert chunking_of(manifest, 64) == Chunking.of(64)
    assert chunking_of(manifest, 512) == Chunking.of(512)


def test_late_chunks_are_built_updated_and_applied_as_the_manifest_says(
    tmp_path: Path, tiny_encoder: Encoder, kept: Documents
) -> None:
    after = {**kept, "new": document("new", 50), "a": document("a", 40)}
    build_index(origins(kept), tmp_path / "updated", tiny_encoder, chunking=LATE)
    build_index(origins(kept), tmp_path / "applied", tiny_encoder, chunking=LATE)
    build_index(origins(after), tmp_path / "fresh", tiny_encoder, chunking=LATE)

    report = update_index(origins(after), tmp_path / "updated", tiny_encoder)
    changes = [("c", Change(name, after[name])) for name in ("new", "a")]
    apply_changes(changes, tmp_path / "applied", tiny_encoder)

    manifest = open_current(tmp_path / "fresh").manifest
    assert chunking_of(manifest, 64) == LATE
    assert chunking_of(manifest, 32) == Chunking(24, 8, 24, 32)
    assert 0 < report.counts.num_encoded < report.counts.num_reused
    assert files_of(tmp_path / "updated") == files_of(tmp_path / "fresh")
    assert files_of(tmp_path / "applied") == files_of(tmp_path / "fresh")


def test_an_update_embeds_chunks_late_and_alone_again_but_no_whole_document(
    tmp_path: Path, tiny_encoder: Encoder, kept: Documents
) -> None:
    build_index(origins(kept), tmp_path / "a", tiny_encoder, chunking=SPLIT)
    build_index(origins(kept), tmp_path / "late", tiny_encoder, chunking=LATE)
    num_whole = sum(each.chunk is None for each in passages_of(tmp_path / "a"))

    report = update_index(origins(kept), tmp_path / "a", tiny_encoder, chunking=LATE)

    assert report.counts.num_reused == num_whole
    assert files_of(tmp_path / "a") == files_of(tmp_path / "late")
    update_index(origins(kept), tmp_path / "late", tiny_encoder, chunking=SPLIT)
    build_index(origins(kept), tmp_path / "a", tiny_encoder, chunking=SPLIT)
    assert files_of(tmp_path / "a") == files_of(tmp_path / "late")


def test_late_chunks_need_an_encoder_that_pools_the_mean(tmp_path: Path, kept: Documents) -> None:
    encoder = load_encoder(str(make_checkpoint(tmp_path / "cls", pooling="cls")), device="cpu")

    with pytest.raises(GenerationError, match="--late-chunking needs .* and .* pools by cls"):
        build_index(origins(kept), tmp_path / "index", encoder, chunking=LATE)


@pytest.mark.parametrize("order", [1, -1])
def test_an_id_that_a_chunk_has_is_refused(
    tmp_path: Path, tiny_encoder: Encoder, order: int
) -> None:
    first, second = [("f:1", document("a", 90)), ("f:2", Passage("a#1", "tea"))][::order]

    with pytest.raises(PassageError, match=r"^f:[12]: the id 'a#1' (of one.*)?is that of"):
        build_index([first, second], tmp_path / "a", tiny_encoder)

    build_index([first], tmp_path / "b", tiny_encoder)
    with pytest.raises(PassageError, match=r"^c: the id 'a#1' is that of a chunk"):
        apply_changes(
            [("c", Change(second[1].passage_id, second[1]))], tmp_path / "b", tiny_encoder
        )


def test_vectors_are_those_of_the_chunks_as_passages(
    tmp_path: Path, tiny_encoder: Encoder, kept: Documents
) -> None:
    build_index(origins(kept), tmp_path, tiny_encoder, chunking=SPLIT)

    generation = open_current(tmp_path)
    passages = generation.passages.read(range(len(generation.passages)))
    vectors = tiny_encoder.encode([each.encoder_text for each in passages], "passage").embeddings
    rankings = generation.vectors.search(vectors, 1)

    scores = np.array([ranking.scores[0] for ranking in rankings])
    np.testing.assert_allclose(scores, 1, atol=1e-5)
