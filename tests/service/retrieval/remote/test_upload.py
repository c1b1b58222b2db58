"""Uploads to a share (`file://`); tests/system/test_object_store.py asks a server of S3."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from service.retrieval.errors import GenerationError, MissingObjectError, StoreError
from service.retrieval.generation.generation import current_name
from service.retrieval.generation.history import collect_garbage, roll_back
from service.retrieval.relevance.choice import CALIBRATION
from service.retrieval.remote.store import Store
from service.retrieval.remote.upload import remote_current, upload
from tests.conftest import cut_short, flip_bit
from tests.support.builds import live_directory, republish

FILES = ["identifiers.u64", "passages.arrow", "texts.arrow", "vectors.faiss", "manifest.json"]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A share that is empty."""
    return Store(f"file://{tmp_path}/share/index")


def share(store: Store) -> Path:
    return Path(store.url.removeprefix("file://"))


def test_an_upload_is_the_folder_with_the_hash_of_each_file_beside_it(
    store: Store, index_copy: Path
) -> None:
    report = upload(index_copy, store)

    name, there = current_name(index_copy), share(store)
    assert report.generation == remote_current(store) == name
    assert sorted(report.sent) == sorted(FILES)
    assert report.num_bytes == sum(
        (live_directory(index_copy) / file).stat().st_size for file in FILES
    )
    for file in FILES:
        path = there / "generations" / name / file
        assert path.read_bytes() == (live_directory(index_copy) / file).read_bytes()
    hashes = sorted(each.name for each in (there / "generations" / name).glob("*.sha256"))
    subprocess.run(
        ["sha256sum", "--check", "--strict", *hashes],
        cwd=there / "generations" / name,
        check=True,
        capture_output=True,
    )


def test_current_is_written_last_and_the_manifest_before_it(
    store: Store, index_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    send, write = Store.send, Store.write
    monkeypatch.setattr(
        Store,
        "send",
        lambda self, path, name, done: order.append(name) or send(self, path, name, done),
    )
    monkeypatch.setattr(
        Store, "write", lambda self, name, text: order.append(name) or write(self, name, text)
    )

    upload(index_copy, store)

    prefix = f"generations/{current_name(index_copy)}/"
    assert order[-4:] == [
        f"{prefix}manifest.json",
        f"{prefix}manifest.json.sha256",
        "CURRENT",
        "HISTORY",
    ]


def test_an_index_that_was_built_there_is_left_as_it_is(index_copy: Path, tmp_path: Path) -> None:
    built = tmp_path / "built"
    shutil.copytree(index_copy, built)
    before = sorted(path for path in built.rglob("*") if path.is_file())

    with pytest.raises(StoreError, match="is an index that was built there, not an upload"):
        upload(index_copy, Store(f"file://{built}"), keep=0)

    assert sorted(path for path in built.rglob("*") if path.is_file()) == before


@pytest.mark.parametrize("below", ["", "/generations/new"])
def test_an_index_is_not_uploaded_into_itself(index_copy: Path, below: str) -> None:
    before = sorted(index_copy.rglob("*"))

    with pytest.raises(StoreError, match="is the folder of the index itself, or in it: name"):
        upload(index_copy, Store(f"file://{index_copy}{below}"))

    assert sorted(index_copy.rglob("*")) == before


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that no one can fill")
def test_a_place_where_no_folder_can_be_made_is_named(index_copy: Path) -> None:
    with pytest.raises(StoreError, match=r"file:///proc/nope .*: .*name another place|denied"):
        upload(index_copy, Store("file:///proc/nope"))


def test_what_is_there_with_its_hash_is_not_sent_again(store: Store, index_copy: Path) -> None:
    upload(index_copy, store)
    there = share(store) / "generations" / current_name(index_copy)
    assert upload(index_copy, store).sent == []

    cut_short(there / "vectors.faiss")
    (there / "passages.arrow.sha256").unlink()
    (there / "texts.arrow.sha256").write_text("0" * 64)
    again = upload(index_copy, store)

    assert sorted(again.sent) == ["passages.arrow", "texts.arrow", "vectors.faiss"]
    assert again.kept == ["identifiers.u64", "manifest.json"]
    assert upload(index_copy, store).sent == []


def test_a_file_that_was_altered_there_is_sent_again_by_force(
    store: Store, index_copy: Path
) -> None:
    upload(index_copy, store)
    there = share(store) / "generations" / current_name(index_copy)
    flip_bit(there / "vectors.faiss")
    assert upload(index_copy, store).sent == []

    assert sorted(upload(index_copy, store, is_forced=True).sent) == sorted(FILES)

    assert (there / "vectors.faiss").read_bytes() == (
        live_directory(index_copy) / "vectors.faiss"
    ).read_bytes()


def test_progress_is_the_bytes_that_are_there(store: Store, index_copy: Path) -> None:
    told: list[tuple[str, int, int | None]] = []

    report = upload(index_copy, store, on_progress=lambda *facts: told.append(facts))

    numbers = [done for _, done, _ in told]
    assert {(stage, total) for stage, _, total in told} == {("upload", report.num_bytes)}
    assert numbers == sorted(numbers)
    assert (numbers[0], numbers[-1]) == (0, report.num_bytes)


def test_a_damaged_generation_is_not_uploaded(store: Store, index_copy: Path) -> None:
    flip_bit(live_directory(index_copy) / "passages.arrow")

    with pytest.raises(GenerationError, match=r"passages\.arrow was altered"):
        upload(index_copy, store)

    with pytest.raises(MissingObjectError, match="there is no index at file://.*: upload one with"):
        remote_current(store)


@pytest.mark.parametrize("step", ["send", "write", "size_bytes"])
def test_an_upload_that_fails_anywhere_leaves_current_as_it_was_and_goes_on_later(
    store: Store, index_copy: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(index_copy, store)
    old, new = current_name(index_copy), republish(index_copy)
    genuine, calls, is_live = getattr(Store, step), 0, False

    def fails(store: Store, name: str, *arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls % 2 == 0:
            raise StoreError("the network is down")
        return genuine(store, name, *arguments)

    monkeypatch.setattr(Store, step, fails)
    for _ in range(12):
        try:
            upload(index_copy, store)
        except StoreError:
            is_live = is_live or remote_current(store) == new
            assert remote_current(store) == (new if is_live else old)
    monkeypatch.undo()

    assert calls > 4
    assert upload(index_copy, store).generation == remote_current(store) == new
    assert upload(index_copy, store).sent == []


def test_a_rollback_is_uploaded_without_sending_a_file(store: Store, index_copy: Path) -> None:
    old = current_name(index_copy)
    upload(index_copy, store)
    republish(index_copy)
    upload(index_copy, store)

    roll_back(index_copy)

    assert upload(index_copy, store).sent == []
    assert remote_current(store) == old


def test_former_generations_are_removed_only_when_asked(store: Store, index_copy: Path) -> None:
    names = [current_name(index_copy)]
    upload(index_copy, store)
    for text in ("b", "c", "d"):
        names.append(republish(index_copy, text))
        assert upload(index_copy, store).removed == []
    assert sorted(store.names("generations")) == sorted(names)

    assert upload(index_copy, store, keep=1).removed == sorted(names[:2])

    assert sorted(store.names("generations")) == sorted(names[2:])
    assert (share(store) / "HISTORY").read_text().split() == names[2:]
    assert upload(index_copy, store, keep=0).removed == [names[2]]
    collect_garbage(index_copy, 0)


def test_the_calibration_of_the_index_goes_with_it(store: Store, index_copy: Path) -> None:
    (index_copy / CALIBRATION).write_text(json.dumps({"a": 1}))
    upload(index_copy, store)
    assert (share(store) / CALIBRATION).read_text() == '{"a": 1}'

    (index_copy / CALIBRATION).unlink()
    upload(index_copy, store)

    assert not list(share(store).glob(f"{CALIBRATION}*"))


def test_a_missing_library_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_library(url: str, **options: object) -> None:
        raise ImportError

    monkeypatch.setattr("fsspec.core.url_to_fs", no_library)

    with pytest.raises(
        StoreError, match=r"needs the package s3fs: pip install 'clear-search\[s3\]'"
    ):
        Store("s3://bucket/a")
    with pytest.raises(StoreError, match="needs the package gcsfs: pip install 'gcsfs'"):
        Store("gs://bucket/a")
