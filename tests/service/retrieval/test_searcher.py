import dataclasses
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from service.retrieval.corpus.filters import parse_filter
from service.retrieval.corpus.reader import read_passages
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.encoder.loader import load_encoder
from service.retrieval.errors import GenerationError
from service.retrieval.generation.generation import open_current
from service.retrieval.generation.manifest import VECTORS
from service.retrieval.index.backend import Ranking
from service.retrieval.index.faiss.build import build_faiss_index
from service.retrieval.index.faiss.index import open_faiss_index
from service.retrieval.index.options import Backend, IndexOptions
from service.retrieval.indexing.build import build_index
from service.retrieval.searcher import Searcher
from tests.support.relevance import calibrate


@pytest.fixture
def searcher(tiny_encoder: Encoder, tiny_index: Path) -> Searcher:
    return Searcher(tiny_encoder, open_current(tiny_index))


def test_hits_equal_the_inner_products_with_every_passage(
    searcher: Searcher, passages_file: Path
) -> None:
    passages = [passage for _, passage in read_passages(passages_file)]
    encoder = searcher.encoder
    texts = [passage.encoder_text for passage in passages]
    query = encoder.encode(["protein in beans"], "query").embeddings[0]
    scores = encoder.encode(texts, "passage").embeddings @ query

    (hits,) = searcher.search(["protein in beans"], top_k=5)

    best = np.argsort(-scores)[:5]
    assert [hit.passage for hit in hits] == [passages[row] for row in best]
    assert [hit.rank for hit in hits] == [1, 2, 3, 4, 5]
    np.testing.assert_allclose([hit.score for hit in hits], scores[best], atol=1e-5)


def test_each_query_has_its_own_hits_in_the_order_given(searcher: Searcher) -> None:
    queries = ["Lima lies on the coast", "কিলিমাঞ্জারো", "", "harp with 21 strings"]

    together = searcher.search(queries, top_k=3)

    alone = [searcher.search([query], top_k=3)[0] for query in queries]
    found = [[hit.passage.passage_id for hit in hits] for hits in together]
    assert found == [[hit.passage.passage_id for hit in hits] for hits in alone]
    assert len({tuple(ids) for ids in found}) > 1


def test_min_score_drops_the_hits_below_it(searcher: Searcher) -> None:
    (everything,) = searcher.search(["protein"], top_k=12)
    threshold = everything[4].score

    (cut,) = searcher.search(["protein"], top_k=12, min_score=threshold)

    assert cut == everything[:5]
    assert searcher.search(["protein"], top_k=12, min_score=1.1) == [[]]


def test_a_score_of_nan_is_no_hit_and_every_other_keeps_its_own_passage(
    searcher: Searcher,
) -> None:
    ranking = Ranking(np.array([np.nan, 0.9, np.nan, 0.5, -0.5], np.float32), np.arange(5))

    hits = searcher.hits(ranking, min_score=0.0)

    ids = searcher.generation.passages.passage_ids([1, 3])
    assert [hit.passage.passage_id for hit in hits] == ids
    assert [hit.score for hit in searcher.hits(ranking, min_score=0.9)] == [pytest.approx(0.9)]
    assert [(hit.rank, hit.score) for hit in hits] == [(1, pytest.approx(0.9)), (2, 0.5)]


@pytest.mark.parametrize(
    ("scores", "lifted", "best"),
    [
        ([0.75, 0.5], None, 0.75),
        ([0.5, 0.75], [1.0, 0.75], 1.0),
        ([np.nan, 0.75, 0.5], None, 0.75),
        ([np.nan], None, None),
        ([], None, None),
    ],
)
def test_the_best_relevance_is_that_of_the_first_hit_that_no_least_score_omits(
    searcher: Searcher,
    monkeypatch: pytest.MonkeyPatch,
    scores: list[float],
    lifted: list[float] | None,
    best: float | None,
) -> None:
    monkeypatch.setattr(searcher, "relevance", SimpleNamespace(of=list))
    numbers = None if lifted is None else np.array(lifted, np.float32)
    ranking = Ranking(np.array(scores, np.float32), np.arange(len(scores)), numbers)

    assert searcher.best_relevance(ranking) == best
    assert [hit.relevance for hit in searcher.hits(ranking)[:1]] == [best] * (best is not None)
    assert searcher.hits(ranking, min_score=1.0) == []


@pytest.mark.parametrize(("top_k", "expected"), [(1, 1), (12, 12), (1000, 12)])
def test_no_more_hits_than_asked_or_there_are(
    searcher: Searcher, top_k: int, expected: int
) -> None:
    (hits,) = searcher.search(["tea"], top_k=top_k)

    assert len(hits) == len({hit.passage.passage_id for hit in hits}) == expected


def test_no_queries_give_no_hits(searcher: Searcher) -> None:
    assert searcher.search([]) == []


def test_a_hit_carries_the_passage_with_its_metadata(searcher: Searcher) -> None:
    (hits,) = searcher.search(["kenya"], top_k=12)

    passages = {hit.passage.passage_id: hit.passage for hit in hits}
    assert passages["kenya.2"].title == "Kenya"
    assert passages["kenya.2"].text == "Tea and flowers are grown for export."
    assert passages["kenya.2"].metadata == {"page": 2}


def test_a_whole_generation_passes_its_canaries(searcher: Searcher) -> None:
    searcher.check_canaries()

    assert len(searcher.generation.manifest.canaries) == 8


def test_vectors_in_another_order_fail_the_canaries(
    searcher: Searcher, passages_file: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    passages = sorted(read_passages(passages_file), key=lambda item: item[1].passage_id)
    texts = [passage.encoder_text for _, passage in passages]
    vectors = searcher.encoder.encode(texts, "passage").embeddings
    build_faiss_index(vectors[::-1], "Flat", tmp_path / VECTORS)
    shuffled = dataclasses.replace(
        searcher.generation, vectors=open_faiss_index(tmp_path / VECTORS)
    )

    with pytest.raises(GenerationError, match=r"fails its canary query \d: .* expected"):
        Searcher(searcher.encoder, shuffled).check_canaries()

    encoder = load_encoder(str(tiny_checkpoint), device="cpu", query_prompt="Find: ")
    with pytest.raises(GenerationError, match="if they are set, or CLEAR_QUERY_PROMPT$"):
        Searcher(encoder, shuffled).check_canaries()


@pytest.fixture(scope="module")
def calibrated_index(
    tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Encoder, passages_file: Path
) -> Path:
    index = tmp_path_factory.mktemp("calibrated") / "index"
    passages = read_passages(passages_file)
    build_index(passages, index, tiny_encoder, fields={"page": "number"})
    return calibrate(index, tiny_encoder.fingerprint)


@pytest.mark.parametrize("backend", ["faiss", "torch"])
def test_each_backend_gives_the_same_relevances(
    tiny_encoder: Encoder, calibrated_index: Path, backend: Backend
) -> None:
    def relevances(options: IndexOptions) -> list[float | None]:
        searcher = Searcher(tiny_encoder, open_current(calibrated_index, options))
        return [hit.relevance for hit in searcher.search(["Where is Nairobi?"], 12)[0]]

    expected = relevances(IndexOptions())
    assert None not in expected
    assert relevances(IndexOptions(backend=backend)) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(("factory", "error"), [("HNSW32", 1e-3), ("SQ8", 0.1)])
def test_an_approximate_index_gives_nearly_the_same_relevances(
    tiny_encoder: Encoder, calibrated_index: Path, tmp_path: Path, factory: str, error: float
) -> None:
    exact = Searcher(tiny_encoder, open_current(calibrated_index))
    texts = [each.encoder_text for each in exact.generation.passages.read(range(12))]
    vectors = tiny_encoder.encode(texts, "passage").embeddings
    build_faiss_index(vectors, factory, tmp_path / VECTORS)
    approximate = dataclasses.replace(
        exact.generation, vectors=open_faiss_index(tmp_path / VECTORS)
    )

    def relevances(searcher: Searcher) -> dict[str, float | None]:
        [hits] = searcher.search(["Where is Nairobi?"], 12)
        return {hit.passage.passage_id: hit.relevance for hit in hits}

    expected = relevances(exact)
    assert len(expected) == 12 and None not in expected.values()
    assert relevances(Searcher(tiny_encoder, approximate)) == pytest.approx(expected, abs=error)


def test_behind_a_filter_that_leaves_few_passages_the_background_alone_decides(
    tiny_encoder: Encoder, calibrated_index: Path
) -> None:
    searcher = Searcher(tiny_encoder, open_current(calibrated_index))
    chosen = parse_filter({"page": 1})
    [hits] = searcher.search(["Where is it?"], 10, filter=chosen)
    background, calibration = searcher.relevance.background, searcher.relevance.calibration
    assert background is not None and calibration is not None and len(hits) == 3
    expected = [
        1 / (1 + math.exp((background.best - hit.score) / calibration.scale)) for hit in hits
    ]
    assert [hit.relevance for hit in hits] == pytest.approx(expected, abs=1e-3)
