import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from service.retrieval.corpus.reader import Chunk, Passage
from service.retrieval.errors import PassageError
from service.retrieval.indexing.staging import StagedPassages


@pytest.fixture
def staged(tmp_path: Path) -> Iterator[StagedPassages]:
    with StagedPassages(tmp_path / "staging.sqlite", str) as staged:
        yield staged


def test_a_repeated_id_is_refused_naming_both_origins(staged: StagedPassages) -> None:
    staged.add("a.jsonl:1", Passage("x", "first"))

    with pytest.raises(PassageError, match=r"^b\.jsonl:9 repeats the id of a\.jsonl:1: "):
        staged.add("b.jsonl:9", Passage("x", "second"))

    assert len(staged) == 1
    assert next(staged.windows(10)) == [Passage("x", "first")]


CLASHES = [
    (0, r"^f:1: the id 'a#2' is that of a chunk of another document, f:0: give one"),
    (1, r"^f:1: the id 'a#2' of one of its chunks is that of f:0: give one"),
]


@pytest.mark.parametrize(("first", "reason"), CLASHES)
def test_the_id_of_another_documents_chunk_is_refused_as_such(
    staged: StagedPassages, first: int, reason: str
) -> None:
    both = [Passage("a#2", "part", chunk=Chunk("a", 9, 13)), Passage("a#2", "whole")]
    staged.add("f:0", both[first])

    with pytest.raises(PassageError, match=reason):
        staged.add("f:1", both[1 - first])


def test_a_passage_comes_back_as_it_was_added(staged: StagedPassages) -> None:
    passage = Passage("नमस्ते", "line\none \x00 \U0001f600", "T", {"a": [1, 0.5, None, {"b": "é"}]})

    staged.add("f:1", passage)

    assert list(staged.windows(1)) == [[passage]]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_windows_are_ordered_by_id_whatever_the_order_of_the_input(
    staged: StagedPassages, seed: int
) -> None:
    passage_ids = ["a", "a.10", "a.2", "b", "é", "अ", "\U0001f600"]
    shuffled = random.Random(seed).sample(passage_ids, len(passage_ids))

    for passage_id in shuffled:
        staged.add("f:1", Passage(passage_id, "t"))

    windows = [[passage.passage_id for passage in window] for window in staged.windows(3)]
    assert windows == [["a", "a.10", "a.2"], ["b", "é", "अ"], ["\U0001f600"]]


def test_ids_that_differ_only_in_case_or_spaces_are_different(staged: StagedPassages) -> None:
    for passage_id in ("x", "X", "x ", "1", "01"):
        staged.add("f:1", Passage(passage_id, "t"))

    assert len(staged) == 5


def test_passages_are_named_and_removed_by_their_position(staged: StagedPassages) -> None:
    for number, passage_id in enumerate("dbeac"):
        staged.add(f"f:{number}", Passage(passage_id, passage_id.upper()))

    named = list(staged.origins(np.array([0, 3])))
    staged.remove(np.array([0, 3]))
    staged.remove(np.array([], np.int64))

    assert named == [("a", "f:3"), ("d", "f:0")]
    assert len(staged) == 3
    assert [each.passage_id for each in next(staged.windows(10))] == ["b", "c", "e"]
    assert list(staged.encoded_texts(np.array([1, 2]))) == ["C", "E"]
