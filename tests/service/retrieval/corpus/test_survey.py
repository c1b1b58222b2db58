from collections.abc import Sequence

import pytest

from service.retrieval.corpus.reader import Passage
from service.retrieval.corpus.survey import Surveyor
from service.retrieval.errors import PassageError


def words(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def test_a_survey_counts_what_the_passages_hold() -> None:
    surveyor = Surveyor(words, lambda text: "sw" if "chai" in text else "en", max_tokens=5)
    texts = ["one two", "One  TWO", "chai", "w " * 6]
    for number, text in enumerate(texts):
        metadata = {"year": number, "day": "2024-02-29" if number else "soon"}
        surveyor.add(f"a:{number}", Passage(str(number), text, metadata=metadata))

    survey = surveyor.finish(num_refused=7)

    assert survey.as_dict() == {
        "num_passages": 4,
        "num_refused": 7,
        "num_equal_texts": 1,
        "equal_texts": [{"id": "1", "origin": "a:1"}],
        "num_over_limit": 1,
        "max_tokens": 5,
        "tokens": {"p50": 2, "p90": 6, "p99": 6, "longest": 6},
        "languages": {"en": 0.75, "sw": 0.25},
        "num_detected": 4,
        "metadata": {"year": {"number": 4}, "day": {"date": 3, "string": 1}},
        "mixed": {},
    }


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2, "1999", "2024-02-29", None], {"kind": "number", "num_refused": 2}),
        (["a", 1, True], {"kind": "string", "num_refused": 2}),
        ([{}, {}, 1], None),  # no field holds an object
        ([None, 3], None),
    ],
)
def test_a_survey_says_what_a_field_of_the_commonest_kind_would_refuse(
    values: list[object], expected: object
) -> None:
    surveyor = Surveyor(words, lambda text: "en", max_tokens=5)
    for number, value in enumerate(values):
        surveyor.add("a", Passage(str(number), "a", metadata={"year": value}))

    assert surveyor.finish(0).as_dict()["mixed"].get("year") == expected


def test_a_title_belongs_to_the_text() -> None:
    surveyor = Surveyor(words, lambda text: "en", max_tokens=5)
    surveyor.add("a:1", Passage("1", "b c", "a"))
    surveyor.add("a:2", Passage("2", "b c"))

    survey = surveyor.finish(0)

    assert (survey.tokens["longest"], survey.num_equal_texts) == (3, 0)


def test_a_repeated_id_is_refused() -> None:
    surveyor = Surveyor(words, lambda text: "en", max_tokens=5)
    surveyor.add("a:1", Passage("1", "a"))

    with pytest.raises(PassageError, match="^a:2 repeats the id '1': give one"):
        surveyor.add("a:2", Passage("1", "b"))


def test_a_language_is_detected_in_a_sample_of_a_large_corpus() -> None:
    surveyor = Surveyor(words, lambda text: "en", max_tokens=5)
    for number in range(2_100):
        surveyor.add("a", Passage(str(number), "a"))

    assert surveyor.finish(0).num_detected == 2_002
