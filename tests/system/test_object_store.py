"""An index on a server of S3's protocol: uploaded, pulled, followed, with faults; slow."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.retrieval.errors import MissingObjectError, StoreError
from service.retrieval.generation.generation import current_name
from service.retrieval.remote.mirror import Mirror
from service.retrieval.remote.store import Store
from service.retrieval.remote.upload import remote_current, upload
from service.settings.settings import Settings
from tests.conftest import run_script
from tests.support.builds import files_of, republish
from tests.support.processes import running, wait_until
from tests.support.s3_server import BUCKET, S3Server, s3_server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    """A server that this process and its children find, with their credentials."""
    pytest.importorskip("moto", reason="moto is not installed")
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    with s3_server() as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.variables.items():
            patch.setenv(name, value)
        yield server


@pytest.fixture
def url(server: S3Server, tmp_path: Path, index_copy: Path) -> Iterator[str]:
    """A URL that `index_copy` is uploaded to; the server has no faults before and after."""
    url = f"s3://{BUCKET}/{tmp_path.name}"
    upload(index_copy, Store(url))
    yield url
    server.fail()
    server.post("/moto-api/reset-auth", "inf")


@pytest.fixture
def client(
    service_settings: Settings, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TestClient]:
    """A service of the URL, which looks at CURRENT when it is asked to."""
    settings = service_settings.model_copy(
        update={"index": url, "index_cache": tmp_path / "copies", "watch_seconds": 0.0}
    )
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        yield client


def served(client: TestClient) -> str:
    answer = client.post("/search", json={"query": "tea"})
    assert answer.status_code == 200
    return str(answer.json()["index"]["generation"])


def metric(client: TestClient, name: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


def test_a_pull_has_the_bytes_of_the_upload_and_a_second_upload_sends_nothing(
    url: str, tmp_path: Path, index_copy: Path
) -> None:
    mirror = Mirror(url, tmp_path / "copy")

    assert mirror.pull_current() == current_name(index_copy)

    assert files_of(mirror.folder) == files_of(index_copy)
    assert upload(index_copy, Store(url)).sent == []


def test_a_service_follows_an_upload_and_keeps_two_generations(
    client: TestClient, url: str, tmp_path: Path, index_copy: Path
) -> None:
    names = [served(client)]
    for text in ("b", "c"):
        names.append(republish(index_copy, text))
        upload(index_copy, Store(url))
        assert client.post("/admin/reload").json()["result"] == "swapped"
        assert served(client) == names[-1]

    [copy] = (tmp_path / "copies").iterdir()
    assert {path.name for path in (copy / "generations").iterdir()} == set(names[1:])
    assert client.post("/admin/reload").json()["result"] == "unchanged"


def truncated(store: Store, name: str) -> None:
    store.write(name, store.read(name)[:-1])


def other_bytes(store: Store, name: str) -> None:
    content = bytearray(store.read(name))
    content[len(content) // 2] ^= 1
    store.write(name, bytes(content))


@pytest.mark.parametrize(
    ("file", "damage", "reason"),
    [
        ("vectors.faiss", truncated, "its manifest says"),
        ("passages.arrow", Store.remove, "is missing"),
        ("vectors.faiss", other_bytes, "was altered"),
        ("manifest.json", other_bytes, "was altered"),
    ],
    ids=["truncated", "vanished", "wrong hash", "wrong manifest"],
)
def test_a_service_keeps_the_old_generation_where_the_new_is_damaged(
    client: TestClient,
    url: str,
    index_copy: Path,
    caplog: pytest.LogCaptureFixture,
    file: str,
    damage: Callable[[Store, str], None],
    reason: str,
) -> None:
    old, store = served(client), Store(url)
    new = republish(index_copy)
    upload(index_copy, store)
    damage(store, f"generations/{new}/{file}")

    reload = client.post("/admin/reload")

    assert reload.status_code == 409
    assert f"generations/{new}/{file}" in reload.json()["detail"]
    assert reason in reload.json()["detail"]
    assert served(client) == old
    assert metric(client, "clear_reload_refused") == 1
    assert "the reload was refused, the live generation stays" in caplog.text
    refused = client.get("/readyz").json()["refused"]
    assert file in refused and BUCKET not in refused
    upload(index_copy, store, is_forced=True)
    assert client.post("/admin/reload").json()["result"] == "swapped"
    assert served(client) == new
    assert metric(client, "clear_reload_refused") == 0


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "does not hold the name"), (b"0" * 32, "manifest.json is missing"), (None, "no index")],
    ids=["empty", "a generation that is not there", "vanished"],
)
def test_a_current_that_points_to_nothing_changes_nothing(
    client: TestClient, url: str, content: bytes | None, reason: str
) -> None:
    old, store = served(client), Store(url)
    if content is None:
        store.remove("CURRENT")
    else:
        store.write("CURRENT", content)

    reload = client.post("/admin/reload")

    assert (reload.status_code, served(client)) == (409, old)
    assert reason in reload.json()["detail"]


@pytest.mark.parametrize(
    ("faults", "reason"),
    [
        ({"status": 500}, "cannot be read or written"),
        ({"status": 403}, "access to .* is denied"),
        ({"cut": True}, "cannot be read or written"),
    ],
    ids=["error", "forbidden", "cut"],
)
def test_a_store_that_fails_changes_nothing_and_is_followed_again(
    client: TestClient, server: S3Server, url: str, faults: dict[str, object], reason: str
) -> None:
    old = served(client)
    server.fail(**faults)

    reload = client.post("/admin/reload")

    assert (reload.status_code, served(client)) == (409, old)
    server.fail()
    assert client.post("/admin/reload").json()["result"] == "unchanged"
    assert metric(client, "clear_reload_refused") == 0
    with pytest.raises(StoreError, match=reason):
        server.fail(**faults)
        remote_current(Store(url))


def test_access_that_is_denied_is_said_in_words(server: S3Server, url: str) -> None:
    """The server checks the signature and the rights of a key that nobody gave."""
    server.post("/moto-api/reset-auth", "0")

    with pytest.raises(StoreError, match=r"^access to s3://.*/CURRENT is denied: check the rights"):
        remote_current(Store(url))


def test_missing_credentials_are_said_in_words(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")

    with pytest.raises(StoreError, match=r"no usable credentials for s3://.*AWS_ACCESS_KEY_ID"):
        remote_current(Store(url))


def test_a_bucket_that_is_not_there_is_said_in_words(server: S3Server) -> None:
    with pytest.raises(MissingObjectError, match="there is no index at s3://nowhere/a"):
        remote_current(Store("s3://nowhere/a"))


def test_a_store_that_cannot_be_reached_is_said_in_words_and_the_copy_is_served(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    copy = tmp_path / "copy"
    name = Mirror(url, copy).pull_current()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")

    assert Mirror(url, copy).start() == name

    assert "CURRENT cannot be read or written (EndpointConnectionError)" in caplog.text


def test_searches_go_on_while_a_slow_store_is_pulled(
    client: TestClient, server: S3Server, url: str, index_copy: Path
) -> None:
    old, new = served(client), republish(index_copy)
    upload(index_copy, Store(url))
    server.fail(delay_seconds=0.1)
    answered: list[str] = []
    pulled = threading.Event()

    def search() -> None:
        while not pulled.is_set():
            answered.append(served(client))

    searching = threading.Thread(target=search)
    searching.start()
    try:
        assert client.post("/admin/reload").json()["result"] == "swapped"
    finally:
        pulled.set()
        searching.join()

    assert answered.count(old) > 10
    assert served(client) == new


def test_documents_are_not_changed_at_a_url(
    service_settings: Settings, url: str, tmp_path: Path
) -> None:
    settings = service_settings.model_copy(
        update={"index": url, "index_cache": tmp_path / "copies", "documents": "open"}
    )
    with TestClient(create_app(settings)) as client:
        answer = client.post("/documents", json={"put": [{"id": "a", "text": "b"}]})

    assert answer.status_code == 409
    assert "run `clear-service index upload`" in answer.json()["detail"]


def test_a_service_starts_without_the_store_from_a_whole_copy_and_follows_it_later(
    server: S3Server, url: str, tiny_checkpoint: Path, tmp_path: Path, index_copy: Path
) -> None:
    copies = tmp_path / "copies"
    name = Mirror(
        url, Settings(index=url, index_cache=copies).index_folder or copies
    ).pull_current()
    variables = {"CLEAR_INDEX_CACHE": str(copies), "CLEAR_WATCH_SECONDS": "0.1"}
    server.fail(status=403)

    with running(tiny_checkpoint, url, **variables) as service:  # type: ignore[arg-type]
        assert any(f"generation {name} of the copy" in line for line in service.log)
        wait_until(lambda: "refused" in json.loads(service.get("/readyz")[1]))
        server.fail()
        wait_until(lambda: service.get("/readyz") == (200, '{"status":"ready"}'))
        assert json.loads(service.get("/info")[1])["index"]["generation"] == name


KILLED = """
import os, pathlib, signal, sys, threading, urllib.request

import aiobotocore.session, s3fs  # once, not in each child

from service.retrieval.remote.mirror import Mirror
from service.retrieval.remote.store import Store
from service.retrieval.remote.upload import upload

index, url, copy, address = sys.argv[1:]
index, copy = pathlib.Path(index), pathlib.Path(copy)
request = urllib.request.Request(
    address + url[4:] + "/CURRENT", headers={"Authorization": "AWS testing:none"}
)

def run_until_done(work, state):
    seconds, status = 0.2, -1
    while status:
        child = os.fork()
        if child == 0:
            work()
            os._exit(0)
        killer = threading.Timer(seconds, os.kill, (child, signal.SIGKILL))
        killer.start()
        status = os.waitpid(child, 0)[1]
        killer.cancel()
        print(state().strip(), end=" ", flush=True)
        seconds *= 1.4
    print(flush=True)

run_until_done(
    lambda: upload(index, Store(url)), lambda: urllib.request.urlopen(request).read().decode()
)
run_until_done(lambda: Mirror(url, copy).pull_current(), (copy / "CURRENT").read_text)
"""


def test_a_kill_at_any_time_leaves_current_right_and_the_next_run_goes_on(
    server: S3Server, url: str, tmp_path: Path, index_copy: Path
) -> None:
    """An upload and then a pull, each killed ever later until it ends by itself."""
    old, copy = current_name(index_copy), tmp_path / "copy"
    Mirror(url, copy).pull_current()
    new = republish(index_copy)
    server.fail(delay_seconds=0.01)

    script = run_script(KILLED, index_copy, url, copy, server.address)

    assert script.returncode == 0, script.stderr
    uploaded, pulled = script.stdout.splitlines()
    for states in (uploaded.split(), pulled.split()):
        assert len(states) >= 3
        assert (states[0], states[-1]) == (old, new)
        assert states == sorted(states, key=[old, new].index)  # never back, and nothing else
    server.fail()
    assert remote_current(Store(url)) == new
    assert Mirror(url, copy).pull_current() == new
    assert files_of(copy) == files_of(index_copy)
