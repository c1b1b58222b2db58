"""Pulls from a share (`file://`); tests/system/test_object_store.py asks a server of S3."""

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.retrieval.errors import GenerationError, RetrievalError, StoreError
from service.retrieval.generation.generation import current_name, open_current
from service.retrieval.generation.history import live_names
from service.retrieval.relevance.choice import CALIBRATION
from service.retrieval.remote.mirror import Mirror
from service.retrieval.remote.store import Store
from service.retrieval.remote.upload import upload
from tests.conftest import cut_short, flip_bit
from tests.support.builds import files_of, republish


@pytest.fixture
def mirror(tmp_path: Path, index_copy: Path) -> Mirror:
    """A mirror of an upload of `index_copy`, which has pulled nothing yet."""
    url = f"file://{tmp_path}/share"
    upload(index_copy, Store(url))
    return Mirror(url, tmp_path / "copy")


def there(mirror: Mirror) -> Path:
    """Return the folder of the generation that is live at the URL."""
    return Path(mirror.url.removeprefix("file://")) / "generations" / mirror.current_name()


def renew(mirror: Mirror, index: Path, text: str = "new") -> str:
    """Publish a generation and upload it; return its name."""
    name = republish(index, text)
    upload(index, Store(mirror.url))
    return name


def altered(path: Path) -> None:
    flip_bit(path)


def gone(path: Path) -> None:
    path.unlink()


def test_a_pull_is_the_index_byte_for_byte(mirror: Mirror, index_copy: Path) -> None:
    name = mirror.pull_current()

    assert name == current_name(mirror.folder) == current_name(index_copy)
    assert files_of(mirror.folder) == files_of(index_copy)
    assert open_current(mirror.folder).name == name


@pytest.mark.parametrize(
    ("file", "damage", "reason"),
    [
        ("vectors.faiss", cut_short, r"vectors.faiss has \d+ bytes, its manifest says \d+"),
        ("vectors.faiss", altered, "vectors.faiss was altered"),
        ("passages.arrow", gone, "passages.arrow is missing"),
        ("manifest.json", altered, "manifest.json was altered"),
    ],
)
def test_a_damaged_upload_is_refused_by_name_and_the_copy_stays_as_it_was(
    mirror: Mirror,
    index_copy: Path,
    file: str,
    damage: Callable[[Path], None],
    reason: str,
) -> None:
    old = mirror.pull_current()
    new = renew(mirror, index_copy)
    damage(there(mirror) / file)

    with pytest.raises(RetrievalError, match=rf"^file://.*/{reason}.*: upload the index again"):
        mirror.pull(new)

    assert current_name(mirror.folder) == old
    assert not (mirror.folder / "generations" / new).exists()
    assert mirror.start() == old


@pytest.mark.parametrize("content", ["", "nonsense", "../../etc/passwd", "0" * 31])
def test_a_current_that_names_nothing_is_refused(mirror: Mirror, content: str) -> None:
    mirror.pull_current()
    (there(mirror).parent.parent / "CURRENT").write_text(content)

    with pytest.raises(GenerationError, match="CURRENT does not hold the name of a generation"):
        mirror.current_name()


def test_a_current_that_names_a_generation_which_is_not_there_is_refused(mirror: Mirror) -> None:
    old = mirror.pull_current()
    (there(mirror).parent.parent / "CURRENT").write_text("0" * 32)

    with pytest.raises(StoreError, match=f"generations/{'0' * 32}/manifest.json is missing"):
        mirror.pull("0" * 32)

    assert mirror.start() == old


def test_a_manifest_that_is_no_json_is_named_by_its_url(mirror: Mirror) -> None:
    content = b"no json"
    forged = hashlib.sha256(content).hexdigest()[:32]
    (there(mirror).parent / forged).mkdir()
    (there(mirror).parent / forged / "manifest.json").write_bytes(content)

    with pytest.raises(
        GenerationError, match=rf"^{mirror.url}/generations/{forged}/manifest.json "
    ):
        mirror.pull(forged)


@pytest.mark.parametrize("name", ["../escaped", "/tmp/escaped", "a/b", "", ".", "manifest.json"])
def test_a_manifest_cannot_name_a_file_outside_its_folder(mirror: Mirror, name: str) -> None:
    """Whoever can write the bucket could else write any file of the service's user."""
    manifest = json.loads((there(mirror) / "manifest.json").read_text())
    manifest["files"][name] = {"size_bytes": 1, "sha256": hashlib.sha256(b"x").hexdigest()}
    content = json.dumps(manifest).encode()
    forged = hashlib.sha256(content).hexdigest()[:32]
    (there(mirror).parent / forged).mkdir()
    (there(mirror).parent / forged / "manifest.json").write_bytes(content)

    with pytest.raises(GenerationError, match="names a file outside its folder"):
        mirror.pull(forged)

    assert {path.name for path in mirror.folder.iterdir()} <= {"generations", ".pull.lock"}


def test_a_pull_goes_on_after_the_files_that_are_there(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []
    genuine = Store.blocks

    def blocks(store: Store, name: str) -> Iterator[bytes]:
        fetched.append(name.rpartition("/")[2])
        if len(fetched) == 2:
            raise StoreError("the network is down")
        return genuine(store, name)

    monkeypatch.setattr(Store, "blocks", blocks)
    with pytest.raises(StoreError, match="the network is down"):
        mirror.pull_current()
    assert not (mirror.folder / "CURRENT").exists()

    mirror.pull_current()

    files = ["identifiers.u64", "passages.arrow", "texts.arrow", "vectors.faiss"]
    assert sorted(fetched) == sorted([*files, fetched[1]])
    open_current(mirror.folder)


def test_a_damaged_copy_is_pulled_again(mirror: Mirror, index_copy: Path) -> None:
    name = mirror.pull_current()
    flip_bit(mirror.folder / "generations" / name / "vectors.faiss")

    assert mirror.start() == name

    assert files_of(mirror.folder) == files_of(index_copy)


def test_without_the_store_a_start_serves_the_copy(
    mirror: Mirror, caplog: pytest.LogCaptureFixture
) -> None:
    name = mirror.pull_current()
    shutil.rmtree(mirror.url.removeprefix("file://"))

    assert mirror.start() == name

    assert "there is no index at file://" in caplog.text
    assert f"generation {name} of the copy in {mirror.folder} is served" in caplog.text


def test_without_the_store_and_a_copy_a_start_fails_with_the_store_s_reason(
    mirror: Mirror,
) -> None:
    shutil.rmtree(mirror.url.removeprefix("file://"))

    with pytest.raises(StoreError, match="there is no index at file://"):
        mirror.start()


def test_the_copy_keeps_the_live_generation_and_the_one_before(
    mirror: Mirror, index_copy: Path
) -> None:
    names = [mirror.pull_current()]
    for text in ("b", "c", "d"):
        renew(mirror, index_copy, text)
        names.append(mirror.pull_current())

    found = {path.name for path in (mirror.folder / "generations").iterdir()}
    assert found == set(names[-2:])
    assert live_names(mirror.folder) == names[-2:]


def test_the_rest_of_a_pull_of_another_generation_is_removed(
    mirror: Mirror, index_copy: Path
) -> None:
    stale = mirror.folder / "generations" / f".pulling-{'0' * 32}"
    stale.mkdir(parents=True)

    mirror.pull_current()

    assert not stale.exists()


def test_the_calibration_of_the_index_is_pulled_with_its_hash(
    mirror: Mirror, index_copy: Path
) -> None:
    share = Path(mirror.url.removeprefix("file://"))
    (index_copy / CALIBRATION).write_text("{}")
    upload(index_copy, Store(mirror.url))
    mirror.pull_current()
    assert (mirror.folder / CALIBRATION).read_text() == "{}"

    (share / CALIBRATION).write_text("[]")
    with pytest.raises(GenerationError, match=r"calibration\.json was altered"):
        mirror.pull_current()

    (index_copy / CALIBRATION).unlink()
    upload(index_copy, Store(mirror.url))
    mirror.pull_current()
    assert not (mirror.folder / CALIBRATION).exists()


def test_a_pull_can_be_stopped_from_another_thread(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that did not answer held up the end of a service for minutes."""
    asked, may_answer = threading.Event(), threading.Event()

    def silent(*arguments: object, **options: object) -> bytes:
        asked.set()
        may_answer.wait()
        raise OSError

    monkeypatch.setattr("fsspec.implementations.local.LocalFileSystem.open", silent)
    stopping = threading.Thread(target=lambda: asked.wait() and mirror.stop())
    stopping.start()

    with pytest.raises(StoreError, match="was not waited for: the program ends"):
        mirror.pull_current()

    may_answer.set()
    stopping.join()
    assert not (mirror.folder / "CURRENT").exists()


def test_processes_that_share_a_copy_pull_one_after_another(mirror: Mirror) -> None:
    others = [Mirror(mirror.url, mirror.folder) for _ in range(4)]
    threads = [threading.Thread(target=other.pull_current) for other in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert open_current(mirror.folder).name == mirror.current_name()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_named_with_its_setting(mirror: Mirror) -> None:
    mirror.folder.mkdir(mode=0o500)

    with pytest.raises(GenerationError, match="set CLEAR_INDEX_CACHE to a folder"):
        mirror.pull_current()


def test_a_copy_in_the_place_of_a_file_is_refused_with_its_setting(mirror: Mirror) -> None:
    mirror.folder.write_text("a file")

    with pytest.raises(GenerationError, match="set CLEAR_INDEX_CACHE to a folder"):
        mirror.pull_current()
