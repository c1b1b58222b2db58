from pathlib import Path

import pytest

from service.errors import SettingsError
from service.retrieval.remote.address import copy_folder, parse_place
from service.settings.settings import Settings, load_settings


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("my-index", Path("my-index")),
        ("/srv/index", Path("/srv/index")),
        ("s3://bucket/prefix/", "s3://bucket/prefix"),
        ("s3://bucket", "s3://bucket"),
        ("gs://bucket/a/b", "gs://bucket/a/b"),
        ("az://container/a", "az://container/a"),
        ("hf://datasets/owner/name@main/a", "hf://datasets/owner/name@main/a"),
        (Path("a"), Path("a")),
        (None, None),
    ],
)
def test_a_place_is_a_folder_or_a_url(place: object, expected: object) -> None:
    assert parse_place(place) == expected
    assert type(parse_place(place)) is type(expected)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://host/index", "begins with one of s3://"),
        ("simplecache::s3://bucket/a", "begins with one of s3://"),
        ("s3://KEY:hunter2@bucket/a", "holds no credentials"),
        ("s3://", "names no bucket"),
        ("s3://bucket/a/../b", "is a bucket and a prefix"),
        ("s3://bucket/*", "is a bucket and a prefix"),
        ("s3://bucket/a?versionId=1", "is a bucket and a prefix"),
        ("file://data/index", "file://data/index names a host"),
        ("s3://bucket/a b", "is a bucket and a prefix"),
    ],
)
def test_another_url_is_refused_without_its_secrets(
    url: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLEAR_INDEX", url)

    with pytest.raises(SettingsError, match=f"^CLEAR_INDEX: .*{reason}") as refused:
        load_settings()

    assert "hunter2" not in str(refused.value)


def test_each_url_has_a_copy_of_its_own_in_the_cache(tmp_path: Path) -> None:
    first = Settings(index="s3://bucket/a", cache=tmp_path)
    second = Settings(index="s3://bucket/a-", cache=tmp_path, index_cache=tmp_path / "copies")

    assert first.index_folder == copy_folder("s3://bucket/a", tmp_path / "indexes")
    assert second.index_folder == copy_folder("s3://bucket/a-", tmp_path / "copies")
    assert first.index_folder is not None and second.index_folder is not None
    assert first.index_folder.name.startswith("s3-bucket-a-")
    assert first.index_folder.name != second.index_folder.name
    assert Settings(index="folder", cache=tmp_path).index_folder == Path("folder")
    assert Settings(cache=tmp_path).index_folder is None
