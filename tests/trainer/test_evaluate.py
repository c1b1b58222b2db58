import os
from pathlib import Path

import numpy as np
import pytest

from service.retrieval.checkpoint import load_encoder
from service.retrieval.encoder import Encoder
from service.retrieval.passages import Passage
from trainer.errors import DataError, OutputError
from trainer.evaluate import Evaluation, LanguageResult, evaluate
from trainer.measures import mean_measures
from trainer.xquad import Query, XquadFile, judge, read_xquad, xquad_languages

XQUAD = Path(__file__).parents[2].parent / "shared" / "data" / "xquad"
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


def xquad_file(language: str, questions: list[str]) -> XquadFile:
    passages = tuple(Passage(f"a00.p{number:02}", text) for number, text in enumerate(TEXTS))
    queries = tuple(
        Query(f"q{number}", text, f"a00.p{number:02}") for number, text in enumerate(questions)
    )
    return XquadFile(Path(f"xquad.{language}.json"), passages, queries)


@pytest.fixture
def data() -> dict[str, XquadFile]:
    """Four passages; the German questions come in another order of ids."""
    german = xquad_file("de", ["Wo wächst Tee?", "Woher kommt Salz?", "Braucht Reis Wasser?"])
    reordered = XquadFile(german.path, german.passages, german.queries[::-1])
    return {"en": xquad_file("en", TEXTS), "de": reordered}


def read_run(path: Path) -> dict[str, dict[str, float]]:
    run: dict[str, dict[str, float]] = {}
    for line in path.read_text().splitlines():
        query_id, _, passage_id, _, score, _ = line.split()
        run.setdefault(query_id, {})[passage_id] = float(score)
    return run


def test_languages_and_conditions_are_reported(
    tiny_encoder: Encoder, data: dict[str, XquadFile]
) -> None:
    evaluation = evaluate(tiny_encoder, data, ["en", "de"])

    assert [(result.language, result.num_queries) for result in evaluation.languages] == [
        ("en", 4),
        ("de", 3),
    ]
    assert evaluation.fingerprint == tiny_encoder.fingerprint
    assert (evaluation.num_passages, evaluation.max_tokens) == (4, tiny_encoder.max_tokens)
    assert evaluation.languages[0].measures["recall@100"] == 1.0


def test_run_files_hold_the_ranking_of_a_plain_matrix_product(
    tmp_path: Path, tiny_encoder: Encoder, data: dict[str, XquadFile]
) -> None:
    evaluate(tiny_encoder, data, ["de"], runs=tmp_path / "runs")

    texts = [query.text for query in data["de"].queries]
    queries = tiny_encoder.encode(texts, "query").embeddings
    passages = tiny_encoder.encode(TEXTS, "passage").embeddings
    run = read_run(tmp_path / "runs" / "xquad.de-en.run")
    assert list(run) == ["q2", "q1", "q0"]
    for scores, expected in zip(run.values(), queries @ passages.T, strict=True):
        assert list(scores) == [f"a00.p{row:02}" for row in np.argsort(-expected)]
        np.testing.assert_allclose(list(scores.values()), np.sort(expected)[::-1], atol=1e-6)


def test_measures_are_those_of_the_run_file(
    tmp_path: Path, tiny_encoder: Encoder, data: dict[str, XquadFile]
) -> None:
    evaluation = evaluate(tiny_encoder, data, ["de"], runs=tmp_path)

    expected = mean_measures(judge(data["de"], data["en"]), read_run(tmp_path / "xquad.de-en.run"))
    assert evaluation.languages[0].measures == expected


def test_progress_ends_at_the_number_of_queries(
    tiny_encoder: Encoder, data: dict[str, XquadFile]
) -> None:
    seen = {}

    def on_progress(stage: str, done: int, total: int | None) -> None:
        seen[stage] = (done, total)

    evaluate(tiny_encoder, data, ["en", "de"], on_progress)

    assert seen["encode"] == (4, 4)
    assert seen["search en"] == (4, 4)
    assert seen["search de"] == (3, 3)


def test_files_that_do_not_belong_together_stop_it_before_the_work(
    tiny_encoder: Encoder, data: dict[str, XquadFile]
) -> None:
    data["de"] = xquad_file("de", ["?", "?", "?", "?", "of no English passage"])
    stages = []

    with pytest.raises(DataError, match="q4"):
        evaluate(tiny_encoder, data, ["de"], lambda stage, done, total: stages.append(stage))
    assert stages == []


def test_a_wrong_runs_folder_stops_it_before_the_work(
    tmp_path: Path, tiny_encoder: Encoder, data: dict[str, XquadFile]
) -> None:
    (tmp_path / "file").touch()
    stages = []

    with pytest.raises(OutputError):
        evaluate(
            tiny_encoder,
            data,
            ["de"],
            lambda stage, done, total: stages.append(stage),
            runs=tmp_path / "file",
        )
    assert stages == []


def test_the_macro_mean_counts_each_language_the_same() -> None:
    results = (
        LanguageResult("en", 1000, {"ndcg@10": 1.0}),
        LanguageResult("de", 10, {"ndcg@10": 0.5}),
    )

    assert Evaluation("tiny", "f", 64, "cpu", "torch-fp32", 4, results).macro_mean == {
        "ndcg@10": 0.75
    }


@pytest.fixture(scope="module")
def bundled_evaluation() -> Evaluation:
    """The bundled encoder on the eight languages, through one index."""
    if not XQUAD.is_dir():
        pytest.skip(f"XQuAD is not in {XQUAD}")
    cache = os.environ.get("CLEAR_CACHE")
    encoder = load_encoder(
        "bundled", cache=Path(cache) if cache else None, device="cpu", max_tokens=256
    )
    languages = xquad_languages(XQUAD)
    data = {language: read_xquad(XQUAD, language) for language in languages}
    return evaluate(encoder, data, languages)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("language", REFERENCE_NDCG)
def test_the_bundled_encoder_reaches_the_reference_figures(
    bundled_evaluation: Evaluation, language: str
) -> None:
    ndcg = {result.language: result.measures["ndcg@10"] for result in bundled_evaluation.languages}

    assert ndcg[language] == pytest.approx(REFERENCE_NDCG[language], abs=0.002)
