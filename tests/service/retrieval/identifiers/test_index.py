"""Identifiers of an index: which passages they lift, by how much, and what a hit says of them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from service.retrieval.corpus.changes import Change
from service.retrieval.corpus.chunks.chunking import Chunking
from service.retrieval.corpus.filters import parse_filter
from service.retrieval.corpus.reader import Passage
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.generation.generation import current_name, open_current
from service.retrieval.generation.manifest import IDENTIFIERS
from service.retrieval.identifiers.index import Match, fuse, written
from service.retrieval.index.backend import Ranking
from service.retrieval.index.options import Backend, IndexOptions
from service.retrieval.indexing.apply import apply_changes
from service.retrieval.indexing.build import build_index, update_index
from service.retrieval.searcher import Searcher
from tests.support.builds import live_directory, write_manifest

TEXTS = {
    "a": "The order AA-1720 left for Lima.",
    "b": "The order AA-1721 left for Lima.",
    "c": "The order BB-1720 left for Lima.",
    "d": "NASA keeps it in the hall 48213.",
    "e": "who knows where it is",
    "f": "Velmora is a lamp of steel.",
    "g": "It was built in 1988, of oak.",
    **{f"z{number}": f"The common model XR500 number {number:02}" for number in range(30)},
}
CORPUS = [
    ("f", Passage(name, text, metadata={"is_z": name[0] == "z"})) for name, text in TEXTS.items()
]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Encoder) -> Path:
    """An index of `TEXTS` that no test may alter."""
    index = tmp_path_factory.mktemp("identifiers") / "index"
    build_index(CORPUS, index, tiny_encoder, fields={"is_z": "boolean"})
    return index


@pytest.fixture(scope="module")
def searcher(index: Path, tiny_encoder: Encoder) -> Searcher:
    return Searcher(tiny_encoder, open_current(index))


@pytest.mark.parametrize(
    ("question", "passage_id", "matched"),
    [
        ("أين الطلب AA-١٧٢٠؟", "a", ("AA-1720",)),
        ("la commande aa 1720", "a", ()),  # small letters and a space: two words
        ("la commande aa-1720", "a", ("AA-1720",)),
        ("订单AA-1721在哪里", "b", ("AA-1721",)),
        ("wo ist BB1720?", "c", ("BB-1720",)),
        ("wo ist 48213", "d", ("48213",)),
        ("wo ist die Velmora", "f", ("Velmora",)),
        ("что такое velmora", "f", ("Velmora",)),
        ("wann war 1988", "g", ("1988",)),
    ],
)
def test_a_hit_tells_which_identifiers_of_the_question_it_holds(
    searcher: Searcher, question: str, passage_id: str, matched: tuple[str, ...]
) -> None:
    hits = searcher.search([question], 50)[0]
    assert {hit.passage.passage_id: hit.matched for hit in hits}[passage_id] == matched
    assert sum(bool(hit.matched) for hit in hits) == (1 if matched else 0)
    if "A" in question or "B" in question:
        assert (hits[0].passage.passage_id == passage_id) is bool(matched)


def test_what_is_not_rare_or_not_held_changes_nothing(searcher: Searcher) -> None:
    questions = ["wo ist ZZ-9999?", "wo ist XR500?", "WO IST NASA", "wer ist who", "tea"]
    plain = searcher.search(questions, 20, by_identifiers=False)
    assert searcher.search(questions, 20) == plain
    assert not any(hit.matched for hits in plain for hit in hits)


def test_scores_stay_inner_products_and_rankings_follow_score_and_lift(
    searcher: Searcher, tiny_encoder: Encoder
) -> None:
    question = "wo ist AA-1720 oder NASA in 1988?"
    query = tiny_encoder.encode([question], "query").embeddings[0]
    passages = tiny_encoder.encode(list(TEXTS.values()), "passage").embeddings
    background = searcher.generation.manifest.background
    assert background is not None
    scores = passages @ query
    lifts = np.zeros(len(TEXTS))
    lifts[[0, 3, 6]] = background.spread * np.array([8.0, 1.0, 3.0])
    order = np.argsort(-(scores + lifts))

    hits = searcher.search([question], len(TEXTS))[0]

    assert [hit.passage.passage_id for hit in hits] == [list(TEXTS)[row] for row in order]
    np.testing.assert_allclose([hit.score for hit in hits], scores[order], atol=1e-5)


def test_pages_of_any_depth_are_parts_of_one_ranking(searcher: Searcher) -> None:
    questions = ["wo ist AA-1720?", "wann war 1988", "wo ist die Velmora"]
    for hits, top_ten in zip(
        searcher.search(questions, 37), searcher.search(questions, 10), strict=True
    ):
        assert hits[:10] == top_ten


def test_a_filter_and_a_least_score_hold_for_lifted_passages(searcher: Searcher) -> None:
    question = "wo ist AA-1720?"
    [hits] = searcher.search([question], 3)
    others = parse_filter({"is_z": True})
    [filtered] = searcher.search([question], 50, filter=others)
    assert {hit.passage.passage_id[0] for hit in filtered} == {"z"} and len(filtered) == 30
    [own] = searcher.search([question], 50, filter=parse_filter({"is_z": False}))
    assert own[0].passage.passage_id == "a" and len(own) == 7
    least = hits[0].score + 1e-3
    [cut] = searcher.search([question], 50, min_score=least)
    assert all(hit.score >= least and hit.passage.passage_id != "a" for hit in cut)


@pytest.mark.parametrize(
    ("factory", "backend"),
    [("Flat", "torch"), ("Flat", "faiss"), ("HNSW8", "faiss"), ("IVF2,SQ8", "faiss")],
)
def test_every_index_lifts_the_same_passage_with_its_exact_score(
    tmp_path: Path, searcher: Searcher, tiny_encoder: Encoder, factory: str, backend: Backend
) -> None:
    build_index(CORPUS, tmp_path / "index", tiny_encoder, factory=factory)
    other = Searcher(tiny_encoder, open_current(tmp_path / "index", IndexOptions(backend=backend)))
    questions = ["wo ist AA-1720?", "wo ist 48213"]
    for found, expected in zip(
        other.search(questions, 1), searcher.search(questions, 1), strict=True
    ):
        assert [hit.matched for hit in found] == [hit.matched for hit in expected]
        assert found[0].score == pytest.approx(expected[0].score, abs=1e-6)


def test_documents_are_counted_once_whatever_chunks_they_have(
    tmp_path: Path, tiny_encoder: Encoder
) -> None:
    long = Passage("long", "A word of it. " * 60, "QK-77")
    chunking = Chunking(longest=40, overlap=0, tokens=40)
    build_index([*CORPUS, ("f", long)], tmp_path / "index", tiny_encoder, chunking=chunking)
    searcher = Searcher(tiny_encoder, open_current(tmp_path / "index"))
    hits = searcher.search(["wo ist QK-77?"], 100)[0]
    matched = [hit.passage.document_id for hit in hits if hit.matched]
    assert len(matched) > 3 and set(matched) == {"long"}


def test_changes_give_the_file_of_a_fresh_build(tmp_path: Path, tiny_encoder: Encoder) -> None:
    build_index(CORPUS, tmp_path / "changed", tiny_encoder)
    changes = [
        ("c", Change("b")),
        ("c", Change("a", Passage("a", "The order CC-1 left."))),
        ("c", Change("aa", Passage("aa", "The order AA-1720 came."))),
    ]
    apply_changes(changes, tmp_path / "changed", tiny_encoder)
    after = {name: passage for _, passage in CORPUS for name in [passage.passage_id]}
    for _, change in changes:
        after.pop(change.document_id, None)
        if change.document:
            after[change.document_id] = change.document
    build_index([("f", each) for each in after.values()], tmp_path / "fresh", tiny_encoder)
    assert current_name(tmp_path / "changed") == current_name(tmp_path / "fresh")
    found = Searcher(tiny_encoder, open_current(tmp_path / "changed"))
    [hits] = found.search(["wo ist AA-1720?"], 1)
    assert (hits[0].passage.passage_id, hits[0].matched) == ("aa", ("AA-1720",))


def test_an_older_generation_lifts_nothing_and_says_why(
    tmp_path: Path, index: Path, tiny_encoder: Encoder
) -> None:
    old = Path(shutil.copytree(index, tmp_path / "index"))
    (live_directory(old) / IDENTIFIERS).unlink()
    manifest = json.loads((live_directory(old) / "manifest.json").read_text())
    del manifest["files"][IDENTIFIERS]
    (old / "CURRENT").write_text(write_manifest(old, manifest).name)
    searcher = Searcher(tiny_encoder, open_current(old))
    assert searcher.generation.identifiers.reason is not None
    assert "build or update" in searcher.generation.identifiers.reason
    assert not any(hit.matched for hit in searcher.search(["wo ist AA-1720?"], 50)[0])
    fresh = current_name(index)

    apply_changes([("c", Change("no such document"))], old, tiny_encoder)

    assert current_name(old) == fresh
    update_index(CORPUS, old, tiny_encoder)
    assert current_name(old) == fresh


def test_a_ranking_without_a_match_stays_as_it_is() -> None:
    ranking = Ranking(np.array([0.9, 0.8], np.float32), np.array([4, 2]))
    assert fuse(ranking, np.ones(2, np.float32), None) is ranking


def test_a_match_is_merged_by_score_and_lift() -> None:
    vectors = np.eye(4, dtype=np.float32)
    ranking = Ranking(np.array([0.9, 0.3], np.float32), np.array([0, 1]))
    match = Match(np.array([1, 3]), np.array([0.1, 0.95], np.float32), (("x",), ("y",)), vectors)
    found = fuse(ranking, np.array([0.9, 0.3, 0.2, 0.1], np.float32), match)
    assert found.rows.tolist() == [3, 0, 1]
    assert found.scores.tolist() == pytest.approx([0.1, 0.9, 0.3])
    assert found.lifted is not None
    assert found.lifted.tolist() == pytest.approx([1.05, 0.9, 0.4])
    assert found.matched == {1: ("x",), 3: ("y",)}


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ((), ()),
        (("n:kenya",), ("Kenya",)),
        (("n:nairobi", "n:kenya", "n:nairobi"), ("Nairobi", "Kenya")),
        (("c:aa1720",), ("AA-1720",)),  # a word before the spaced code, wherever it is
        (("c:bb17", "c:1720"), ("BB 17", "1720")),
        (("n:none", "a:KE"), ("KE",)),
        (("n:none",), ()),
    ],
)
def test_identifiers_are_told_as_the_passage_writes_them_first(
    keys: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    passage = Passage("a", "In KENYA: Nairobi, BB 17, AA 1720 and AA-1720; KE.", "Kenya")
    assert written(passage, keys) == expected
