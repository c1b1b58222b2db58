"""SQuAD, MLQA, Belebele and the Hub, on small files."""

import json
from pathlib import Path
from typing import Any

import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainer.datasets.formats.belebele import import_belebele
from trainer.datasets.formats.mlqa import import_mlqa
from trainer.datasets.formats.squad import import_squad
from trainer.datasets.registry import find_dataset, read_dataset
from trainer.errors import DataError

COMMIT = "0123456789abcdef" * 2 + "01234567"


def write_squad(path: Path, *questions: tuple[str, str, str]) -> None:
    """Write paragraphs of one question each: id, question, context."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        rows = [
            {"id": id_, "title": "T", "context": context, "question": question}
            for id_, question, context in questions
        ]
        pq.write_table(pa.Table.from_pylist(rows), path)
        return
    paragraphs = [
        {"context": context, "qas": [{"id": id_, "question": question}]}
        for id_, question, context in questions
    ]
    path.write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}))


def belebele(language: str = "eng_Latn", number: int = 1, **changes: object) -> dict[str, Any]:
    return {
        "link": "https://en.wikibooks.org/wiki/Tea",
        "question_number": number,
        "flores_passage": "Tea grows on hills.",
        "question": "Where does tea grow?",
        "mc_answer1": "hills",
        "correct_answer_num": "1",
        "dialect": language,
        "ds": "2023-05-03",
        **changes,
    }


def write_belebele(directory: Path, **records: list[dict[str, Any]]) -> Path:
    for name, lines in records.items():
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (directory / f"{name}.jsonl").write_text(text)
    return directory


@pytest.mark.parametrize(
    ("english", "german"),
    [
        ("train-v1.1.json", "de_squad-translate-train-train-v1.1.json"),
        ("squad.en.json", "squad.de.json"),
        (
            "plain_text/train-00000-of-00001.parquet",
            "mlqa-translate-train.de/train-00000-of-00001.parquet",
        ),
    ],
)
def test_squad_pairs_each_translated_question(tmp_path: Path, english: str, german: str) -> None:
    write_squad(tmp_path / english, ("q1", "Tea?", "Tea grows."), ("q2", "Salt?", "Salt."))
    write_squad(tmp_path / german, ("q2", "Salz?", "Salz."))

    (row,) = import_squad(tmp_path).rows

    assert (row.query, row.translated_query, row.language) == ("Salt?", "Salz?", "de")
    assert (row.positive, row.passage_id, row.query_id) == ("Salt.", "squad.a00.p01", "q2")


def test_squad_alone_gives_english_rows(tmp_path: Path) -> None:
    write_squad(tmp_path / "train-v1.1.json", ("q1", "Tea?", "Tea grows."))

    (row,) = import_squad(tmp_path).rows

    assert (row.language, row.query) == ("en", row.translated_query)


def test_squad_without_a_requested_split_or_language_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no train-v1\.1\.json"):
        import_squad(tmp_path)
    write_squad(tmp_path / "train-v1.1.json", ("q1", "Tea?", "Tea grows."))
    with pytest.raises(DataError, match="no translation into sw"):
        import_squad(tmp_path, languages=["sw"])
    with pytest.raises(DataError, match="no split 'test'"):
        import_squad(tmp_path, train_split="test")


@pytest.mark.parametrize(
    "name", ["dev-context-{0}-question-{1}.json", "mlqa.{0}.{1}/validation-00000-of-00001.parquet"]
)
def test_mlqa_joins_contexts_of_two_languages_by_question(tmp_path: Path, name: str) -> None:
    write_squad(
        tmp_path / name.format("en", "en"), ("q1", "Tea?", "Tea."), ("q2", "Salt?", "Salt.")
    )
    write_squad(tmp_path / name.format("de", "de"), ("q2", "Salz?", "Salz."))
    write_squad(tmp_path / name.format("en", "de"), ("q2", "Salz?", "Salt."))

    judged = import_mlqa(tmp_path).evaluation

    assert judged
    assert judged.qrels == {"q1": {"a00.p00": 1}, "q2": {"a00.p01": 1, "de:a00.p00": 1}}
    assert [query.text for query in judged.queries["de"]] == ["Salz?"]
    assert [passage.passage_id for passage in judged.passages["de"]] == ["de:a00.p00"]


def test_mlqa_without_english_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no dev-context-en-question-en\.json"):
        import_mlqa(tmp_path)
    with pytest.raises(DataError, match="no split 'train'"):
        import_mlqa(tmp_path, evaluation_split="train")


def test_belebele_joins_languages_by_link_and_number(tmp_path: Path) -> None:
    english = [belebele(), belebele(number=2, question="What grows?")]
    swahili = [belebele("swh_Latn", flores_passage="Chai hukua.", question="Chai hukua wapi?")]
    write_belebele(tmp_path, eng_Latn=english, swh_Latn=swahili)

    judged = import_belebele(tmp_path).evaluation

    link = "https://en.wikibooks.org/wiki/Tea"
    assert judged
    assert judged.qrels == {f"{link}#1": {link: 1}, f"{link}#2": {link: 1}}
    assert [passage.text for passage in judged.passages["sw"]] == ["Chai hukua."]
    assert [query.text for query in judged.queries["sw"]] == ["Chai hukua wapi?"]
    assert len(judged.passages["en"]) == 1


def test_belebele_imports_only_the_requested_languages(tmp_path: Path) -> None:
    write_belebele(
        tmp_path,
        eng_Latn=[belebele()],
        swh_Latn=[belebele("swh_Latn")],
        hau_Latn=[belebele("hau_Latn")],
    )

    imported = import_belebele(tmp_path, languages=["ha"])

    assert imported.evaluation
    assert list(imported.evaluation.queries) == ["en", "ha"]
    assert [path.name for path in imported.files] == ["eng_Latn.jsonl", "hau_Latn.jsonl"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"question": None}, "lacks `question`"),
        ({"link": " "}, "lacks `link`"),
        ({"dialect": "xx_Latn"}, "has an unknown language"),
        ({}, "repeats the link and question_number"),
        ({"question_number": 2, "flores_passage": "Other."}, "gives its link another passage"),
    ],
)
def test_a_bad_line_of_belebele_is_named(
    tmp_path: Path, changes: dict[str, object], reason: str
) -> None:
    write_belebele(tmp_path, eng_Latn=[belebele(), belebele() | changes])

    with pytest.raises(DataError, match=rf"eng_Latn\.jsonl:2 {reason}"):
        import_belebele(tmp_path)


def test_belebele_needs_english_questions(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no English Belebele"):
        import_belebele(write_belebele(tmp_path, swh_Latn=[belebele("swh_Latn")]))
    write_belebele(tmp_path, eng_Latn=[belebele(number=9)])
    with pytest.raises(DataError, match="English lacks the question .*#1', asked in sw|#1, asked"):
        import_belebele(tmp_path)


def test_a_hub_name_is_downloaded_at_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_belebele(tmp_path, eng_Latn=[belebele()])
    asked = {}

    def fetch(name: str, **options: object) -> str:
        asked.update(options, name=name)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)

    imported = read_dataset("belebele", f"facebook/belebele@{COMMIT}", {})

    assert imported.evaluation
    assert (asked["name"], asked["revision"]) == ("facebook/belebele", COMMIT)
    assert asked["repo_type"] == "dataset"


def test_a_hub_that_does_not_answer_is_a_one_line_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(name: str, **options: object) -> str:
        raise OSError("no route to host\nmore")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)

    with pytest.raises(DataError, match=r"could not be fetched from the Hub \(no route to host\)"):
        find_dataset(f"facebook/belebele@{COMMIT}")


@pytest.mark.parametrize("name", ["facebook/belebele", "facebook/belebele@main"])
def test_a_hub_name_needs_its_commit(name: str) -> None:
    with pytest.raises(DataError, match="facebook/belebele@<40 hexadecimal digits"):
        find_dataset(name)
