"""Evidence of a build, of updates and of applied changes."""

import random
from pathlib import Path

import numpy as np
import pytest

from service.retrieval.corpus.changes import Change
from service.retrieval.corpus.chunks.chunking import Chunking
from service.retrieval.corpus.reader import Passage
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.evidence.segments import segment_texts, spans_of
from service.retrieval.generation.generation import Generation, open_current
from service.retrieval.indexing import shards
from service.retrieval.indexing.apply import apply_changes
from service.retrieval.indexing.build import build_index, update_index
from service.retrieval.searcher import Searcher
from tests.support.builds import Origins, files_of

pytestmark = pytest.mark.usefixtures("one_thread")
SENTENCES = [
    "Tea grows on the slopes of the mountain.",
    "The harp has forty-seven strings of gut;",
    "Nairobi is the capital of Kenya since 1963.",
    "note: the coast is warm for all of the year",
    "Café.",
]


@pytest.fixture(autouse=True)
def one_segment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Show the best segment alone, and always: the tiny encoder's cosines are close together."""
    monkeypatch.setattr("service.retrieval.evidence.table.LEAST_LEAD", 0.0)
    monkeypatch.setattr("service.retrieval.evidence.table.NEAR", 0.0)


def passage(number: int, dice: random.Random) -> Passage:
    text = " ".join(dice.choices(SENTENCES, k=dice.randint(1, 5)))
    return Passage(f"{number:03}", text, dice.choice(["", "Title"]))


def corpus(count: int = 40, seed: int = 1) -> dict[str, Passage]:
    dice = random.Random(seed)
    return {f"{number:03}": passage(number, dice) for number in range(count)}


def origins(passages: dict[str, Passage]) -> Origins:
    return [("f", each) for each in passages.values()]


def count_texts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list of the texts that builds encode from now on."""
    found: list[str] = []
    encode = shards.encode_passages
    monkeypatch.setattr(
        shards,
        "encode_passages",
        lambda encoder, texts, on: found.extend(texts) or encode(encoder, texts, on),
    )
    return found


def test_progress_counts_the_passages_whose_segments_are_encoded(
    tiny_encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[int] = []

    def note(stage: str, done: int, total: int | None) -> None:
        if stage == "evidence":
            assert total == 72  # chunks
            found.append(done)

    monkeypatch.setattr("service.retrieval.encoder.bulk.MAX_BATCH_TOKENS", 64)

    build_index(origins(corpus()), tmp_path, tiny_encoder, evidence=True, on_progress=note)

    assert found == sorted(found)
    assert (found[0], found[-1]) == (0, 72)
    assert any(0 < each < 72 for each in found)  # while the only shard is encoded


def opened(index: Path) -> Generation:
    generation = open_current(index)
    assert generation.evidence is not None
    return generation


def test_the_evidence_of_a_hit_is_its_segment_nearest_to_the_query(
    tmp_path: Path, tiny_encoder: Encoder
) -> None:
    build_index(origins(corpus()), tmp_path, tiny_encoder, evidence=True)
    searcher = Searcher(tiny_encoder, opened(tmp_path))
    [query] = tiny_encoder.encode(["Where does tea grow?"], "query").embeddings

    hits = searcher.search(["Where does tea grow?"], 40, evidence=True)[0]

    for hit in hits:
        spans = spans_of(hit.passage.text)
        if len(spans) == 1:
            assert hit.evidence is None
            continue
        texts = segment_texts(hit.passage, spans)
        cosines = tiny_encoder.encode(texts, "passage").embeddings @ query
        assert hit.evidence is not None
        chosen = spans.index((hit.evidence.start, hit.evidence.end))
        assert hit.evidence.score == pytest.approx(cosines.max(), abs=0.01)
        assert cosines[chosen] == pytest.approx(cosines.max(), abs=0.01)


def test_a_chunk_s_evidence_is_within_its_own_text(tmp_path: Path, tiny_encoder: Encoder) -> None:
    document = Passage("long", " ".join(SENTENCES * 20))
    build_index(
        [("f", document)], tmp_path, tiny_encoder, chunking=Chunking.of(128, 128), evidence=True
    )
    searcher = Searcher(tiny_encoder, opened(tmp_path))

    hits = searcher.search(["tea"], 20, evidence=True)[0]

    assert len(hits) > 3
    for hit in hits:
        assert hit.evidence is None or 0 <= hit.evidence.start < hit.evidence.end
        assert hit.evidence is None or hit.evidence.end <= len(hit.passage.text)
    assert any(hit.evidence for hit in hits)


def test_changes_give_the_evidence_of_a_fresh_build_and_encode_only_what_changed(
    tmp_path: Path, tiny_encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    dice = random.Random(2)
    passages = corpus()
    build_index(origins(passages), tmp_path / "changed", tiny_encoder, evidence=True)
    for _ in range(3):
        put = [passage(dice.randint(0, 60), dice) for _ in range(4)]
        [gone] = dice.sample(sorted(set(passages) - {each.passage_id for each in put}), 1)
        changes = [("c", Change(each.passage_id, each)) for each in put]
        texts = count_texts(monkeypatch)
        apply_changes([*changes, ("c", Change(gone))], tmp_path / "changed", tiny_encoder)
        assert len(texts) <= 4 + 4 * 5
        passages = passages | {each.passage_id: each for each in put}
        del passages[gone]
    build_index(origins(passages), tmp_path / "fresh", tiny_encoder, evidence=True)

    assert files_of(tmp_path / "changed") == files_of(tmp_path / "fresh")


def test_an_update_reuses_the_vectors_of_segments_and_keeps_that_there_are_any(
    tmp_path: Path, tiny_encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    passages = corpus()
    build_index(origins(passages), tmp_path / "updated", tiny_encoder, evidence=True)
    changed = passages | {"000": Passage("000", " ".join(SENTENCES))}
    del changed["007"]
    texts = count_texts(monkeypatch)
    update_index(origins(changed), tmp_path / "updated", tiny_encoder)
    assert len(texts) == 1 + 4
    build_index(origins(changed), tmp_path / "fresh", tiny_encoder, evidence=True)

    assert files_of(tmp_path / "updated") == files_of(tmp_path / "fresh")


def test_an_update_adds_evidence_and_takes_it_away(tmp_path: Path, tiny_encoder: Encoder) -> None:
    passages = origins(corpus(12))
    build_index(passages, tmp_path / "index", tiny_encoder)
    without = files_of(tmp_path / "index")
    assert open_current(tmp_path / "index").evidence is None
    update_index(passages, tmp_path / "index", tiny_encoder, evidence=True)
    assert opened(tmp_path / "index").evidence is not None
    update_index(passages, tmp_path / "index", tiny_encoder, evidence=False)

    assert files_of(tmp_path / "index") == without


def test_hits_of_an_index_without_evidence_have_none(tmp_path: Path, tiny_encoder: Encoder) -> None:
    build_index(origins(corpus(12)), tmp_path, tiny_encoder)
    searcher = Searcher(tiny_encoder, open_current(tmp_path))

    assert {hit.evidence for hit in searcher.search(["tea"], 12, evidence=True)[0]} == {None}


def test_an_interrupted_build_keeps_the_shards_of_segments(
    tmp_path: Path, tiny_encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.retrieval.indexing.encoding.SHARD_PASSAGES", 8)

    def stop(directory: Path, name: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_index(
            origins(corpus()), tmp_path / "index", tiny_encoder, evidence=True, before_publish=stop
        )
    texts = count_texts(monkeypatch)
    build_index(origins(corpus()), tmp_path / "index", tiny_encoder, evidence=True)
    assert texts == []
    build_index(origins(corpus()), tmp_path / "fresh", tiny_encoder, evidence=True)

    assert files_of(tmp_path / "index") == files_of(tmp_path / "fresh")


def test_a_segment_without_a_unit_vector_is_never_the_evidence(
    tmp_path: Path, tiny_encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = shards.encode_passages

    def without_the_first(encoder: Encoder, texts: list[str], on: object) -> object:
        found = encode(encoder, texts, on)  # type: ignore[arg-type]
        for row, text in enumerate(texts):
            if text == f"Title {SENTENCES[0]}":
                found.embeddings[row] = np.nan
        return found

    monkeypatch.setattr(shards, "encode_passages", without_the_first)
    passages = {"a": Passage("a", " ".join(SENTENCES[:2]), "Title")}
    build_index(origins(passages), tmp_path, tiny_encoder, evidence=True)

    [hit] = Searcher(tiny_encoder, opened(tmp_path)).search([SENTENCES[0]], 1, evidence=True)[0]

    assert hit.evidence is not None and hit.evidence.start > 0
