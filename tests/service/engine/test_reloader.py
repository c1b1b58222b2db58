import asyncio
import copy
import shutil
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.engine import reloader
from service.engine.engine import Engine
from service.engine.outcome import SearchOutcome
from service.engine.page import Page
from service.errors import ReloadRefusedError
from service.retrieval.corpus.reader import Passage
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.generation import room as memory
from service.retrieval.generation.generation import ON_CPU, current_name, open_current
from service.retrieval.generation.history import roll_back
from service.retrieval.indexing.build import build_index
from service.retrieval.searcher import Searcher
from service.settings.settings import Settings
from service.telemetry.metrics import Metrics
from tests.conftest import cut_short, flip_bit
from tests.service.engine.test_engine import make_engine
from tests.support.builds import rewrite_manifest
from tests.support.fake_runtime import FakeRuntime

FILES = ["manifest.json", "vectors.faiss", "passages.arrow", "texts.arrow", "identifiers.u64"]
WAIT_SECONDS = 60


def publish(index: Path, encoder: Encoder, text: str = "new") -> str:
    """Publish a generation of twenty passages that hold a text; return its name."""
    passages = [("f", Passage(f"{text}.{row}", f"{text} {row}")) for row in range(20)]
    return build_index(passages, index, encoder).directory.name


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def serve(settings: Settings, index: Path, **changes: object) -> TestClient:
    found = settings.model_copy(update={"index": index, "watch_seconds": 0.0, **changes})
    return TestClient(create_app(found), raise_server_exceptions=False)


@pytest.fixture
def client(service_settings: Settings, index_copy: Path) -> Iterator[TestClient]:
    """Serve an index that the test may change; CURRENT is not watched."""
    with serve(service_settings, index_copy) as client:
        yield client


def served(client: TestClient) -> tuple[str, int, set[str]]:
    """Return the generation that a response names, its size, and the ids of the hits."""
    answer = client.post("/search", json={"query": "tea", "top_k": 20}).json()
    hits = answer["results"][0]["hits"]
    index = answer["index"]
    return index["generation"], index["passages"], {hit["passage_id"] for hit in hits}


def metric(client: TestClient, series: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(series))


def test_a_reload_serves_the_new_generation(
    client: TestClient, index_copy: Path, tiny_encoder: Encoder
) -> None:
    before = served(client)
    new = publish(index_copy, tiny_encoder)
    assert served(client) == before

    reload = client.post("/admin/reload")

    assert (reload.status_code, reload.json()["result"]) == (200, "swapped")
    assert reload.json()["index"] == {"generation": new, "passages": 20}
    assert served(client) == (new, 20, {f"new.{row}" for row in range(20)})
    assert client.get("/info").json()["index"]["generation"] == new
    assert metric(client, 'clear_reloads_total{result="swapped"}') == 1
    assert metric(client, "clear_index_passages") == 20
    assert client.get("/metrics").text.count("clear_index_info{") == 1


def test_reloading_the_live_generation_changes_nothing(
    client: TestClient, index_copy: Path
) -> None:
    reload = client.post("/admin/reload")

    assert (reload.status_code, reload.json()["result"]) == (200, "unchanged")
    assert reload.json()["index"]["generation"] == current_name(index_copy)


def test_a_rollback_is_served_like_any_other_change(
    client: TestClient, index_copy: Path, tiny_encoder: Encoder
) -> None:
    before = served(client)
    publish(index_copy, tiny_encoder)
    client.post("/admin/reload")

    roll_back(index_copy)
    client.post("/admin/reload")

    assert served(client) == before


@pytest.mark.parametrize(
    ("host", "admin", "status"),
    [
        ("127.0.0.1", "auto", 200),
        ("::1", "auto", 200),
        ("0.0.0.0", "auto", 403),
        ("0.0.0.0", "open", 200),
        ("127.0.0.1", "closed", 403),
    ],
)
def test_administration_is_open_on_loopback_by_default(
    service_settings: Settings, tiny_index: Path, host: str, admin: str, status: int
) -> None:
    with serve(service_settings, tiny_index, host=host, admin=admin) as client:
        reload = client.post("/admin/reload")

    assert reload.status_code == status
    assert status == 200 or "CLEAR_ADMIN" in reload.json()["detail"]


def another_generation_s(path: Path) -> None:
    """Replace the file by that of the previous generation."""
    others = [other for other in path.parent.parent.iterdir() if other != path.parent]
    shutil.copy(others[0] / path.name, path)


@pytest.mark.parametrize("damage", [flip_bit, cut_short, Path.unlink, another_generation_s])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_generation_is_refused_by_the_file_s_name_and_the_old_one_stays(
    client: TestClient,
    index_copy: Path,
    tiny_encoder: Encoder,
    name: str,
    damage: Callable[[Path], None],
) -> None:
    before = served(client)
    new = publish(index_copy, tiny_encoder)
    directory = index_copy / "generations" / new
    whole = (directory / name).read_bytes()
    damage(directory / name)

    reload = client.post("/admin/reload")
    ready = client.get("/readyz")

    assert reload.status_code == 409
    assert reload.json()["detail"].startswith(f"generations/{new}/{name} ")
    assert served(client) == before
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")
    assert ready.json()["refused"] == reload.json()["detail"]
    assert metric(client, "clear_reload_refused") == 1
    assert metric(client, 'clear_reloads_total{result="refused"}') == 1

    (directory / name).write_bytes(whole)
    assert client.post("/admin/reload").json()["result"] == "swapped"
    assert client.get("/readyz").json() == {"status": "ready"}
    assert metric(client, "clear_reload_refused") == 0


@pytest.mark.parametrize(
    ("current", "reason"),
    [("garbage", "CURRENT does not hold"), ("0" * 32, f"generations/{'0' * 32} is missing")],
)
def test_a_current_that_names_nothing_is_refused(
    client: TestClient, index_copy: Path, current: str, reason: str
) -> None:
    before = served(client)
    (index_copy / "CURRENT").write_text(current)

    reload = client.post("/admin/reload")

    assert reload.status_code == 409
    assert reason in reload.json()["detail"]
    assert str(index_copy) + "/" not in reload.json()["detail"]
    assert served(client) == before


def missing(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (index / "CURRENT").unlink()


def unreadable(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path.resolve() / "CURRENT"))

    monkeypatch.setattr(reloader, "current_name", refuse)


def altered(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "1" * 32
    shutil.copytree(index / "generations" / current_name(index), index / "generations" / name)
    (index / "CURRENT").write_text(name)


@pytest.mark.parametrize("damage", [missing, unreadable, altered])
def test_no_open_answer_and_no_log_at_info_holds_a_path_of_the_machine(
    client: TestClient,
    index_copy: Path,
    damage: Callable[[Path, pytest.MonkeyPatch], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Of an index whose CURRENT is missing `/readyz` named the folder."""
    damage(index_copy, monkeypatch)

    with caplog.at_level("INFO"):
        answers = [client.post("/admin/reload").text]
    answers += [client.get(path).text for path in ("/readyz", "/info", "/metrics", "/livez")]

    assert "refused" in answers[1] and "refused" in caplog.text
    for text in [*answers, caplog.messages[-1]]:
        assert str(index_copy.parent) not in text
        assert index_copy.parent.name not in text


def test_a_generation_of_another_encoder_is_refused(
    client: TestClient, index_copy: Path, other_encoder: Encoder
) -> None:
    before = served(client)
    publish(index_copy, other_encoder)

    reload = client.post("/admin/reload")

    assert reload.status_code == 409
    assert other_encoder.fingerprint[:16] in reload.json()["detail"]
    assert served(client) == before


def test_a_generation_that_fails_its_canaries_is_refused(
    client: TestClient, index_copy: Path
) -> None:
    before = served(client)
    canary = {"query": "tea", "passage_ids": ["no such passage"]}
    (index_copy / "CURRENT").write_text(rewrite_manifest(index_copy, canaries=[canary]).name)

    reload = client.post("/admin/reload")

    assert reload.status_code == 409
    assert "fails its canary query" in reload.json()["detail"]
    assert served(client) == before


def test_a_generation_without_canaries_is_served_at_once(
    client: TestClient, index_copy: Path
) -> None:
    name = rewrite_manifest(index_copy, canaries=[]).name
    (index_copy / "CURRENT").write_text(name)

    assert client.post("/admin/reload").status_code == 200
    assert served(client)[0] == name


def test_passages_that_tie_are_no_canaries(
    client: TestClient, index_copy: Path, tiny_encoder: Encoder
) -> None:
    texts = ["Tea grows.", "The capital of Kenya", "A mountain lake", *["harp"] * 13]
    passages = [("f", Passage(str(row), text)) for row, text in enumerate(texts)]
    build_index(passages, index_copy, tiny_encoder)
    canaries = open_current(index_copy).manifest.canaries

    assert {bool(each.passage_ids) for each in canaries if each.query == "harp"} == {False}
    assert any(each.passage_ids for each in canaries)
    assert client.post("/admin/reload").status_code == 200


def test_a_generation_that_does_not_fit_beside_the_live_one_is_refused(
    client: TestClient, index_copy: Path, tiny_encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = served(client)
    publish(index_copy, tiny_encoder)
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1000)

    reload = client.post("/admin/reload")

    assert reload.status_code == 409
    assert "0.00 GiB are free" in reload.json()["detail"]
    assert served(client) == before


def test_a_changed_current_is_noticed(
    service_settings: Settings, index_copy: Path, tiny_encoder: Encoder
) -> None:
    with serve(service_settings, index_copy, watch_seconds=0.01) as client:
        new = publish(index_copy, tiny_encoder)
        wait_until(lambda: served(client)[0] == new)


def test_a_generation_copied_halfway_is_served_once_it_is_whole(
    service_settings: Settings, index_copy: Path, tiny_encoder: Encoder
) -> None:
    with serve(service_settings, index_copy) as quiet:
        new = publish(index_copy, tiny_encoder)
        late = index_copy / "generations" / new / "passages.arrow"
        content = late.read_bytes()
        late.unlink()
        state: Any = quiet.app.state.service  # type: ignore[attr-defined]
        quiet.portal.call(state.reloader.watch, 0.01)  # type: ignore[union-attr]
        wait_until(lambda: "refused" in quiet.get("/readyz").json())

        late.write_bytes(content)

        wait_until(lambda: served(quiet)[0] == new)
        assert quiet.get("/readyz").json() == {"status": "ready"}


def test_a_refused_generation_is_retried_with_back_off(
    service_settings: Settings, index_copy: Path, tiny_encoder: Encoder
) -> None:
    with serve(service_settings, index_copy, watch_seconds=0.01) as client:
        new = publish(index_copy, tiny_encoder)
        wait_until(lambda: served(client)[0] == new)
        (index_copy / "CURRENT").write_text("0" * 32)
        time.sleep(0.5)

        # retries after .01, .02, .04, .08, .16, .32 s: 6 instead of 50
        assert 1 <= metric(client, 'clear_reloads_total{result="refused"}') <= 10


def two_searchers(index: Path, encoder: Encoder) -> tuple[Engine, Searcher]:
    engine = make_engine(encoder, index)
    publish(index, encoder)
    return engine, Searcher(encoder, open_current(index))


def test_a_request_in_several_batches_is_answered_from_one_generation(
    index_copy: Path, tiny_encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The swap happens while its first batch runs; later requests use the new generation."""
    engine, new = two_searchers(index_copy, tiny_encoder)
    old = engine.searcher
    begun, may_go = threading.Event(), threading.Event()
    genuine = old.rank

    def rank(*arguments: Any) -> Any:
        begun.set()
        assert may_go.wait(WAIT_SECONDS)
        return genuine(*arguments)

    monkeypatch.setattr(old, "rank", rank)

    def search(queries: list[str]) -> "asyncio.Task[SearchOutcome]":
        deadline = time.monotonic() + WAIT_SECONDS
        work = engine.search(queries, Page(12), language=None, deadline=deadline)
        return asyncio.ensure_future(work)

    async def scenario() -> tuple[SearchOutcome, SearchOutcome]:
        first = search([f"question {number} " * 20 for number in range(60)])
        await asyncio.to_thread(begun.wait, WAIT_SECONDS)
        engine.replace(new)
        second = search(["tea"])
        await asyncio.sleep(0.01)
        may_go.set()
        return await first, await second

    first, second = asyncio.run(scenario())
    engine.close()

    assert first.generation.name == old.generation.name
    assert second.generation.name == new.generation.name
    for hits in first.hits:
        assert len(hits) == 12
        assert not any(hit.passage.passage_id.startswith("new.") for hit in hits)
    assert all(hit.passage.passage_id.startswith("new.") for hit in second.hits[0])


def test_the_old_generation_is_freed_after_its_last_query(
    index_copy: Path, tiny_encoder: Encoder
) -> None:
    engine, new = two_searchers(index_copy, tiny_encoder)
    old = weakref.ref(engine.searcher.generation)

    async def search() -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        await engine.search(["tea"], Page(3), language=None, deadline=deadline)

    asyncio.run(search())
    engine.replace(new)
    wait_until(lambda: old() is None)
    engine.close()


def test_a_generation_whose_canary_query_gets_no_unit_vector_is_refused(
    tiny_encoder: Encoder, index_copy: Path
) -> None:
    encoder = copy.copy(tiny_encoder)
    encoder.runtime = fake = FakeRuntime(encoder.embedding_dim)
    engine = make_engine(encoder, index_copy)
    publish(index_copy, tiny_encoder)
    [spoiled] = encoder.tokenize(["new 7"], "query")
    [other] = encoder.tokenize(["new 0"], "query")
    fake.spoiled_token = (set(spoiled.token_ids) - set(other.token_ids)).pop()
    name = engine.searcher.generation.name

    try:
        reload = reloader.Reloader(engine, index_copy, ON_CPU, Metrics()).reload()
        with pytest.raises(ReloadRefusedError, match=r"fails its canary query \d: the encoder"):
            asyncio.run(reload)
    finally:
        engine.close()

    assert engine.searcher.generation.name == name
