import json
from pathlib import Path

import pytest
import yaml

from service.retrieval.corpus.reader import Passage
from trainer.data.evaluation_set import EvaluationData, Query
from trainer.data.evaluation_set_reader import read_evaluation_set
from trainer.data.evaluation_set_writer import write_evaluation_set
from trainer.data.rows import read_rows
from trainer.datasets.importer import import_data
from trainer.errors import DataError, OutputError
from trainer.output import exclusive_output


@pytest.fixture
def afriqa(tmp_path: Path) -> Path:
    """One row of train, one query of dev."""
    folder = tmp_path / "afriqa"
    folder.mkdir()
    for split, context in (("train", "Tea grows."), ("dev", "Salt is mined.")):
        record = {"id": "0", "question_lang": "Wapi?", "question_translated": "Where?"}
        record |= {"context": context, "title": "Plants"}
        path = folder / f"gold_span_passages.afriqa.swa.en.{split}.json"
        path.write_text(json.dumps(record) + "\n" + json.dumps(record | {"context": None}) + "\n")
    return folder


def test_rows_evaluation_set_and_card_are_written(afriqa: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"

    card = import_data("afriqa", str(afriqa), output)

    assert len(list(read_rows(output / "rows.jsonl"))) == 1
    assert read_evaluation_set(output / "evaluation").name == "afriqa"
    assert json.loads((output / "card.json").read_text()) == json.loads(json.dumps(card.as_dict()))
    assert (card.rows, card.queries, card.passages) == ({"sw": 1}, {"en": 1, "sw": 1}, {"en": 2})
    assert card.skipped == {"no context": 2}
    assert len(card.sources) == 2
    assert set(card.outputs) == {
        "rows.jsonl",
        "evaluation/corpus.jsonl",
        "evaluation/queries.jsonl",
        "evaluation/queries.sw.jsonl",
        "evaluation/qrels.tsv",
    }
    readme = (output / "README.md").read_text()
    assert "license: cc-by-4.0" in readme
    assert "| sw | 1 |" in readme


def test_the_languages_of_a_card_are_texts_also_where_yaml_has_another_type(
    afriqa: Path, tmp_path: Path
) -> None:
    name = "gold_span_passages.afriqa.{}.en.train.json"
    (afriqa / name.format("swa")).rename(afriqa / name.format("no"))

    import_data("afriqa", str(afriqa), tmp_path / "out")

    header = (tmp_path / "out" / "README.md").read_text().split("---\n")[1]
    assert yaml.safe_load(header) == {"language": ["en", "no", "sw"], "license": "cc-by-4.0"}


def test_an_import_reports_its_phases(afriqa: Path, tmp_path: Path) -> None:
    reports: list[tuple[str, int, int | None]] = []

    def on_progress(stage: str, done: int, total: int | None) -> None:
        if reports and reports[-1][0] == stage:
            reports.pop()
        reports.append((stage, done, total))

    size = sum(path.stat().st_size for path in afriqa.iterdir())
    import_data("afriqa", str(afriqa), tmp_path / "held")
    held = [tmp_path / "held" / "evaluation"]

    import_data(
        "afriqa", str(afriqa), tmp_path / "out", decontaminate_from=held, on_progress=on_progress
    )

    assert reports == [  # the last of each phase
        ("read evaluation sets", 1, 1),
        ("read", 0, None),
        ("read bytes", size, size),
        ("decontaminate", 1, 1),
        ("write rows", 1, 1),
        ("write evaluation set", 4, 4),
    ]


def test_a_second_import_gives_the_same_bytes(afriqa: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    first = import_data("afriqa", str(afriqa), output)

    assert import_data("afriqa", str(afriqa), output) == first


@pytest.mark.parametrize(
    ("text", "query_id", "reason"),
    [
        ("PLANTS  tea grows.", "q1", "passage in held"),
        ("Tea grows elsewhere.", "afriqa.sw.train.0", "question id in held"),
    ],
)
@pytest.mark.parametrize("is_kept", [False, True])
def test_rows_that_are_in_an_evaluation_set_are_reported_and_removed(
    afriqa: Path, tmp_path: Path, text: str, query_id: str, reason: str, is_kept: bool
) -> None:
    held = EvaluationData(
        {"en": [Passage("p", text), Passage("distractor", "Plants Tea grows.")]},
        {"en": [Query(query_id, "?")]},
        {query_id: {"p": 1}},
    )
    write_evaluation_set(tmp_path / "held", held)

    card = import_data(
        "afriqa",
        str(afriqa),
        tmp_path / "out",
        decontaminate_from=[tmp_path / "held"],
        keep_contaminated=is_kept,
    )

    assert card.contamination == {reason: 1}
    assert card.rows == ({"sw": 1} if is_kept else {})
    assert (tmp_path / "out" / "rows.jsonl").exists() == is_kept
    assert f"| {reason} | 1 |" in (tmp_path / "out" / "README.md").read_text()


def test_an_option_that_the_kind_lacks_is_refused(afriqa: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="`import afriqa` has no --held-out-share"):
        import_data("afriqa", str(afriqa), tmp_path / "out", held_out_share=0.5)


def test_an_unknown_language_is_refused(afriqa: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--language: 'klingon' is not a language"):
        import_data("afriqa", str(afriqa), tmp_path / "out", languages=["klingon"])


def test_a_missing_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="missing does not exist"):
        import_data("xquad", str(tmp_path / "missing"), tmp_path / "out")


def test_a_source_that_gives_nothing_is_refused(afriqa: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gives no row and no query"):
        import_data("afriqa", str(afriqa), tmp_path / "out", train_split="x", evaluation_split="y")


def test_an_output_that_cannot_be_written_is_named(afriqa: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(OutputError, match="cannot be written"):
        import_data("afriqa", str(afriqa), tmp_path / "file")


def test_an_output_that_is_the_source_or_has_other_content_is_refused(
    afriqa: Path, tmp_path: Path
) -> None:
    with pytest.raises(OutputError, match=r"--output .*afriqa is .*afriqa, which is read"):
        import_data("afriqa", str(afriqa), afriqa)
    for name in ("rows.jsonl", "README.md"):
        (tmp_path / name).write_text("mine")
        with pytest.raises(OutputError, match=rf"has other content \({name} without card.json\)"):
            import_data("afriqa", str(afriqa), tmp_path)
        assert (tmp_path / name).read_text() == "mine"
        (tmp_path / name).unlink()


def test_the_folder_of_an_evaluation_set_is_refused_and_its_card_stays(
    afriqa: Path, tmp_path: Path
) -> None:
    import_data("afriqa", str(afriqa), tmp_path / "out")
    card = (tmp_path / "out/evaluation/card.json").read_bytes()

    with pytest.raises(OutputError, match=r"evaluation set \(qrels.tsv\).*: name another folder"):
        import_data("afriqa", str(afriqa), tmp_path / "out/evaluation", train_split="dev")

    assert (tmp_path / "out/evaluation/card.json").read_bytes() == card


def test_a_second_import_into_a_folder_is_refused_until_the_first_ends(
    afriqa: Path, tmp_path: Path
) -> None:
    with (
        exclusive_output(tmp_path / "out"),
        pytest.raises(OutputError, match="another run is writing to .*out"),
    ):
        import_data("afriqa", str(afriqa), tmp_path / "out")

    import_data("afriqa", str(afriqa), tmp_path / "out")


def test_a_table_is_not_replaced_by_its_own_rows(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("{}")

    with pytest.raises(OutputError, match=r"rows.jsonl, which is read"):
        import_data("parallel", str(tmp_path / "rows.jsonl"), tmp_path)

    assert (tmp_path / "rows.jsonl").read_text() == "{}"
