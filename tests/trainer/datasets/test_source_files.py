"""Progress of reading a data set, for every format."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.retrieval.progress import ProgressLines
from trainer.datasets.registry import KINDS, read_dataset
from trainer.datasets.source_files import (
    add_file,
    expect_files,
    open_source,
    read_files,
    report_bytes,
)
from trainer.errors import DataError

PARAGRAPH = {"context": "Tea grows.", "qas": [{"id": "q1", "question": "Tea?"}]}
SQUAD = json.dumps({"data": [{"paragraphs": [PARAGRAPH]}]})
AFRIQA = json.dumps(
    {"id": "0", "question_lang": "Wapi?", "question_translated": "Where?", "context": "Tea."}
)
BELEBELE = json.dumps(
    {"link": "l", "question_number": 1, "flores_passage": "Tea.", "question": "Tea?"}
)
ROW = {"query": "Tea?", "positive": "Tea grows.", "translated_query": "Chai?", "language": "sw"}
# The least files of each format.
SAMPLES: dict[str, dict[str, str]] = {
    "afriqa": {f"gold_span_passages.afriqa.{name}.en.dev.json": AFRIQA for name in ("swa", "hau")},
    "belebele": {
        f"{name}.jsonl": BELEBELE[:-1] + f', "dialect": "{name}"}}'
        for name in ("eng_Latn", "swh_Latn")
    },
    "mlqa": {f"dev-context-{name}-question-{name}.json": SQUAD for name in ("en", "de")},
    "ntrex": {
        "newstest2019-src.eng.txt": "Tea.\nSalt.\n",
        "newstest2019-ref.deu.txt": "Tee.\nSalz.\n",
        "DOCUMENT_IDS.tsv": "d\nd\n",
    },
    "parallel": {"news.en.txt": "Tea.\nSalt.\n", "news.de.txt": "Tee.\nSalz.\n"},
    "sib200": {
        f"{name}/dev.tsv": "index_id\tcategory\ttext\n1\tfood\tTea.\n"
        for name in ("eng_Latn", "swh_Latn")
    },
    "squad": {"squad.en.json": SQUAD, "squad.de.json": SQUAD},
    "tatoeba": {"tatoeba.deu-eng.deu": "Tee.\nSalz.\n", "tatoeba.deu-eng.eng": "Tea.\nSalt.\n"},
    "tico19": {f"tico19.en-{name}.tsv": "d\tTea.\tTee.\n" for name in ("de", "sw")},
    "xquad": {"xquad.en.json": SQUAD, "xquad.de.json": SQUAD},
}


def write_files(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)
    return folder


def write_parquet(path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([ROW] * 100), path)


def write_arrow_stream(path: Path) -> None:
    table = pa.Table.from_pylist([ROW] * 100)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)


def write_arrow_file(path: Path) -> None:
    table = pa.Table.from_pylist([ROW] * 100)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


def write_gzip(path: Path) -> None:
    path.write_bytes(gzip.compress((json.dumps(ROW) + "\n").encode() * 100))


class Reports(list[tuple[str, int, int | None]]):
    """The reports of progress."""

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        self.append((stage, done, total))


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_reports_how_much_of_all_its_files_is_read(tmp_path: Path, kind: str) -> None:
    source, reports = write_files(tmp_path, SAMPLES[kind]), Reports()
    size = sum(path.stat().st_size for path in source.rglob("*") if path.is_file())

    read_dataset(kind, str(source), {}, reports)

    done = [report[1] for report in reports]
    assert {stage for stage, _, _ in reports} == {"read bytes"}
    assert done == sorted(done)
    assert any(done < size == total for _, done, total in reports)
    assert reports[-1] == ("read bytes", size, size)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("rows.parquet", write_parquet),
        ("rows.arrow", write_arrow_stream),
        ("rows.arrow", write_arrow_file),
        ("rows.jsonl.gz", write_gzip),
    ],
)
def test_tables_of_every_form_are_counted_in_bytes_on_disk(
    tmp_path: Path, name: str, write: Callable[[Path], None]
) -> None:
    path, reports = tmp_path / name, Reports()
    write(path)

    dataset = read_dataset("parallel", str(path), {}, reports)

    assert len(dataset.rows) == 100
    assert reports[0] == ("read bytes", 0, path.stat().st_size)
    assert reports[-1] == ("read bytes", path.stat().st_size, path.stat().st_size)


def test_languages_that_are_left_out_are_not_in_the_total(tmp_path: Path) -> None:
    source, reports = write_files(tmp_path, SAMPLES["xquad"]), Reports()

    read_dataset("xquad", str(source), {"languages": ["en"]}, reports)

    assert reports[-1] == ("read bytes", len(SQUAD), len(SQUAD))


def test_a_large_file_is_reported_while_it_is_read(tmp_path: Path) -> None:
    path, reports, now = tmp_path / "rows.jsonl", Reports(), [0.0]
    path.write_text((json.dumps(ROW) + "\n") * 5000)
    size, lines, shown = path.stat().st_size, ProgressLines(lambda: now[0]), []

    def report(stage: str, done: int, total: int | None) -> None:
        reports(stage, done, total)
        lines(stage, done, total)
        shown.append(lines.line())
        now[0] += 10

    read_dataset("parallel", str(path), {}, report)

    assert len({done for _, done, _ in reports}) > 3
    bytes_done = next(done for _, done, _ in reports if done)
    seconds = 10 * len([done for _, done, _ in reports if not done])
    rate = f"{bytes_done / seconds:,.0f}/s"
    assert any(
        line.startswith(f"reading bytes: {bytes_done:,} of {size:,}, {rate}, ") for line in shown
    )


def test_a_file_that_is_read_twice_counts_once(tmp_path: Path) -> None:
    path, reports = tmp_path / "a", Reports()
    path.write_bytes(b"tea")

    with report_bytes(reports):
        for _ in range(2):
            with open_source(path) as file:
                assert file.read() == b"tea"

    assert reports[-1] == ("read bytes", 3, 3)


def test_a_file_that_is_left_early_counts_as_read(tmp_path: Path) -> None:
    paths, reports = [tmp_path / "a", tmp_path / "b"], Reports()
    for path in paths:
        path.write_bytes(b"tea\n" * 100_000)

    with report_bytes(reports):
        expect_files(paths)
        with open_source(paths[0]) as file:
            assert file.readline() == b"tea\n"

    assert reports[-1] == ("read bytes", 400_000, 800_000)


def test_a_missing_file_fails_where_it_is_read(tmp_path: Path) -> None:
    with report_bytes(Reports()), pytest.raises(FileNotFoundError):
        read_files({"en": tmp_path / "none"}, lambda path: open_source(path).read())


def test_without_a_listener_files_are_read_alike(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no xquad\.en\.json"):
        read_dataset("xquad", str(tmp_path), {})
    (tmp_path / "a").write_bytes(b"tea")
    with open_source(tmp_path / "a") as file:
        assert file.read() == b"tea"


def test_a_second_file_of_a_language_is_refused_with_both_names() -> None:
    found: dict[str, Path] = {}
    add_file(found, "de", Path("a/xquad.de.json"))
    add_file(found, "en", Path("a/xquad.en.json"))

    with pytest.raises(DataError, match=r"a/xquad.de.json and b/xquad.de.json are both de: remove"):
        add_file(found, "de", Path("b/xquad.de.json"))
