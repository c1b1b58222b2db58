"""The file of postings: rows by identifier, and what another generation's file leaves to read."""

import random
from pathlib import Path

import numpy as np
import pytest

from service.retrieval.corpus.reader import Passage
from service.retrieval.corpus.table import PassageTable, PassageTableWriter
from service.retrieval.errors import GenerationError
from service.retrieval.identifiers import postings
from service.retrieval.identifiers.postings import (
    KeptPostings,
    Postings,
    places_of,
    write_postings,
)
from service.retrieval.identifiers.tokens import identifiers_of

WORDS = ["tea", "AA-1720", "NASA", "1990", "Bogotá", "12,500", "the", "XR500B"]


def table_of(path: Path, texts: list[str]) -> PassageTable:
    with PassageTableWriter(path) as writer:
        writer.write([Passage(f"{row:03}", text, "A Title") for row, text in enumerate(texts)])
    return PassageTable(path)


def random_texts(count: int, seed: int) -> list[str]:
    dice = random.Random(seed)
    return [" ".join(dice.choices(WORDS, k=4)) for _ in range(count)]


def test_each_identifier_has_the_rows_of_the_passages_that_hold_it(tmp_path: Path) -> None:
    texts = random_texts(50, seed=1)
    write_postings(tmp_path / "file", table_of(tmp_path / "table", texts))

    found = Postings(tmp_path / "file", 50)

    for key in ("c:aa1720", "a:NASA", "n:nasa", "c:1990", "n:bogota", "c:12500", "c:xr500b"):
        expected = [row for row, text in enumerate(texts) if key in identifiers_of(text)]
        assert found.rows(key).tolist() == expected != []
    assert found.rows("n:title").tolist() == list(range(50))
    assert found.rows("c:unknown1").tolist() == []


def test_kept_postings_give_the_bytes_of_new_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postings, "WINDOW_ROWS", 7)
    dice = random.Random(2)
    old = random_texts(40, seed=3)
    write_postings(tmp_path / "old", table_of(tmp_path / "old.arrow", old))
    is_kept = np.array([dice.random() < 0.7 for _ in old])
    places = np.array(sorted(dice.choices(range(len(old) + 1), k=15)))
    new = random_texts(15, seed=4)
    merged = []
    for row in range(len(old) + 1):
        merged += [text for text, place in zip(new, places, strict=True) if place == row]
        merged += [old[row]] if row < len(old) and is_kept[row] else []
    table = table_of(tmp_path / "merged.arrow", merged)
    new_rows = places_of(places, is_kept)
    assert [merged[row] for row in new_rows if row >= 0] == [
        text for text, kept in zip(old, is_kept, strict=True) if kept
    ]

    write_postings(
        tmp_path / "kept", table, KeptPostings(Postings(tmp_path / "old", len(old)), new_rows)
    )

    write_postings(tmp_path / "fresh", table)
    assert (tmp_path / "kept").read_bytes() == (tmp_path / "fresh").read_bytes() != b""


def test_a_corpus_without_identifiers_has_an_empty_file(tmp_path: Path) -> None:
    with PassageTableWriter(tmp_path / "table") as writer:
        writer.write([Passage("a", "no identifier")])
    write_postings(tmp_path / "file", PassageTable(tmp_path / "table"))
    assert (tmp_path / "file").read_bytes() == b""
    assert Postings(tmp_path / "file", 1).rows("c:aa1720").tolist() == []


def test_a_file_of_another_size_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"123456789")
    with pytest.raises(GenerationError, match="does not hold whole postings"):
        Postings(tmp_path / "file", 1)


@pytest.mark.parametrize(
    ("items", "fault"),
    [
        ([1 << 28, 2 << 28 | 3], "names row 3 of 3"),
        ([2 << 28, 1 << 28], "has postings that do not ascend"),
        ([1 << 28 | 2, 1 << 28 | 2], "has postings that do not ascend"),
    ],
)
@pytest.mark.parametrize("window", [1, 1 << 20])
def test_postings_that_no_table_has_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, items: list[int], fault: str, window: int
) -> None:
    monkeypatch.setattr(postings, "WINDOW_ITEMS", window)
    path = tmp_path / "file"
    path.write_bytes(np.array(items, "<u8").tobytes())

    with pytest.raises(GenerationError) as caught:
        Postings(path, 3)

    assert str(caught.value) == f"{path} is damaged, it {fault}: build the index again"


def test_more_rows_than_a_posting_can_name_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postings, "ROW_MASK", 1)
    with pytest.raises(GenerationError, match="at most 1 passages"):
        write_postings(tmp_path / "file", table_of(tmp_path / "table", ["a", "b"]))
