import random

import numpy as np
import pytest

from service.retrieval.corpus.duplicates import NO_KEY, repeated_rows, text_key

TEXT = "caf\u00e9 au lait"


@pytest.mark.parametrize(
    "same", ["CAF\u00c9 au lait", " cafe\u0301\n\nau  lait\t", "Caf\u00e9 AU\u00a0lait"]
)
def test_case_spaces_and_equivalent_characters_make_no_difference(same: str) -> None:
    assert text_key(same) == text_key(TEXT)


@pytest.mark.parametrize("other", ["cafe au lait", f"{TEXT}.", "caf\u00e9aulait", ""])
def test_other_texts_are_no_duplicates(other: str) -> None:
    assert text_key(other) != text_key(TEXT)


def test_repeated_rows_are_those_of_a_plain_search() -> None:
    dice = random.Random(0)
    texts = [text_key(str(number)) for number in range(40)] + [NO_KEY]
    keys = dice.choices(texts, k=200)
    firsts: dict[bytes, int] = {}
    expected = [
        (row, first)
        for row, key in enumerate(keys)
        if key != NO_KEY and (first := firsts.setdefault(key, row)) != row
    ]

    rows, found = repeated_rows(np.frombuffer(b"".join(keys), "V16"))

    assert list(zip(rows.tolist(), found.tolist(), strict=True)) == expected


def test_of_no_rows_none_is_repeated() -> None:
    rows, firsts = repeated_rows(np.empty(0, "V16"))

    assert (rows.tolist(), firsts.tolist()) == ([], [])
