import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from starlette.testclient import TestClient

from service.app import create_app
from service.errors import SettingsError
from service.lifespan import State
from service.retrieval.corpus.reader import read_passages
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.encoder.loader import load_encoder
from service.retrieval.encoder.reference.comparison import Comparison, save_comparison
from service.retrieval.encoder.reference.texts import texts_digest
from service.retrieval.errors import EncoderMismatchError, GenerationError
from service.retrieval.indexing.build import build_index
from service.settings.settings import Settings
from tests.conftest import flip_bit, make_adapter, make_checkpoint


def test_a_running_service_is_live_and_ready(client: TestClient) -> None:
    assert client.get("/livez").json() == {"status": "live"}
    assert client.get("/readyz").json() == {"status": "ready"}


def test_info_describes_the_instance_without_paths(
    client: TestClient, tiny_encoder: Encoder, service_settings: Settings
) -> None:
    info = client.get("/info")

    facts = info.json()
    assert facts["phase"] == "ready"
    assert facts["encoder"]["fingerprint"] == tiny_encoder.fingerprint
    assert facts["encoder"]["max_tokens"] == 64
    assert facts["encoder"]["reference"] is None
    assert facts["encoder"]["languages"] is None
    assert facts["index"]["passages"] == 12
    assert facts["limits"]["timeout_ms"] == 10_000
    assert str(service_settings.index) not in info.text
    assert service_settings.encoder not in info.text


def test_info_and_search_give_the_quality_by_language(
    tmp_path: Path, tiny_encoder: Encoder, tiny_checkpoint: Path, tiny_index: Path
) -> None:
    record = {"sw": {"questions": 0.55, "n": 9}, "de": {"questions": 0.9, "n": 9}}
    adapter = make_adapter(
        tmp_path / "a", tiny_encoder, base=str(tiny_checkpoint), languages=record
    )
    settings = Settings(encoder=str(adapter), index=tiny_index, device="cpu")
    questions = ["Ni lugha zipi zinazozungumzwa nchini?", "Woher hat Venezuela seinen Namen?"]

    with TestClient(create_app(settings)) as client:
        facts = client.get("/info").json()["encoder"]["languages"]
        detected = client.post("/search", json={"queries": questions}).json()["results"]
        declared = client.post("/search", json={"query": "Chai?", "language": "sw-TZ"}).json()
        uncertain = client.post("/search", json={"query": "Wo ist Lima?"}).json()

    assert facts["sw"] == {"quality": "poor", "questions": 0.55, "n": 9}
    assert [each["language_quality"] for each in detected] == ["poor", "good"]
    assert all("language_uncertain" not in each for each in detected)
    assert declared["results"][0]["language_quality"] == "poor"
    assert uncertain["results"][0]["language"] == "de"
    assert uncertain["results"][0]["language_uncertain"] is True
    assert uncertain["results"][0]["language_quality"] == "unknown"


def test_info_and_the_log_of_the_start_name_the_prompts_in_force(
    tiny_checkpoint: Path, tiny_index: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(
        encoder=str(tiny_checkpoint), index=tiny_index, device="cpu", query_prompt="find: "
    )

    with caplog.at_level("INFO"), TestClient(create_app(settings)) as client:
        facts = client.get("/info").json()["encoder"]

    assert facts["prompts"] == {"query": "find: ", "passage": "passage: "}
    assert facts["prompt_sources"] == {
        "query": "CLEAR_QUERY_PROMPT",
        "passage": "config_sentence_transformers.json",
    }
    assert 'query prompt "find: " (CLEAR_QUERY_PROMPT)' in caplog.messages


def test_info_shows_the_figure_that_the_doctor_recorded(
    tmp_path: Path, tiny_checkpoint: Path, tiny_index: Path, tiny_encoder: Encoder
) -> None:
    settings = Settings(
        encoder=str(tiny_checkpoint), index=tiny_index, device="cpu", cache=tmp_path
    )
    comparison = Comparison(
        fingerprint=tiny_encoder.fingerprint,
        passage_fingerprint=tiny_encoder.passage_fingerprint,
        runtime="torch-fp32",
        max_tokens=[64, 64],
        made_by="sentence-transformers 6.2.0",
        texts_sha256=texts_digest(),
        bound=0.9999,
        by_script={"Latin": 0.99999, "Han": 0.99995},
    )

    save_comparison(tmp_path, tiny_encoder, comparison)

    with TestClient(create_app(settings)) as client:
        found = client.get("/info").json()["encoder"]["reference"]

    assert found == {
        "least_cosine": 0.99995,
        "bound": 0.9999,
        "is_right": True,
        "reference": "sentence-transformers 6.2.0",
        "by_script": {"Latin": 0.99999, "Han": 0.99995},
    }


def test_an_encoder_without_a_name_is_known_by_its_folder_and_not_by_the_path(
    tmp_path: Path, passages_file: Path
) -> None:
    folder = make_checkpoint(tmp_path / "nameless", with_manifest=False)
    build_index(
        read_passages(passages_file), tmp_path / "index", load_encoder(str(folder), device="cpu")
    )
    settings = Settings(encoder=str(folder), index=tmp_path / "index", device="cpu")

    with TestClient(create_app(settings)) as client:
        body = {"model": "nameless", "input": "tea"}
        answers = [client.get(path) for path in ("/info", "/v1/models", "/metrics", "/readyz")]
        answers.append(client.post("/search", json={"query": "tea"}))
        answers.append(client.post("/v1/embeddings", json=body))
        answers.append(client.post("/encode", json={"texts": "tea", "role": "query"}))
        unknown = client.post("/v1/embeddings", json={**body, "model": "other"})

    assert [answer.status_code for answer in answers] == [200] * len(answers)
    assert answers[0].json()["encoder"]["name"] == "nameless"
    for answer in (*answers, unknown):
        assert str(tmp_path) not in answer.text


@pytest.mark.parametrize("path", ["/nope", "/web/nope.js", "/web/", "/web/../app.py", "/redoc"])
def test_an_unknown_path_is_a_problem(client: TestClient, path: str) -> None:
    response = client.get(path)

    assert response.status_code == 404
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.json()["detail"] == "there is no such path: see /docs"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("GET", "/search", "POST"), ("HEAD", "/encode", "POST"), ("POST", "/livez", "GET, HEAD")],
)
def test_a_wrong_method_is_a_problem_that_names_the_right_one(
    client: TestClient, method: str, path: str, allowed: str
) -> None:
    response = client.request(method, path)

    assert response.status_code == 405
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.headers["Allow"] == allowed


def test_a_stopped_service_drains_and_leaves_no_batcher(service_settings: Settings) -> None:
    app = create_app(service_settings)
    before = set(threading.enumerate())

    with TestClient(app):
        assert "batch-owner" in {thread.name for thread in set(threading.enumerate()) - before}

    client = TestClient(app)
    assert client.get("/readyz").status_code == 503
    assert client.post("/search", json={"query": "a"}).status_code == 503
    assert "batch-owner" not in {thread.name for thread in set(threading.enumerate()) - before}


def test_draining_is_final() -> None:
    state = State(Settings())
    phases = []

    for phase in ("ready", "draining", "ready", "loading"):
        state.enter(phase)  # type: ignore[arg-type]
        phases.append((state.phase, state.is_ready))

    assert phases == [("ready", True)] + [("draining", False)] * 3


def test_no_index_is_refused_at_start(tiny_checkpoint: Path) -> None:
    app = create_app(Settings(encoder=str(tiny_checkpoint), index=None))

    with pytest.raises(SettingsError, match="CLEAR_INDEX"), TestClient(app):
        pass


def test_an_index_of_another_encoder_is_refused_at_start(tmp_path: Path, tiny_index: Path) -> None:
    other = make_checkpoint(tmp_path / "other", seed=1)
    app = create_app(Settings(encoder=str(other), index=tiny_index))

    with pytest.raises(EncoderMismatchError), TestClient(app):
        pass


def test_an_altered_index_is_refused_at_start(tiny_checkpoint: Path, index_copy: Path) -> None:
    flip_bit(next(index_copy.glob("generations/*/vectors.faiss")))
    app = create_app(Settings(encoder=str(tiny_checkpoint), index=index_copy))

    with pytest.raises(GenerationError, match=r"vectors\.faiss was altered"), TestClient(app):
        pass


class HeldEncoder:
    """Blocks the encoder until `open` is set; sets `begun` when a batch reaches it."""

    def __init__(self, encoder: Encoder) -> None:
        self.begun, self.open = threading.Event(), threading.Event()
        self._genuine = encoder.embed

    def __call__(self, *arguments: Any) -> Any:
        self.begun.set()
        assert self.open.wait(10)
        return self._genuine(*arguments)


@pytest.fixture
def small_client(service_settings: Settings) -> Iterator[TestClient]:
    """A service whose queue holds sixteen tokens."""
    limits = {
        "max_waiting_tokens": 16,
        "max_batch_tokens": 16,
        "max_bulk_batch_tokens": 16,
        "query_cache_entries": 0,
    }
    with TestClient(create_app(service_settings.model_copy(update=limits))) as client:
        yield client


def test_a_full_queue_is_429_a_late_answer_504_and_what_runs_is_answered(
    small_client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = small_client.app.state.service.engine.searcher.encoder  # type: ignore[attr-defined]
    held = HeldEncoder(encoder)
    monkeypatch.setattr(encoder, "embed", held)

    with ThreadPoolExecutor() as pool:
        running = pool.submit(small_client.post, "/search", json={"query": "runs"})
        assert held.begun.wait(10)
        late = small_client.post("/search", json={"query": "late", "timeout_ms": 50})
        busy = small_client.post("/search", json={"query": "busy " * 20})
        held.open.set()

    assert [late.status_code, busy.status_code, running.result().status_code] == [504, 429, 200]
    assert int(busy.headers["Retry-After"]) >= 1
    assert small_client.get("/metrics").text.count("clear_refusals_total{") == 2


def test_a_failing_encoder_is_a_500_and_the_next_request_is_answered(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("secret")

    engine = client.app.state.service.engine  # type: ignore[attr-defined]
    with monkeypatch.context() as patch:
        patch.setattr(engine.searcher.encoder, "embed", fail)
        failed = client.post("/search", json={"query": "that no other test asks"})

    assert failed.status_code == 500
    assert failed.headers["Content-Type"] == "application/problem+json"
    assert "secret" not in failed.text
    assert client.post("/search", json={"query": "a"}).status_code == 200


KEY = "a-key-of-24-characters-!"


@contextmanager
def serving(settings: Settings, **changes: object) -> Iterator[TestClient]:
    with TestClient(create_app(settings.model_copy(update=changes))) as client:
        yield client


def test_a_browser_of_another_origin_is_accepted_only_if_listed(
    service_settings: Settings,
) -> None:
    asked = {
        "Origin": "https://a.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type",
    }
    keys = {"api_key": SecretStr(KEY), "cors_origins": "https://a.example,https://b.example"}
    with serving(service_settings, **keys) as client:
        allowed = client.options("/search", headers=asked)
        refused = client.options("/search", headers=asked | {"Origin": "https://c.example"})
        without_key = client.post("/search", json={}, headers={"Origin": "https://a.example"})

    assert allowed.status_code == 200
    assert allowed.headers["Access-Control-Allow-Origin"] == "https://a.example"
    assert "authorization" in allowed.headers["Access-Control-Allow-Headers"]
    assert "Access-Control-Allow-Credentials" not in allowed.headers
    assert "Access-Control-Allow-Origin" not in refused.headers
    assert without_key.status_code == 401
    assert without_key.headers["Access-Control-Allow-Origin"] == "https://a.example"
    assert "X-Request-Id" in without_key.headers["Access-Control-Expose-Headers"]


def test_without_a_list_no_other_origin_is_accepted(client: TestClient) -> None:
    response = client.get("/livez", headers={"Origin": "https://a.example"})

    assert not any(name.startswith("access-control") for name in response.headers)
