import os
from pathlib import Path

import pytest

from service.retrieval.corpus.files import find_files
from service.retrieval.errors import PassageError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as data sets are published: shards, hidden files, a card."""
    for name in (
        "README.md",
        ".cache/old.jsonl",
        "data/train-00001-of-00002.parquet",
        "data/train-00000-of-00002.parquet",
        "data/_SUCCESS",
        "data/_temporary/part.csv",
        "more/a.tsv",
        "more/b.csv.gz",
        "more/c.ndjson.zst",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def names(folder: Path, *paths: str) -> list[str]:
    return [str(path.relative_to(folder)) for path in find_files(folder / path for path in paths)]


def test_a_folder_gives_its_readable_files_in_the_order_of_names(folder: Path) -> None:
    assert names(folder, ".") == [
        "data/train-00000-of-00002.parquet",
        "data/train-00001-of-00002.parquet",
        "more/a.tsv",
        "more/b.csv.gz",
        "more/c.ndjson.zst",
    ]


def test_a_folder_with_beirs_corpus_gives_it_alone(folder: Path) -> None:
    (folder / "corpus.jsonl").touch()

    assert names(folder, ".") == ["corpus.jsonl"]


def test_a_pattern_gives_what_it_matches_and_no_file_comes_twice(folder: Path) -> None:
    assert names(folder, "more/b.csv.gz", "more/*.csv*", "more") == [
        "more/b.csv.gz",
        "more/a.tsv",
        "more/c.ndjson.zst",
    ]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(folder: Path) -> None:
    (folder / "a[1].csv").touch()

    assert names(folder, "a[1].csv") == ["a[1].csv"]


def test_the_standard_input_and_pipes_need_no_suffix(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    assert find_files([Path("-"), tmp_path / "pipe"]) == [Path("-"), tmp_path / "pipe"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nothing.jsonl", "does not exist: name a file"),
        ("*.jsonl", "no file matches"),
        ("README.md", "README.md is not .jsonl"),
        ("data/_temporary", "holds no file of passages"),
    ],
)
def test_a_path_that_names_nothing_readable_is_refused(
    folder: Path, name: str, reason: str
) -> None:
    (folder / "data/_temporary/part.csv").unlink()

    with pytest.raises(PassageError) as caught:
        find_files([folder / name])

    assert reason in str(caught.value)
    assert name in str(caught.value)
