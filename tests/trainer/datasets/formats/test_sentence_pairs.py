"""TICO-19, Tatoeba and SIB-200: sentences with their English ones, on small files."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from trainer.datasets.formats.sib200 import import_sib200
from trainer.datasets.formats.tatoeba import import_tatoeba
from trainer.datasets.formats.tico19 import import_tico19
from trainer.datasets.imported import ImportedDataset
from trainer.errors import DataError

HEADER = "index_id\tcategory\ttext\n"


def write(directory: Path, files: Mapping[str, str]) -> Path:
    for name, content in files.items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(content, encoding="utf-8")
    return directory


TICO = {
    "tico19.en-es-LA.tsv": "a_1\tA cough.\tTos.\na_1\tA fever.\t\nb_2\tA test.\tPrueba.\n",
    "tico19.en-kr.tsv": "a_1\tA cough.\tKr 1.\na_1\tA fever.\tKr 2.\nb_2\tA test.\tKr 3.\n",
    "tico19.en-ti.tsv": "a_1\tA cough.\tTi 1.\na_1\tA fever.\tTi 2.\nb_2\tA test.\tTi 3.\n",
    "tico19.en-ti_ET.tsv": (
        'a_1\t" A ""cough""."\tEt 1.\na_1\tA fever.\tEt 2.\nb_2\tA test.\tEt 3.\n'
    ),
}
TATOEBA = {
    "tatoeba.srp-eng.srp": "Она ради сама.\nOna radi.\n\n",
    "tatoeba.srp-eng.eng": "She works alone.\nShe works.\nNo.\n",
    "tatoeba.cmn-eng.cmn": "她一个人工作。\n",
    "tatoeba.cmn-eng.eng": "She works alone!\n",
}
SIB = {
    "eng_Latn/dev.tsv": HEADER + '7\tsport\t"He said ""go""."\n9\tfood\tTea grows.\n',
    "swh_Latn/dev.tsv": HEADER + "7\tsport\tNenda.\n9\tfood\tChai hukua.\n",
    "knc_Arab/dev.tsv": HEADER + "9\tfood\tKr.\n",
    "knc_Latn/train.tsv": HEADER + "9\tfood\tKl.\n",
}


def test_a_row_of_tico_pairs_a_translation_with_the_english_sentence(tmp_path: Path) -> None:
    imported = import_tico19(write(tmp_path, TICO), held_out_share=0)

    rows = [(row.language, row.translated_query, row.query_id) for row in imported.rows]
    assert rows == [
        ("es-419", "Tos.", "tico19.0"),  # Latin America, not Laos
        ("es-419", "Prueba.", "tico19.2"),
        *(("kr", f"Kr {k + 1}.", f"tico19.{k}") for k in range(3)),  # Kanuri, not Korean
        *(("ti", f"Ti {k + 1}.", f"tico19.{k}") for k in range(3)),
        *(("ti", f"Et {k + 1}.", f"tico19.{k}") for k in range(3)),  # another translation
    ]
    assert {row.query for row in imported.rows} == {"A cough.", "A fever.", "A test."}
    assert all(row.positive == row.query for row in imported.rows)
    assert imported.skipped == {"no translation": 1}
    assert imported.evaluation is None
    assert imported.licence == "CC0-1.0"


def test_held_out_documents_of_tico_are_queries_and_in_no_row(tmp_path: Path) -> None:
    imported = import_tico19(write(tmp_path, TICO), held_out_share=0.5, seed=1)

    judged = imported.evaluation
    assert judged
    held_out = {passage.text for passage in judged.passages["en"]}
    assert held_out in ({"A cough.", "A fever."}, {"A test."})
    assert not held_out & {row.query for row in imported.rows}
    assert judged.queries.keys() == {"es-419", "kr", "ti"}
    assert all(
        judged.qrels[query.query_id] == {query.query_id: 1}
        for queries in judged.queries.values()
        for query in queries
    )


def test_tatoeba_sentences_have_their_script_in_the_language(tmp_path: Path) -> None:
    imported = import_tatoeba(write(tmp_path, TATOEBA), held_out_share=0)

    assert [(row.language, row.translated_query, row.query) for row in imported.rows] == [
        ("zh", "她一个人工作。", "She works alone!"),
        ("sr", "Она ради сама.", "She works alone."),
        ("sr-Latn", "Ona radi.", "She works."),
    ]
    assert imported.skipped == {"no translation": 1}


def test_an_english_sentence_of_tatoeba_is_held_out_in_all_languages(tmp_path: Path) -> None:
    write(tmp_path, TATOEBA)

    for seed in range(6):
        imported = import_tatoeba(tmp_path, held_out_share=0.5, seed=seed)

        assert imported.evaluation
        in_rows = {row.query.rstrip("!.") for row in imported.rows}
        held_out = {each.text.rstrip("!.") for each in imported.evaluation.passages["en"]}
        assert in_rows | held_out == {"She works alone", "She works"}
        assert not in_rows & held_out


def test_sib_queries_are_sentences_in_other_languages_and_scripts(tmp_path: Path) -> None:
    imported = import_sib200(write(tmp_path, SIB))

    judged = imported.evaluation
    assert judged
    assert not imported.rows
    assert [each.text for each in judged.passages["en"]] == ['He said "go".', "Tea grows."]
    texts = {language: [each.text for each in found] for language, found in judged.queries.items()}
    assert texts == {"sw": ["Nenda.", "Chai hukua."], "kr-Arab": ["Kr."], "kr": ["Kl."]}
    assert [each.query_id for each in judged.queries["sw"]] == ["sib200.7", "sib200.9"]
    assert judged.qrels["sib200.9"] == {"sib200.9": 1}


def test_one_split_and_some_languages_of_sib_can_be_chosen(tmp_path: Path) -> None:
    imported = import_sib200(write(tmp_path, SIB), languages=["sw"], evaluation_split="dev")

    assert imported.evaluation
    assert imported.evaluation.queries.keys() == {"sw"}
    assert len(imported.files) == 2


@pytest.mark.parametrize(
    ("read", "files", "reason"),
    [
        (import_tico19, {"tico19.en-sw.tsv": "d\tA.\n"}, r"tico19.en-sw.tsv:1 has 2 columns"),
        (import_tico19, {"tico19.en-sw.tsv": " \tA.\tB.\n"}, r"sw.tsv:1 names no document: write"),
        (import_tico19, {"tico19.en-qqq1.tsv": "d\tA.\tB.\n"}, r"unknown language in its name"),
        (
            import_tico19,
            {"tico19.en-de.tsv": "d\tA.\tB.\n", "tico19.en-sw.tsv": "e\tA.\tB.\n"},
            r"tico19.en-sw.tsv:1 is of the document 'e', in tico19.en-de.tsv of 'd'",
        ),
        (
            import_tico19,
            {"tico19.en-de.tsv": "d\tA.\tB.\n", "tico19.en-sw.tsv": "d\tA.\tB.\n" * 2},
            r"tico19.en-sw.tsv has 2 lines, tico19.en-de.tsv has 1",
        ),
        (import_tico19, {"a.tsv": ""}, r"holds no tico19.en-<language>.tsv"),
        (import_tatoeba, {"tatoeba.deu-eng.deu": "A.\n"}, r"has no tatoeba.deu-eng.eng beside it"),
        (
            import_tatoeba,
            {"tatoeba.deu-eng.deu": "A.\n", "tatoeba.deu-eng.eng": "A.\nB.\n"},
            r"tatoeba.deu-eng.deu has 1 lines, tatoeba.deu-eng.eng has 2",
        ),
        (import_tatoeba, {"a.txt": ""}, r"holds no tatoeba.<language>-eng.<language>"),
        (import_sib200, {"swh_Latn/dev.tsv": HEADER + "1\tfood\tA.\n"}, r"no eng_Latn"),
        (import_sib200, {"eng_Latn/dev.tsv": "text\nA.\n"}, r"dev.tsv:1 is not the header"),
        (import_sib200, {"eng_Latn/dev.tsv": HEADER + "1\tA.\n"}, r"dev.tsv:2 lacks one of"),
        (
            import_sib200,
            {"eng_Latn/dev.tsv": HEADER + "1\tfood\tA.\n1\tfood\tB.\n"},
            r"dev.tsv:3 repeats the index_id 1",
        ),
        (
            import_sib200,
            {"eng_Latn/dev.tsv": HEADER, "swh_Latn/dev.tsv": HEADER + "5\tfood\tA.\n"},
            r"English lacks the index_id 5, which sw has",
        ),
        (import_sib200, {"here/dev.tsv": HEADER}, r"here is not named by a language"),
    ],
)
def test_a_bad_file_is_named_with_its_line(
    tmp_path: Path,
    read: Callable[..., ImportedDataset],
    files: dict[str, Any],
    reason: str,
) -> None:
    with pytest.raises(DataError, match=reason):
        read(write(tmp_path, files))
