from pathlib import Path

import pytest

from trainer.datasets.formats.lines import cloze_rows, held_out_documents
from trainer.datasets.formats.ntrex import import_ntrex
from trainer.errors import DataError

ENGLISH = ["One.", "Two.", "Three.", "Four.", "Five."]
GERMAN = ["Eins.", "Zwei.", "Drei.", "Vier.", "Fünf."]
DOCUMENTS = ["a", "a", "a", "b", "b"]


@pytest.fixture
def ntrex(tmp_path: Path) -> Path:
    """Two documents in two languages."""
    for name, lines in [
        ("newstest2019-src.eng.txt", ENGLISH),
        ("newstest2019-ref.deu.txt", GERMAN),
        ("DOCUMENT_IDS.tsv", DOCUMENTS),
    ]:
        (tmp_path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path


def test_each_sentence_is_the_query_of_the_passage_without_it() -> None:
    rows = list(cloze_rows("news", {"en": ENGLISH, "de": GERMAN}, DOCUMENTS))

    assert [(row.query, row.translated_query, row.positive) for row in rows] == [
        ("One.", "Eins.", "Two. Three."),
        ("Two.", "Zwei.", "One. Three."),
        ("Three.", "Drei.", "One. Two."),
        ("Four.", "Vier.", "Five."),
        ("Five.", "Fünf.", "Four."),
    ]
    assert {row.language for row in rows} == {"de"}


def test_a_sentence_may_be_the_query_of_its_own_english_line() -> None:
    texts = {"en": ENGLISH, "de": GERMAN}

    rows = list(cloze_rows("news", texts, DOCUMENTS, frozenset("b"), own_passages=True))

    assert [(row.translated_query, row.positive) for row in rows] == [
        ("Eins.", "One."),
        ("Zwei.", "Two."),
        ("Drei.", "Three."),
    ]
    assert len({row.passage_id for row in rows}) == 3


def test_passages_that_differ_in_the_sentence_left_out_are_one_group() -> None:
    rows = list(cloze_rows("news", {"en": ENGLISH, "de": GERMAN}, DOCUMENTS))

    assert [row.group_id for row in rows] == ["news.a.0-2"] * 3 + ["news.b.3-4"] * 2
    assert len({row.passage_id for row in rows}) == 5


def test_a_long_document_is_cut_into_passages_of_similar_length() -> None:
    lines = [f"Sentence {number}." for number in range(17)]

    rows = list(cloze_rows("news", {"en": lines, "de": lines}, ["a"] * 17))

    assert [row.group_id for row in rows] == (
        ["news.a.0-4"] * 5 + ["news.a.5-10"] * 6 + ["news.a.11-16"] * 6
    )


def test_a_line_without_text_gives_no_row() -> None:
    rows = list(cloze_rows("news", {"en": ENGLISH, "de": ["", *GERMAN[1:]]}, DOCUMENTS))

    assert [row.query for row in rows] == ENGLISH[1:]


def test_held_out_documents_are_in_the_evaluation_set_and_in_no_row(ntrex: Path) -> None:
    imported = import_ntrex(ntrex, held_out_share=0.5)

    rows, judged = imported.rows, imported.evaluation
    assert judged
    held_out = {passage.text for passage in judged.passages["en"]}
    assert held_out in ({"One.", "Two.", "Three."}, {"Four.", "Five."})
    texts = {row.query for row in rows} | {part for row in rows for part in row.positive.split()}
    assert texts == set(ENGLISH) - held_out
    assert "en" not in judged.queries  # each would be its own answer
    assert judged.qrels == {query.query_id: {query.query_id: 1} for query in judged.queries["de"]}


def test_the_held_out_documents_depend_on_the_seed_alone() -> None:
    documents = [f"d{number}" for number in range(30)]

    chosen = held_out_documents(documents, 1 / 3, seed=0)

    assert chosen == held_out_documents(documents[::-1], 1 / 3, seed=0)
    assert len(chosen) == 10
    assert chosen != held_out_documents(documents, 1 / 3, seed=1)


def test_files_of_unequal_length_are_refused(ntrex: Path) -> None:
    (ntrex / "newstest2019-ref.deu.txt").write_text("Eins.\n")

    with pytest.raises(DataError, match=r"ref\.deu\.txt has 1 lines, the documents have 5"):
        import_ntrex(ntrex)


def test_a_line_in_another_encoding_is_named(ntrex: Path) -> None:
    (ntrex / "newstest2019-ref.deu.txt").write_bytes("\n".join(GERMAN).encode("latin-1"))

    with pytest.raises(DataError, match=r"ref\.deu\.txt:5 is not UTF-8 \(byte 2 of the line\)"):
        import_ntrex(ntrex)


def test_a_folder_without_ntrex_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no newstest2019-src\.eng\.txt"):
        import_ntrex(tmp_path)


def test_portuguese_of_portugal_and_of_brazil_are_two_languages(ntrex: Path) -> None:
    for name in ("por", "por-BR"):
        (ntrex / f"newstest2019-ref.{name}.txt").write_text("\n".join(GERMAN) + "\n")

    rows = import_ntrex(ntrex, held_out_share=0).rows

    assert {row.language for row in rows} == {"de", "pt", "pt-PT"}


def test_two_files_of_one_language_are_refused(ntrex: Path) -> None:
    (ntrex / "newstest2019-ref.de.txt").write_text("\n".join(GERMAN) + "\n")

    with pytest.raises(DataError, match=r"ref.de.txt and .*ref.deu.txt are both de: remove one"):
        import_ntrex(ntrex)
