import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from starlette.testclient import TestClient

from service.app import create_app
from service.auth.keys import make_key, write_line
from service.changes.journal import Journal
from service.engine.reloader import Reloader
from service.errors import ReloadRefusedError
from service.retrieval.corpus.reader import Passage
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.generation.generation import current_name, open_current
from service.retrieval.indexing.build import build_index
from service.settings.settings import Settings
from tests.support.builds import files_of

KEY = "a-key-of-sixteen-characters"
OLD = {str(number): f"passage {number} of tea" for number in range(5)}


def passages(texts: dict[str, str]) -> list[tuple[str, Passage]]:
    return [("f", Passage(name, text)) for name, text in texts.items()]


@pytest.fixture
def index(tmp_path: Path, tiny_encoder: Encoder) -> Path:
    build_index(passages(OLD), tmp_path / "index", tiny_encoder, fields={"year": "number"})
    return tmp_path / "index"


Start = Callable[..., TestClient]


@pytest.fixture
def start(index: Path, tiny_checkpoint: Path) -> Iterator[Start]:
    """Start services of the index, each until the end of the test."""
    running: list[TestClient] = []

    def start(**settings: Any) -> TestClient:
        chosen = {"documents": "open", "apply_seconds": 0.01, "watch_seconds": 0.02} | settings
        app = create_app(
            Settings(encoder=str(tiny_checkpoint), index=index, device="cpu", **chosen)
        )
        running.append(TestClient(app, raise_server_exceptions=False))
        running[-1].__enter__()
        return running[-1]

    yield start
    for client in running:
        client.__exit__(None, None, None)


def change(client: TestClient, status: int = 200, **body: Any) -> dict[str, Any]:
    answer = client.post("/documents", json={"wait": True} | body)
    assert answer.status_code == status, answer.text
    return dict(answer.json())


def text_of(client: TestClient, document_id: str) -> str | None:
    answer = client.get(f"/documents/{document_id}")
    return answer.json()["document"]["text"] if answer.status_code == 200 else None


def problem_of(client: TestClient, **body: Any) -> tuple[int, str, str | None]:
    answer = client.post("/documents", json=body)
    problem = answer.json()
    return answer.status_code, problem["detail"], problem.get("field")


def test_a_change_goes_live_and_equals_a_fresh_build(
    index: Path, tmp_path: Path, start: Start, tiny_encoder: Encoder
) -> None:
    client = start()
    put = [
        {"id": "new", "text": "Nairobi", "title": "Kenya", "year": 2026},
        {"id": 1, "text": "changed"},
    ]

    found = change(client, put=put, delete=[2, "unknown"])

    assert found == {
        "change": 1,
        "state": "applied",
        "generation": current_name(index),
        "reason": None,
    }
    assert client.get("/changes/1").json() == found
    answer = client.get("/documents/new").json()
    assert answer["document"] == {
        "id": "new",
        "title": "Kenya",
        "text": "Nairobi",
        "metadata": {"year": 2026},
    }
    assert answer["waiting"] is None
    assert answer["index"] == {"generation": current_name(index), "passages": 5}
    assert [text_of(client, name) for name in ("0", "1", "2")] == [OLD["0"], "changed", None]
    [result] = client.post("/search", json={"query": "Nairobi", "top_k": 5}).json()["results"]
    assert {hit["passage_id"] for hit in result["hits"]} == {"0", "1", "3", "4", "new"}
    expected = {name: text for name, text in OLD.items() if name != "2"} | {"1": "changed"}
    new = ("f", Passage("new", "Nairobi", "Kenya", {"year": 2026}))
    fields = {"year": "number"}
    build_index([*passages(expected), new], tmp_path / "fresh", tiny_encoder, fields=fields)  # type: ignore[arg-type]
    assert files_of(index) == files_of(tmp_path / "fresh")


def test_a_change_is_acknowledged_before_it_is_live(start: Start) -> None:
    client = start(apply_seconds=0.3)
    change(client, put=[{"id": "a", "text": "first"}])

    answer = client.post("/documents", json={"put": [{"id": "b", "text": "t"}], "delete": ["1"]})

    assert answer.status_code == 202
    assert answer.json() == {"change": 2, "state": "waiting", "generation": None, "reason": None}
    assert client.get("/changes/2").json()["state"] == "waiting"
    assert client.get("/documents/b").json()["document"] is None
    assert client.get("/documents/b").json()["waiting"] == {"change": 2, "deletes": False}
    assert client.get("/documents/1").json()["document"]["text"] == OLD["1"]
    assert client.get("/documents/1").json()["waiting"] == {"change": 2, "deletes": True}
    facts = client.get("/info").json()["changes"]
    assert (facts["is_writer"], facts["waiting_documents"]) == (True, 2)
    assert 0 <= facts["oldest_seconds"] < 60
    metrics = client.get("/metrics").text
    assert "clear_waiting_documents 2.0" in metrics
    assert "clear_index_writer 1.0" in metrics


@pytest.mark.slow
def test_a_wait_ends_with_its_deadline(start: Start) -> None:
    client = start(apply_seconds=5.0)
    change(client, put=[{"id": "a", "text": "first"}])

    found = change(client, 202, put=[{"id": "b", "text": "t"}], timeout_ms=1)

    assert found["state"] == "waiting"


def test_a_change_whose_generation_is_not_served_is_202_with_the_reason(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(reloader: Reloader) -> None:
        raise ReloadRefusedError("it fails its canary query 1")

    client = start()
    with monkeypatch.context() as patched:
        patched.setattr(Reloader, "reload", refuse)
        found = change(client, 202, put=[{"id": "a", "text": "tea"}], wait=True)

    assert found["state"] == "applied"
    assert found["reason"] == "its generation is not served: it fails its canary query 1"
    assert change(client, put=[{"id": "b", "text": "sea"}], wait=True)["reason"] is None
    assert text_of(client, "a") == "tea"


@pytest.mark.slow
def test_changes_of_one_document_are_applied_in_their_order(start: Start) -> None:
    client = start(apply_seconds=0.2)
    for number in range(20):
        client.post("/documents", json={"put": [{"id": "a", "text": f"version {number}"}]})

    change(client, delete=["4"])

    assert text_of(client, "a") == "version 19"


@pytest.mark.slow
def test_a_restart_applies_what_waited_and_keeps_results(index: Path, start: Start) -> None:
    first = start(apply_seconds=60.0)
    change(first, put=[{"id": "a", "text": "first"}])
    first.post("/documents", json={"put": [{"id": "b", "text": "waits"}]})
    first.__exit__(None, None, None)

    second = start()
    found = change(second, delete=["0"])

    first.__enter__()  # closed at the end of the test
    assert found["change"] == 3
    assert text_of(second, "b") == "waits"
    assert second.get("/changes/1").json()["state"] == "applied"
    assert open_current(index).passages.find("0") is None


@pytest.mark.slow
@pytest.mark.parametrize("is_published", [True, False])
def test_a_change_whose_writer_was_killed_around_its_publication_is_applied_once(
    index: Path, start: Start, tiny_encoder: Encoder, is_published: bool
) -> None:
    base = current_name(index)
    new = OLD | {"a": "tea"}
    if is_published:
        build_index(passages(new), index, tiny_encoder, fields={"year": "number"})
    (index / "changes").mkdir()
    journal = Journal(index / "changes" / "journal", print)
    name = current_name(index) if is_published else "0" * 32
    journal.append(
        [
            {"change": 7, "at": 1.0, "put": [["a", "tea", "", {}]], "delete": []},
            {"prepared": [7], "generation": name, "base": base},
        ]
    )
    journal.close()

    client = start()
    found = change(client, put=[{"id": "b", "text": "next"}])

    assert found["change"] == 8
    assert text_of(client, "a") == "tea"
    seventh = client.get("/changes/7").json()
    assert seventh["state"] == "applied"
    assert (seventh["generation"] == name) == is_published


@pytest.mark.slow
def test_a_refused_change_does_not_stop_others(start: Start, tiny_encoder: Encoder) -> None:
    client = start(apply_seconds=0.2)
    change(client, put=[{"id": "a", "text": "first"}])

    for body in (
        {"put": [{"id": "b", "text": "good"}]},
        {"delete": ["0", "1", "2", "3", "4", "a", "b"]},
        {"put": [{"id": "c", "text": "good"}]},
    ):
        assert client.post("/documents", json=body).status_code == 202
    change(client, delete=["c"])

    found = [client.get(f"/changes/{number}").json() for number in (2, 3, 4, 5)]
    assert [each["state"] for each in found] == ["applied", "refused", "applied", "applied"]
    assert found[1]["reason"].startswith("no document would be left: ")
    assert [text_of(client, name) for name in "0bc"] == [OLD["0"], "good", None]


INVALID: list[tuple[dict[str, Any], str, str]] = [
    ({}, "put", "must hold 1 to 1000 documents together"),
    ({"put": [], "delete": []}, "put", "must hold 1 to 1000 documents together"),
    ({"delete": [str(n) for n in range(1001)]}, "delete", "at most 1000 items"),
    ({"put": [{"id": "a"}]}, "put[0].text", "Field required"),
    ({"put": [{"id": "a", "text": " "}]}, "put[0].text", "must not be empty"),
    ({"put": [{"id": "", "text": "t"}]}, "put[0].id", "at least 1 character"),
    ({"put": [{"id": 7.5, "text": "t"}]}, "put[0].id", "valid string"),
    ({"put": [{"id": True, "text": "t"}]}, "put[0].id", "valid string"),
    ({"put": [{"id": 7, "text": "t"}], "delete": ["7"]}, "delete[0]", "another document"),
    ({"put": [{"id": "a", "text": "t", "year": "x"}]}, "put[0].year", "has a `year` that is not a"),
    (
        {"put": [{"id": "a", "text": "t", "metadata": {"year": "x"}}]},
        "put[0].metadata.year",
        "has a `year` that is not a",
    ),
    ({"put": [{"id": "a", "text": "t", "title": "\0"}]}, "put[0].title", "NUL character"),
    ({"put": [{"id": "a", "text": "t\0"}]}, "put[0].text", "NUL character"),
    ({"put": [{"id": "a\0", "text": "t"}]}, "put[0].id", "NUL character"),
    ({"put": [{"id": "a", "text": "t", "year": 10**400}]}, "put[0].year", "is not a number"),
    ({"put": [{"id": "a", "text": "t", "delete": True}]}, "put[0].delete", "id into `delete` of"),
    ({"put": [{"id": "a", "text": "t"}] * 2}, "put[1].id", "is that of another document"),
    ({"put": [{"id": "a", "text": "t"}], "delete": ["a"]}, "delete[0]", "another document"),
    ({"delete": ["a"], "puts": []}, "puts", "did you mean put?"),
]


def test_an_invalid_request_changes_nothing(start: Start) -> None:
    client = start()
    for body, field, reason in INVALID:
        status, detail, found = problem_of(client, **body)

        assert (status, found) == (422, field)
        assert reason in detail

    assert client.get("/changes/1").json()["title"] == "Unknown change"
    assert client.get("/documents/none").json()["title"] == "Unknown document"
    assert client.get("/changes/x").status_code == 422


def test_only_one_process_writes_and_others_name_it(start: Start, index: Path) -> None:
    (index / "changes").mkdir()
    (index / "changes" / "WRITER").write_text("pod-1, process 7\n")
    with FileLock(index / "changes" / ".lock"):
        client = start()
        status, detail, _ = problem_of(client, delete=["1"])
        assert client.get("/changes/1").status_code == 409
        assert client.get("/documents/1").json()["waiting"] is None
    assert status == 409
    assert detail == "the changes of this index are written by pod-1, process 7: send them there"

    change(client, delete=["1"])  # the other one has ended

    assert text_of(client, "1") is None
    assert f"process {os.getpid()}" in (index / "changes" / "WRITER").read_text()


@pytest.mark.slow
def test_a_replica_follows_the_writer(start: Start) -> None:
    writer, replica = start(), start()
    change(writer, put=[{"id": "a", "text": "tea"}])
    assert problem_of(replica, delete=["1"])[0] == 409

    ends = time.monotonic() + 30
    while text_of(replica, "a") is None:
        assert time.monotonic() < ends
        time.sleep(0.01)


def test_without_keys_documents_are_closed(start: Start) -> None:
    client = start(documents="auto")

    status, detail, _ = problem_of(client, delete=["1"])

    assert status == 403
    assert "one with the scope write, or set CLEAR_DOCUMENTS=open" in detail
    assert client.get("/changes/1").status_code == 403
    assert client.get("/info").json()["changes"] is None
    assert text_of(client, "1") == OLD["1"]


def test_with_keys_the_scope_write_is_needed(start: Start) -> None:
    secret, key = make_key(["search"])
    client = start(documents="auto", api_key=KEY, keys=write_line("page", key))
    by = {name: {"Authorization": f"Bearer {name}"} for name in (KEY, secret)}

    body = {"delete": ["1"], "wait": True}
    assert client.post("/documents", json=body).status_code == 401
    assert client.post("/documents", json=body, headers=by[secret]).status_code == 403
    assert client.get("/changes/1", headers=by[secret]).status_code == 403
    assert client.get("/documents/1", headers=by[secret]).status_code == 200
    assert client.post("/documents", json=body, headers=by[KEY]).status_code == 200


@pytest.mark.slow
def test_too_many_waiting_documents_are_refused(start: Start) -> None:
    client = start(apply_seconds=30.0, max_waiting_documents=2)
    change(client, delete=["0"])
    assert client.post("/documents", json={"delete": ["1", "2"]}).status_code == 202

    answer = client.post("/documents", json={"delete": ["3"]})

    assert answer.status_code == 429
    assert answer.headers["Retry-After"] == "30"


def test_a_full_disk_refuses_and_keeps_what_was_acknowledged(
    start: Start, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = start()
    change(client, delete=["0"])
    before = (index / "changes" / "journal").read_bytes()

    def fail(descriptor: int, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("service.changes.journal._write", fail)
        answer = client.post("/documents", json={"delete": ["1"]})

    assert answer.status_code == 507
    assert "the change was not accepted: the disk is full" in answer.json()["detail"]
    assert (index / "changes" / "journal").read_bytes() == before
    assert change(client, delete=["2"])["state"] == "applied"
    assert [text_of(client, name) for name in "12"] == [OLD["1"], None]


@pytest.mark.slow
def test_a_damaged_journal_refuses_changes_and_search_goes_on(start: Start, index: Path) -> None:
    (index / "changes").mkdir()
    (index / "changes" / "journal").write_bytes(b"00000000 {}\n00000000 {}\n")
    client = start()

    status, detail, _ = problem_of(client, delete=["1"])

    assert status == 409
    assert detail.startswith("this instance cannot change documents: ")
    assert "journal:1 is damaged" in detail
    assert client.post("/search", json={"query": "tea"}).status_code == 200


@pytest.mark.slow
def test_another_encoder_setting_than_the_builds_refuses_changes(start: Start) -> None:
    client = start(max_tokens=8)

    status, detail, _ = problem_of(client, delete=["1"])

    assert status == 409
    assert "8 tokens at the most" in detail


@pytest.mark.slow
def test_old_generations_made_of_changes_are_removed_and_others_kept(
    start: Start, index: Path
) -> None:
    first = current_name(index)
    client = start()

    names = [
        change(client, put=[{"id": "a", "text": f"version {number}"}])["generation"]
        for number in range(6)
    ]

    change(client, delete=["0"])
    left = {path.name for path in (index / "generations").iterdir()}
    assert first in left
    assert left & set(names[:3]) == set()
    assert (index / "HISTORY").read_text().split()[0] == first


@pytest.mark.slow
def test_many_clients_change_and_search_at_once(start: Start) -> None:
    client = start(apply_seconds=0.05)
    errors: list[object] = []

    def work(name: int) -> None:
        for number in range(5):
            body = {"put": [{"id": f"{name}-{number}", "text": f"tea {name} {number}"}]}
            answer = client.post("/documents", json=body)
            if answer.status_code != 202:
                errors.append(answer.text)
            found = client.post("/search", json={"query": "tea", "top_k": 3})
            if len(found.json()["results"][0]["hits"]) != 3:
                errors.append(found.text)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    change(client, delete=["0"])

    assert errors == []
    wanted = [f"{name}-{number}" for name in range(8) for number in range(5)]
    assert [name for name in wanted if text_of(client, name) is None] == []
    assert json.loads(client.get("/info").text)["index"]["passages"] == 44
