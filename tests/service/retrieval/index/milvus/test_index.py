"""Pushing a generation into Milvus, and searching it; mostly with Milvus Lite in this process."""

import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.retrieval.corpus.fields import parse_fields
from service.retrieval.corpus.filters import parse_filter
from service.retrieval.corpus.reader import Passage
from service.retrieval.corpus.selection import Selections
from service.retrieval.corpus.table import PassageTable, PassageTableWriter
from service.retrieval.errors import DeviceError, GenerationError
from service.retrieval.index.faiss.build import build_faiss_index
from service.retrieval.index.milvus import collection as milvus_collection
from service.retrieval.index.milvus import push as milvus_push
from service.retrieval.index.milvus.connection import connect
from service.retrieval.index.milvus.filter import field_values, to_expression
from service.retrieval.index.milvus.index import open_milvus
from service.retrieval.index.milvus.push import push
from service.retrieval.index.options import IndexOptions, MilvusOptions

pytest.importorskip("pymilvus", reason="needs the extra milvus")
FIELDS = parse_fields(["country:string", "open:boolean", "tags:strings", "year:number", "day:date"])
ROWS: list[dict[str, Any]] = [
    {"year": number, "country": ['a "b"', "c\\d", "é'x", None][number % 4], "open": number % 2 == 0,
     "tags": ["x", "y"][: number % 3], "day": f"{100 * number + 1:04}-02-03"}
    for number in range(20)
] + [{} for _ in range(3)]  # fmt: skip


@pytest.fixture
def options(milvus_uri: str) -> MilvusOptions:
    return MilvusOptions(milvus_uri, index_type="FLAT")


@pytest.fixture
def own(options: MilvusOptions) -> MilvusOptions:
    """A prefix that no other test uses."""
    return replace(options, prefix=f"t{uuid.uuid4().hex}")


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, PassageTable]:
    vectors = np.random.default_rng(0).normal(size=(23, 8)).astype(np.float32)
    build_faiss_index(
        vectors / np.linalg.norm(vectors, axis=1, keepdims=True), "Flat", tmp_path / "vectors"
    )
    with PassageTableWriter(tmp_path / "passages", FIELDS) as table:
        table.write([Passage(str(row), "text", "", metadata) for row, metadata in enumerate(ROWS)])
    return tmp_path / "vectors", PassageTable(tmp_path / "passages", FIELDS)


FACTS: Any = {"count": 23, "embedding_dim": 8, "fields": FIELDS}


@pytest.mark.parametrize(
    "content",
    [
        {"country": 'a "b"'},
        {"country": ["c\\d", "é'x"]},
        {"country": {"not": "c\\d"}},
        {"country": {"gte": "b"}},
        {"year": {"gt": 3, "lte": 9}},
        {"year": [1, 2.0, 99]},
        {"year": {"not": {"gte": 5}}},
        {"open": True},
        {"open": [True, False]},
        {"open": {"not": False}},
        {"tags": ["x", "z"]},
        {"tags": {"not": "y"}},
        {"open": True, "any": [{"year": {"lt": 5}}, {"country": 'a "b"', "tags": "x"}]},
        {"tags": "y", "year": {"lt": 10, "not": 5}},
        {"day": {"gte": "0901-02-03", "lt": "1901-02-03T00:00:00.000001Z"}},
        {"day": ["0101-02-03T00:00Z", "1401-02-03"]},
        {"day": {"not": {"lt": "1970-01-01"}}},
    ],
)
def test_a_filter_selects_in_milvus_what_it_selects_in_the_passage_table(
    files: tuple[Path, PassageTable], options: MilvusOptions, content: object
) -> None:
    shared = replace(options, prefix="same")
    push(*files, "filters", shared)
    index = open_milvus("filters", shared, **FACTS)
    selection = Selections(files[1]).select(parse_filter(content))

    (ranking,) = index.search(np.eye(1, 8, dtype=np.float32), 23, [selection])

    assert sorted(ranking.rows.tolist()) == np.flatnonzero(selection.mask).tolist()


def test_the_alias_points_at_the_last_push_and_the_older_collection_is_kept(
    files: tuple[Path, PassageTable], own: MilvusOptions
) -> None:
    client = connect(own)
    collections = [push(*files, name, own) for name in ("first", "second")]

    assert client.describe_alias(own.prefix)["collection_name"] == collections[1]
    assert all(client.has_collection(name) for name in collections)
    assert open_milvus("first", own, **FACTS).count == 23


def test_a_second_push_sends_nothing(files: tuple[Path, PassageTable], own: MilvusOptions) -> None:
    sent: list[int] = []
    push(*files, "name", own, sent.append)

    push(*files, "name", own, sent.append)

    assert sent == [23]


def test_an_interrupted_push_starts_over(
    files: tuple[Path, PassageTable], own: MilvusOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(milvus_push, "BATCH_BYTES", 10 * 8 * 4)

    def stop(num_rows: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        push(*files, "name", own, stop)
    with pytest.raises(GenerationError):
        open_milvus("name", own, **FACTS)
    sent: list[int] = []
    push(*files, "name", own, sent.append)

    assert sent == [10, 10, 3]
    assert open_milvus("name", own, **FACTS).count == 23


def test_a_collection_that_is_not_there_is_refused_with_the_fix(own: MilvusOptions) -> None:
    with pytest.raises(GenerationError, match="run `clear-service index push`"):
        open_milvus("absent", own, **FACTS)


def test_another_count_is_refused(files: tuple[Path, PassageTable], own: MilvusOptions) -> None:
    push(*files, "name", own)

    with pytest.raises(GenerationError, match="Milvus holds 23 vectors .* the generation has 24"):
        open_milvus("name", own, **FACTS | {"count": 24})


@pytest.mark.slow
@pytest.mark.parametrize("index_type", ["GPU_CAGRA", "NONSENSE"])
def test_an_index_type_that_milvus_lacks_is_refused(
    files: tuple[Path, PassageTable], milvus_server_uri: str, index_type: str
) -> None:
    """Milvus Lite accepts any type and reports that it created it."""
    options = MilvusOptions(milvus_server_uri, index_type=index_type, prefix=f"t{index_type}")

    with pytest.raises(GenerationError, match="Milvus failed to"):
        push(*files, "name", options)


@pytest.mark.slow
@pytest.mark.parametrize("index_type", ["HNSW", "IVF_FLAT", "IVF_SQ8"])
def test_an_approximate_index_of_milvus_returns_full_rankings(
    files: tuple[Path, PassageTable], milvus_server_uri: str, index_type: str
) -> None:
    options = MilvusOptions(milvus_server_uri, index_type=index_type, prefix=f"t{index_type}")
    push(*files, "name", options)
    selection = Selections(files[1]).select(parse_filter({"open": True}))

    index = open_milvus("name", options, **FACTS)
    rankings = index.search(np.eye(2, 8, dtype=np.float32), 23, [None, selection])

    assert [len(ranking.rows) for ranking in rankings] == [23, 10]


def test_an_index_of_another_type_than_asked_for_is_refused(
    files: tuple[Path, PassageTable], own: MilvusOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = connect(own)
    monkeypatch.setattr(client, "describe_index", lambda *_, **__: {"index_type": "AUTOINDEX"})
    monkeypatch.setattr(milvus_collection, "connect", lambda options: client)

    with pytest.raises(GenerationError, match="Milvus created an index of type AUTOINDEX"):
        push(*files, "name", own)


def test_an_unreachable_server_is_reported_without_the_token() -> None:
    options = MilvusOptions("http://127.0.0.1:9", token="root:secret", timeout_seconds=1)

    with pytest.raises(DeviceError, match="Milvus cannot be reached at CLEAR_MILVUS_URI") as caught:
        connect(options)

    assert "secret" not in str(caught.value) + repr(options) + repr(IndexOptions(milvus=options))


def test_a_value_that_is_too_long_for_milvus_is_refused(tmp_path: Path) -> None:
    with PassageTableWriter(tmp_path / "passages", FIELDS) as table:
        table.write([Passage("a", "text", "", {"country": "x" * 70_000})])

    with pytest.raises(GenerationError, match="`country` is longer than Milvus allows"):
        field_values(PassageTable(tmp_path / "passages", FIELDS), 0, 1)


def test_a_filter_is_written_with_its_strings_quoted() -> None:
    content = {"country": 'x"] or true or f0 in ["', "tags": ["a"], "open": {"not": True}}

    assert to_expression(parse_filter(content), FIELDS) == (
        '(has_f0 == true and f0 in ["x\\"] or true or f0 in [\\""])'
        " and not (has_f1 == true and f1 in [true])"
        ' and (array_contains_any(f2, ["a"]))'
    )


def test_a_date_is_a_number_of_microseconds_in_milvus(tmp_path: Path) -> None:
    with PassageTableWriter(tmp_path / "passages", FIELDS) as table:
        days = [{"day": "1970-01-02"}, {"day": "0001-01-01"}, {}]
        table.write([Passage(str(row), "text", "", day) for row, day in enumerate(days)])

    values = field_values(PassageTable(tmp_path / "passages", FIELDS), 0, 3)
    column = f"f{list(FIELDS).index('day')}"

    assert [row[column] for row in values] == [86_400_000_000, -62_135_596_800_000_000, 0]
    assert [row[f"has_{column}"] for row in values] == [True, True, False]
    assert to_expression(parse_filter({"day": {"gte": "1970-01-02"}}), FIELDS) == (
        f"(has_{column} == true and {column} >= 86400000000)"
    )
