"""Weights that give NaN, infinity or zero: builds and requests, on every engine of a CPU."""

import base64
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from service.app import create_app
from service.cli.main import app
from service.retrieval.corpus.chunks.chunking import Chunking
from service.retrieval.corpus.reader import Passage, read_passages
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.encoder.loader import load_encoder
from service.retrieval.errors import (
    CheckpointError,
    EmbeddingError,
    GenerationError,
    PassageError,
)
from service.retrieval.generation.generation import open_current
from service.retrieval.hardware import multiplies_bf16
from service.retrieval.indexing.build import build_index, update_index
from service.retrieval.searcher import Searcher
from service.settings.settings import Settings
from tests.conftest import PASSAGES, make_checkpoint, write_passages
from tests.support.builds import files_of
from tests.support.damage import ALL_TEXTS, BAD, ONE_ROW, damage_checkpoint

BAD_TEXT = f"Nairobi {BAD} Kenya"
BAD_PASSAGE = {"id": "kenya.3", "text": BAD_TEXT}
GOOD = ["tea", "Lima lies on the coast"]
needs_bf16 = pytest.mark.skipif(not multiplies_bf16(), reason="the CPU has no bf16 instructions")
needs_openvino = pytest.mark.skipif(find_spec("openvino") is None, reason="no openvino")
RUNTIMES = [
    pytest.param(("torch", "fp32"), id="torch-fp32"),
    pytest.param(("torch", "bf16"), id="torch-bf16", marks=[needs_bf16, pytest.mark.slow]),
    # A graph is made for each damage, which takes seconds.
    *(
        pytest.param(
            ("openvino", precision),
            id=f"openvino-{precision}",
            marks=[needs_openvino, pytest.mark.slow, *marks],
        )
        for precision, marks in {"fp32": [], "bf16": [needs_bf16], "int8": []}.items()
    ),
]


@dataclass(frozen=True)
class Damaged:
    """A damaged encoder, its folder, and the settings that load it."""

    encoder: Encoder
    settings: Settings


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, tuple[str, str]], Damaged]:
    """Return a function that makes an encoder by the damage, engine and precision, once."""
    made: dict[tuple[str, str, str], Damaged] = {}
    folder = tmp_path_factory.mktemp("damaged")

    def make(kind: str, runtime: tuple[str, str]) -> Damaged:
        key = (kind, *runtime)
        checkpoint = folder / kind.replace(" ", "-")
        if not checkpoint.exists():
            damage_checkpoint(make_checkpoint(checkpoint), (ALL_TEXTS | ONE_ROW)[kind])
        if key not in made:
            settings = Settings(
                encoder=str(checkpoint),
                device="cpu",
                cache=folder / "cache",
                cpu_engine=runtime[0],
                precision=runtime[1],
            )
            encoder = load_encoder(
                str(checkpoint),
                cache=folder / "cache",
                device="cpu",
                cpu_engine=runtime[0],
                precision=runtime[1],
            )
            made[key] = Damaged(encoder, settings)
        return made[key]

    return make


@pytest.fixture(scope="module")
def with_bad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of passages whose third line alone holds the bad token."""
    records = [*PASSAGES[:2], BAD_PASSAGE, *PASSAGES[2:]]
    return write_passages(tmp_path_factory.mktemp("passages") / "passages.jsonl", records)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("kind", ALL_TEXTS)
def test_weights_that_spoil_every_text_build_nothing_and_name_a_passage(
    damaged: Any, passages_file: Path, tmp_path: Path, kind: str, runtime: tuple[str, str]
) -> None:
    if runtime[0] == "openvino":
        with pytest.raises(CheckpointError, match="every probe text, also by torch in fp32"):
            damaged(kind, runtime)
        return
    encoder = damaged(kind, runtime).encoder

    with pytest.raises(PassageError, match=r"passages\.jsonl:\d+: the encoder .* gives NaN"):
        build_index(read_passages(passages_file), tmp_path, encoder)
    skipped: list[PassageError] = []
    with pytest.raises(
        PassageError, match="no passages to index: .* all lines were refused or skipped"
    ):
        build_index(read_passages(passages_file), tmp_path, encoder, on_invalid=skipped.append)

    assert len(skipped) == len({str(error) for error in skipped}) == len(PASSAGES)
    assert not (tmp_path / "CURRENT").exists()


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("kind", ONE_ROW)
def test_a_build_stops_at_the_passage_or_leaves_it_out_and_says_so(
    damaged: Any, with_bad: Path, passages_file: Path, tmp_path: Path, kind: str, runtime: Any
) -> None:
    if (kind, runtime[1]) == ("overflow", "int8"):
        with pytest.raises(CheckpointError, match="is wrong on this machine"):
            damaged(kind, runtime)  # such weights have no 8 bits in common
        return
    encoder = damaged(kind, runtime).encoder

    with pytest.raises(PassageError, match=rf"{with_bad}:3: .* for the passage 'kenya\.3': "):
        build_index(read_passages(with_bad), tmp_path / "a", encoder)
    skipped: list[PassageError] = []
    report = build_index(
        read_passages(with_bad), tmp_path / "a", encoder, on_invalid=skipped.append
    )
    build_index(read_passages(passages_file), tmp_path / "b", encoder)

    assert [str(error).partition(": ")[0] for error in skipped] == [f"{with_bad}:3"]
    counts = report.counts
    assert (counts.num_passages, counts.num_encoded, counts.num_unembedded) == (12, 12, 1)
    found, expected = files_of(tmp_path / "a"), files_of(tmp_path / "b")
    manifests = [json.loads(files.pop("manifest.json")) for files in (found, expected)]
    assert manifests[0].pop("num_unembedded") == 1
    assert manifests[0] == manifests[1]
    assert found == expected


def test_an_update_tries_the_passage_again_and_equals_a_build(
    damaged: Any, with_bad: Path, passages_file: Path, tmp_path: Path
) -> None:
    encoder = damaged("NaN in a row", ("torch", "fp32")).encoder
    build_index(read_passages(passages_file), tmp_path / "a", encoder)
    build_index(read_passages(with_bad), tmp_path / "b", encoder, on_invalid=lambda error: None)

    with pytest.raises(PassageError, match=r"passages\.jsonl:3: "):
        update_index(read_passages(with_bad), tmp_path / "a", encoder)
    for _ in range(2):
        skipped: list[PassageError] = []
        counts = update_index(
            read_passages(with_bad), tmp_path / "a", encoder, on_invalid=skipped.append
        ).counts
        assert (counts.num_reused, counts.num_encoded, counts.num_unembedded) == (12, 0, 1)
        assert len(skipped) == 1

    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


def test_a_passage_is_left_out_of_the_canaries_if_its_query_is_invalid(
    damaged: Any, tmp_path: Path
) -> None:
    found = damaged("NaN in a row", ("torch", "fp32"))
    text = f"Lima lies on the coast of the Pacific {BAD}"
    # The prompt of passages is longer: as a passage, the text is truncated before its bad token.
    [as_query] = found.encoder.tokenize([text], "query")
    encoder = load_encoder(found.settings.encoder, device="cpu", max_tokens=len(as_query.token_ids))
    passages = [("f:1", Passage("a", "tea")), ("f:2", Passage("b", text))]

    build_index(passages, tmp_path, encoder, chunking=Chunking.of(encoder.max_tokens, 0))

    assert [each.query for each in open_current(tmp_path).manifest.canaries] == ["tea"]


@pytest.fixture(scope="module", params=RUNTIMES)
def served(
    request: pytest.FixtureRequest,
    damaged: Any,
    passages_file: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[TestClient]:
    """Serve an encoder with one bad row, and an index without a bad passage."""
    found = damaged("NaN in a row", request.param)
    index = tmp_path_factory.mktemp("index")
    build_index(read_passages(passages_file), index, found.encoder)
    settings = found.settings.model_copy(update={"index": index})
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        yield client


def value_of(client: TestClient, series: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return float(next(line.split()[-1] for line in lines if line.startswith(f"{series} ")))


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/encode", {"texts": [*GOOD, BAD_TEXT], "role": "passage"}, "texts[2]"),
        ("/encode", {"texts": BAD_TEXT, "role": "query", "encoding_format": "base64"}, "texts[0]"),
        ("/encode", {"texts": [BAD_TEXT], "role": "query", "dimensions": 4}, "texts[0]"),
        ("/search", {"queries": ["tea", BAD_TEXT, "sun", BAD_TEXT]}, "queries[1]"),
        ("/search", {"query": BAD_TEXT}, "query"),
        ("/v1/embeddings", {"model": "NaN-in-a-row", "input": ["tea", BAD_TEXT]}, "input[1]"),
    ],
)
def test_a_request_that_holds_the_text_is_500_and_names_it(
    served: TestClient, path: str, body: dict[str, Any], field: str, caplog: Any
) -> None:
    counted = value_of(served, "clear_invalid_embeddings_total")
    with caplog.at_level(logging.ERROR):
        answers = [served.post(path, json=body) for _ in range(2)]

    for answer in answers:
        assert answer.status_code == 500
        problem = answer.json()
        assert problem["type"] == "urn:clear-search:problem:invalid-embedding"
        assert problem["field"] == field
        assert problem["detail"].startswith(f"{field}: the encoder gives NaN, infinity or zero")
        assert BAD not in answer.text
    assert value_of(served, "clear_invalid_embeddings_total") >= counted + 2
    assert "of the" in caplog.text
    assert BAD_TEXT not in caplog.text


def test_an_invalid_embedding_is_never_cached(served: TestClient) -> None:
    def hits() -> float:
        return value_of(served, "clear_query_cache_hits_total")

    served.post("/search", json={"query": "tea"})
    before = hits()
    for _ in range(3):
        assert served.post("/search", json={"query": BAD_TEXT}).status_code == 500

    assert hits() == before
    assert served.post("/search", json={"query": "tea"}).status_code == 200
    assert hits() == before + 1


def test_other_texts_are_answered_before_and_after(served: TestClient) -> None:
    def vectors(**body: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
        answer = served.post("/encode", json={"texts": GOOD, "role": "query", **body})
        assert answer.status_code == 200
        rows = answer.json()["embeddings"]
        if "encoding_format" in body:
            rows = [np.frombuffer(base64.b64decode(row), "<f4") for row in rows]
        return np.array(rows, np.float32)

    before = vectors()
    assert served.post("/search", json={"queries": [*GOOD, BAD_TEXT]}).status_code == 500

    # Below fp32, a query rounds by whether another batch, such as a check after the start, runs.
    np.testing.assert_allclose(vectors(encoding_format="base64"), before, atol=1e-2)
    np.testing.assert_allclose(np.linalg.norm(before, axis=1), 1, atol=1e-6)
    found = served.post("/search", json={"queries": GOOD, "top_k": 3}).json()["results"]
    assert [len(each["hits"]) for each in found] == [3, 3]
    assert served.get("/readyz").status_code == 200


@pytest.mark.parametrize("kind", ONE_ROW)
def test_the_library_refuses_the_text_by_its_position(damaged: Any, kind: str) -> None:
    encoder = damaged(kind, ("torch", "fp32")).encoder

    with pytest.raises(EmbeddingError, match="for the text at position 1 and 1 more: ") as caught:
        encoder.encode(["tea", BAD_TEXT, "sun", BAD_TEXT], "passage")

    assert caught.value.positions == [1, 3]
    assert encoder.encode(["tea", "sun"], "passage").embeddings.shape == (2, 32)


def test_the_command_line_names_the_line_and_counts_what_it_skips(
    damaged: Any, with_bad: Path, tmp_path: Path
) -> None:
    found = damaged("NaN in a row", ("torch", "fp32"))
    arguments = [
        *("index", "build", str(with_bad), "--index", str(tmp_path / "index")),
        *("--encoder", found.settings.encoder, "--device", "cpu", "--json"),
    ]

    refused = CliRunner().invoke(app, arguments)
    skipped = CliRunner().invoke(app, [*arguments, "--skip-invalid"])
    verified = CliRunner().invoke(
        app, ["index", "verify", "--index", str(tmp_path / "index"), "--json"]
    )
    query = ["search", BAD_TEXT, "--index", str(tmp_path / "index"), "--device", "cpu"]
    searched = CliRunner().invoke(app, [*query, "--encoder", found.settings.encoder])

    assert refused.exit_code == 1
    assert f"error: {with_bad}:3: the encoder" in refused.stderr
    assert "remove the passage, or give --skip-invalid" in refused.stderr.replace("\n", " ")
    assert f"skipped: {with_bad}:3: " in skipped.stderr
    counts = json.loads(skipped.stdout)
    assert (counts["passages"], counts["skipped"], counts["unembedded"]) == (12, 1, 1)
    assert json.loads(verified.stdout)["unembedded"] == 1
    assert (searched.exit_code, searched.stdout) == (1, "")
    assert "gives NaN, infinity or zero for the text at position 0" in searched.stderr


def test_a_service_whose_encoder_spoils_every_text_does_not_start(
    damaged: Any, tiny_index: Path
) -> None:
    encoder = damaged("zero", ("torch", "fp32")).encoder
    generation = open_current(tiny_index)
    searcher = object.__new__(Searcher)
    searcher.__dict__.update(encoder=encoder, generation=generation)

    with pytest.raises(GenerationError, match="fails its canary query 1: the encoder zero gives"):
        searcher.check_canaries()


@pytest.mark.slow
def test_workers_find_the_passage_too(damaged: Any, with_bad: Path, tmp_path: Path) -> None:
    found = damaged("NaN in a row", ("torch", "fp32"))
    arguments = [
        *("index", "build", str(with_bad), "--index", str(tmp_path / "index"), "--workers", "2"),
        *("--encoder", found.settings.encoder, "--device", "cpu", "--json", "--skip-invalid"),
    ]

    skipped = CliRunner().invoke(app, arguments)

    assert skipped.exit_code == 0
    assert f"skipped: {with_bad}:3: the encoder" in skipped.stderr
    assert json.loads(skipped.stdout)["unembedded"] == 1
