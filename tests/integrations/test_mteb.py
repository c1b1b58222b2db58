"""A served encoder, scored by MTEB as the encoder itself would be."""

from typing import Any

import numpy as np
import pytest

from service.client import Client
from service.retrieval.encoder.encoder import Encoder
from tests.conftest import PASSAGES

pytestmark = pytest.mark.slow  # its import takes seconds
QUERIES = {"q1": "capital of Kenya", "q2": "harp with strings", "q3": "boiling water"}
QRELS = {"q1": {"kenya.1": 1}, "q2": {"music.1": 1}, "q3": {"science.1": 1}}


def make_task() -> Any:
    """A retrieval task of three queries that needs no download."""
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata

    class TinyRetrieval(AbsTaskRetrieval):  # type: ignore[misc]
        metadata = TaskMetadata(
            name="TinyRetrieval",
            description="Three questions about twelve passages.",
            dataset={"path": "none/none", "revision": "1"},
            type="Retrieval",
            category="t2t",
            eval_splits=["test"],
            eval_langs=["eng-Latn"],
            main_score="ndcg_at_10",
        )

        def load_data(self, *arguments: Any, **options: Any) -> None:
            corpus = {
                each["id"]: {"title": each["title"], "text": each["text"]} for each in PASSAGES
            }
            self.corpus = {"test": corpus}
            self.queries = {"test": QUERIES}
            self.relevant_docs = {"test": QRELS}
            self.convert_v1_dataset_format_to_v2(None)
            self.data_loaded = True

    return TinyRetrieval()


def evaluate(encoder: Any) -> float:
    import mteb

    results = mteb.evaluate(encoder, [make_task()], cache=None, show_progress_bar=False)
    return float(results.task_results[0].get_score())


def test_the_score_is_that_of_the_encoder_itself(address: str, tiny_encoder: Encoder) -> None:
    pytest.importorskip("mteb", reason="mteb is not installed")
    from service.integrations.mteb import ServedEncoder

    passages = [f"{each['title']} {each['text']}".strip() for each in PASSAGES]
    scores = (
        tiny_encoder.encode(list(QUERIES.values()), "query").embeddings
        @ tiny_encoder.encode(passages, "passage").embeddings.T
    )
    ranks = [
        1 + int(np.sum(row > row[[each["id"] for each in PASSAGES].index(next(iter(qrel)))]))
        for row, qrel in zip(scores, QRELS.values(), strict=True)
    ]
    expected = np.mean([1 / np.log2(1 + rank) if rank <= 10 else 0 for rank in ranks])

    with Client(address) as client:
        assert evaluate(ServedEncoder(client)) == pytest.approx(expected, abs=1e-4)


def test_scores_are_kept_under_the_encoder_s_name_and_fingerprint(
    address: str, tiny_encoder: Encoder
) -> None:
    pytest.importorskip("mteb", reason="mteb is not installed")
    from service.integrations.mteb import ServedEncoder

    with Client(address) as client:
        meta = ServedEncoder(client).mteb_model_meta

    assert meta is not None
    assert meta.name == f"clear-search/{tiny_encoder.name}"
    assert (meta.revision, meta.embed_dim) == (tiny_encoder.fingerprint, 32)
