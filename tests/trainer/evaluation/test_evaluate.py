import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from service.retrieval.corpus.reader import Passage
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.encoder.loader import load_encoder
from trainer.data.evaluation_set import EvaluationData, EvaluationSet, Query
from trainer.data.evaluation_set_reader import read_evaluation_set
from trainer.data.evaluation_set_writer import write_evaluation_set
from trainer.datasets.formats.xquad import import_xquad
from trainer.errors import DataError, OutputError
from trainer.evaluation.corpora import center, merge
from trainer.evaluation.evaluate import evaluate
from trainer.evaluation.measures import query_measures
from trainer.evaluation.result import Evaluation, Result
from trainer.evaluation.tasks import DIRECTIONS, list_tasks

XQUAD = Path(os.environ.get("DATA", "data"), "xquad")
# fp32, 256 tokens, query language -> 240 English passages.
REFERENCE_NDCG = {
    "en": 0.9678,
    "ar": 0.7985,
    "de": 0.9174,
    "es": 0.9396,
    "hi": 0.8895,
    "ru": 0.8966,
    "vi": 0.8338,
    "zh": 0.8181,
}
TEXTS = ["Tea grows on hills.", "Salt is mined.", "Rice needs water.", "Rain falls in May."]
GERMAN = [
    "Tee wächst an Hängen.",
    "Salz wird abgebaut.",
    "Reis braucht Wasser.",
    "Im Mai regnet es.",
]
QUESTIONS = ["Wo wächst Tee?", "Woher kommt Salz?", "Braucht Reis Wasser?"]


def passages(texts: list[str]) -> list[Passage]:
    return [Passage(f"p{number}", text) for number, text in enumerate(texts)]


def queries(texts: list[str]) -> list[Query]:
    return [Query(f"q{number}", text, f"a{number // 2}") for number, text in enumerate(texts)]


@pytest.fixture
def judged() -> EvaluationData:
    """Four passages in two languages; the German questions have another order of ids."""
    return EvaluationData(
        {"en": passages(TEXTS), "de": passages(GERMAN)},
        {"en": queries(TEXTS), "de": queries(QUESTIONS)[::-1]},
        {f"q{number}": {f"p{number}": 1} for number in range(4)},
    )


@pytest.fixture
def tea(tmp_path: Path, judged: EvaluationData) -> EvaluationSet:
    """`judged` on disk."""
    write_evaluation_set(tmp_path / "tea", judged)
    return read_evaluation_set(tmp_path / "tea")


def read_run(path: Path) -> dict[str, dict[str, float]]:
    run: dict[str, dict[str, float]] = {}
    for line in path.read_text().splitlines():
        query_id, _, passage_id, _, score, _ = line.split()
        run.setdefault(query_id, {})[passage_id] = float(score)
    return run


def result_of(evaluation: Evaluation, direction: str, language: str = "de") -> Result:
    (found,) = (
        each for each in evaluation.group("tea", direction) if each.task.language == language
    )
    return found


def test_all_five_directions_are_measured(tiny_encoder: Encoder, tea: EvaluationSet) -> None:
    evaluation = evaluate(tiny_encoder, [tea])

    assert [(each.task.name, len(each.articles)) for each in evaluation.results] == [
        ("tea.en-en", 4),
        ("tea.de-en", 3),
        ("tea.de-de", 3),
        ("tea.en-de", 4),
        ("tea.de-en+de", 3),
    ]
    assert evaluation.num_passages == {"tea": {"en": 4, "de": 4}}
    assert evaluation.fingerprint == tiny_encoder.fingerprint
    assert result_of(evaluation, "L-en").measures["recall@100"] == 1.0


def test_a_set_of_english_passages_alone_has_two_directions(
    tmp_path: Path, judged: EvaluationData
) -> None:
    english = EvaluationData({"en": judged.passages["en"]}, judged.queries, judged.qrels)
    write_evaluation_set(tmp_path / "tea", english)

    tasks = list_tasks(read_evaluation_set(tmp_path / "tea"), (), DIRECTIONS)

    assert [task.name for task in tasks] == ["tea.en-en", "tea.de-en"]


def test_run_files_hold_the_ranking_of_a_plain_matrix_product(
    tmp_path: Path, tiny_encoder: Encoder, tea: EvaluationSet
) -> None:
    evaluation = evaluate(tiny_encoder, [tea], runs=tmp_path / "runs")

    vectors = tiny_encoder.encode([query.text for query in tea.queries["de"]], "query").embeddings
    english = tiny_encoder.encode(TEXTS, "passage").embeddings
    german = tiny_encoder.encode(GERMAN, "passage").embeddings
    for name, matrix, names in [
        ("tea.de-en", english, [f"p{row}" for row in range(4)]),
        ("tea.de-de", german, [f"p{row}" for row in range(4)]),
        (
            "tea.de-en+de",
            np.concatenate([english, german]),
            [f"p{row}@{language}" for language in ("en", "de") for row in range(4)],
        ),
    ]:
        run = read_run(tmp_path / "runs" / f"{name}.run")
        assert list(run) == ["q2", "q1", "q0"]
        for scores, expected in zip(run.values(), vectors @ matrix.T, strict=True):
            assert list(scores) == [names[row] for row in np.argsort(-expected, kind="stable")]
            np.testing.assert_allclose(list(scores.values()), np.sort(expected)[::-1], atol=1e-6)
    qrels = {"q0": {"p0": 1}, "q1": {"p1": 1}, "q2": {"p2": 1}}
    expected_values = query_measures(qrels, read_run(tmp_path / "runs" / "tea.de-en.run"))
    assert result_of(evaluation, "L-en").values == expected_values


def test_the_pool_of_two_languages_needs_both_passages(
    tiny_encoder: Encoder, tea: EvaluationSet
) -> None:
    result = result_of(evaluate(tiny_encoder, [tea]), "mixed")

    assert result.measures["recall@1"] <= 0.5  # one of two
    assert result.measures["complete@10"] == 1.0  # of eight
    assert 2 <= result.measures["max_rank"] <= 8


def test_merged_rankings_are_in_the_order_of_scores() -> None:
    pools = {"en": [{"a": 0.9, "b": 0.1}], "de": [{"a": 0.5, "b": 0.4}]}

    assert merge(pools, 3) == [{"a@en": 0.9, "a@de": 0.5, "b@de": 0.4}]


def test_only_what_is_asked_for_is_measured(tiny_encoder: Encoder, tea: EvaluationSet) -> None:
    evaluation = evaluate(tiny_encoder, [tea], directions=["L-en"], languages=["de"])

    assert [each.task.name for each in evaluation.results] == ["tea.de-en"]
    with pytest.raises(DataError, match="no set has the directions L-en in fr"):
        evaluate(tiny_encoder, [tea], directions=["L-en"], languages=["fr"])


def test_centered_vectors_have_unit_length_and_no_language_mean() -> None:
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(50, 8)).astype(np.float32) + 5

    found = center(vectors)

    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    rest = vectors - vectors.mean(axis=0)
    np.testing.assert_allclose(found, rest / np.linalg.norm(rest, axis=1)[:, None], atol=1e-6)


def test_the_control_searches_centered_vectors(
    tmp_path: Path, tiny_encoder: Encoder, tea: EvaluationSet
) -> None:
    evaluation = evaluate(tiny_encoder, [tea], is_centered=True, runs=tmp_path / "runs")

    vectors = tiny_encoder.encode([query.text for query in tea.queries["de"]], "query").embeddings
    matrix = tiny_encoder.encode(TEXTS, "passage").embeddings
    run = read_run(tmp_path / "runs" / "tea.de-en.run")
    for scores, expected in zip(run.values(), center(vectors) @ center(matrix).T, strict=True):
        np.testing.assert_allclose(list(scores.values()), np.sort(expected)[::-1], atol=1e-5)
    assert evaluation.control == "mean-centred"


def test_kept_indexes_are_not_encoded_again(
    tmp_path: Path, tiny_encoder: Encoder, other_encoder: Encoder, tea: EvaluationSet
) -> None:
    first = evaluate(tiny_encoder, [tea], indexes=tmp_path / "indexes")
    stages = []

    def on_progress(stage: str, done: int, total: int | None) -> None:
        stages.append(stage)

    again = evaluate(tiny_encoder, [tea], indexes=tmp_path / "indexes", on_progress=on_progress)

    assert set(stages) == {"search tea en", "search tea de"}
    assert again == first
    evaluate(other_encoder, [tea], indexes=tmp_path / "indexes", on_progress=on_progress)
    assert {"encode tea en", "encode tea de"} <= set(stages)


def test_an_interrupted_evaluation_encodes_only_what_is_missing(
    tmp_path: Path, tiny_encoder: Encoder, tea: EvaluationSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    indexes = tmp_path / "indexes"
    first = evaluate(tiny_encoder, [tea], indexes=indexes)
    kept = sorted(indexes.glob("*.npz"))
    assert len(kept) == 2  # English and German
    kept[0].write_bytes(b"damaged")
    kept[1].unlink()
    one = {language: queries[:1] for language, queries in tea.queries.items()}
    evaluate(tiny_encoder, [replace(tea, queries=one)], indexes=indexes)

    assert evaluate(tiny_encoder, [tea], indexes=indexes) == first

    def fail(*arguments: object, **options: object) -> None:
        pytest.fail("queries are encoded again")

    monkeypatch.setattr(Encoder, "encode_tokenized", fail)
    assert evaluate(tiny_encoder, [tea], indexes=indexes) == first


def test_queries_of_unseen_passages_are_also_reported_separately(
    tiny_encoder: Encoder, tea: EvaluationSet
) -> None:
    evaluation = evaluate(tiny_encoder, [tea], seen={"tea": frozenset({"q0"})})

    (unseen,) = evaluation.group("tea, unseen passages", "L-en")
    assert list(unseen.articles) == ["q2", "q1"]
    whole = result_of(evaluation, "L-en").values["ndcg@10"]
    assert unseen.values["ndcg@10"] == {key: whole[key] for key in ("q2", "q1")}


def test_progress_ends_at_the_number_of_queries(tiny_encoder: Encoder, tea: EvaluationSet) -> None:
    seen = {}

    def on_progress(stage: str, done: int, total: int | None) -> None:
        seen[stage] = (done, total)

    evaluate(tiny_encoder, [tea], directions=["L-en"], on_progress=on_progress)

    assert seen == {"encode tea en": (4, 4), "search tea de": (3, 3)}


def test_a_wrong_runs_folder_fails_before_encoding(
    tmp_path: Path, tiny_encoder: Encoder, tea: EvaluationSet
) -> None:
    (tmp_path / "file").touch()
    stages: list[str] = []

    with pytest.raises(OutputError):
        evaluate(
            tiny_encoder,
            [tea],
            runs=tmp_path / "file",
            on_progress=lambda stage, done, total: stages.append(stage),
        )
    assert stages == []


@pytest.fixture(scope="module")
def bundled_evaluation(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    """The bundled encoder in eight languages, on the engine that this machine serves with."""
    if not XQUAD.is_dir():
        pytest.skip(f"XQuAD is not in {XQUAD}: set DATA to the folder that holds xquad")
    cache = os.environ.get("CLEAR_CACHE")
    encoder = load_encoder(
        "bundled-base",
        cache=Path(cache) if cache else None,
        device="cpu",
        max_tokens=256,
        cpu_engine="auto",
        precision="auto",
    )
    folder = tmp_path_factory.mktemp("sets") / "xquad"
    judged = import_xquad(XQUAD, languages=list(REFERENCE_NDCG)).evaluation
    assert judged
    write_evaluation_set(folder, judged)
    return evaluate(encoder, [read_evaluation_set(folder)], directions=["en-en", "L-en"])


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("language", REFERENCE_NDCG)
def test_the_bundled_encoder_reaches_the_reference_figures(
    bundled_evaluation: Evaluation, language: str
) -> None:
    ndcg = {each.task.language: each.measures["ndcg@10"] for each in bundled_evaluation.results}

    assert ndcg[language] == pytest.approx(REFERENCE_NDCG[language], abs=0.002)
