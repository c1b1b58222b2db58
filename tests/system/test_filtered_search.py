"""Filters and facets, through the HTTP API and the command line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from service.app import create_app
from service.cli.main import app
from service.retrieval.corpus.fields import parse_fields
from service.retrieval.corpus.reader import read_passages
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.errors import PassageError
from service.retrieval.generation.generation import open_current
from service.retrieval.indexing.build import build_index
from service.settings.settings import Settings
from tests.conftest import write_passages

RECORDS: list[dict[str, Any]] = [
    {
        "id": f"{number:02}",
        "text": f"Passage number {number}.",
        "year": 1990 + number,
        "country": ["Kenya", "Peru", "Japan"][number % 3],
        "day": f"{1990 + number}-02-03T0{number % 2}:00+01:00",
        "tags": ["old"] * (number < 5) + ["even"] * (number % 2 == 0),
    }
    for number in range(12)
] + [{"id": "bare", "text": "It has no metadata at all."}]
FIELDS = ["year:int", "country:string", "tags:strings", "day:date"]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Encoder) -> Path:
    folder = tmp_path_factory.mktemp("filtered")
    passages = write_passages(folder / "passages.jsonl", RECORDS)
    build_index(
        read_passages(passages), folder / "index", tiny_encoder, fields=parse_fields(FIELDS)
    )
    return folder / "index"


@pytest.fixture(scope="module")
def filtered(index: Path, tiny_checkpoint: Path) -> Iterator[TestClient]:
    settings = Settings(encoder=str(tiny_checkpoint), index=index, device="cpu")
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        yield client


def search(client: TestClient, **body: object) -> dict[str, Any]:
    response = client.post("/search", json={"query": "a question", "top_k": 50, **body})
    assert response.status_code == 200, response.text
    return dict(response.json())


def found(answer: dict[str, Any]) -> list[str]:
    return [hit["passage_id"] for hit in answer["results"][0]["hits"]]


@pytest.mark.parametrize(
    ("content", "ids"),
    [
        ({"country": "Kenya"}, {"00", "03", "06", "09"}),
        ({"country": ["Kenya", "Peru"], "year": {"gte": 1999}}, {"09", "10"}),
        ({"country": {"not": ["Kenya", "Peru"]}}, {"02", "05", "08", "11", "bare"}),
        ({"tags": "old", "year": {"lt": 1992}}, {"00", "01"}),
        ({"year": 1995}, {"05"}),
        ({"year": 1850}, set()),
        ({"day": {"gte": "2000-02-03"}}, {"11"}),
        ({"day": {"lt": "1991-02-03"}}, {"00"}),
        ({"day": "1991-02-03T01:00:00+01:00"}, {"01"}),
    ],
)
def test_hits_are_those_that_match_in_the_order_without_a_filter(
    filtered: TestClient, content: object, ids: set[str]
) -> None:
    everything = found(search(filtered))

    hits = found(search(filtered, filter=content))

    assert hits == [passage_id for passage_id in everything if passage_id in ids]


def test_many_different_filters_at_once_each_get_their_own(filtered: TestClient) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def one(year: int) -> list[str]:
        return found(search(filtered, filter={"year": year}))

    with ThreadPoolExecutor(12) as threads:
        answers = list(threads.map(one, range(1990, 2002)))

    assert answers == [[f"{number:02}"] for number in range(12)]


def test_a_cached_query_is_filtered_too(filtered: TestClient) -> None:
    """The embedding comes from the cache; the hits must not."""
    everything = search(filtered)

    assert found(search(filtered, filter={"year": 1990})) == ["00"]
    assert found(search(filtered)) == found(everything)


def test_facets_count_all_passages_that_match_not_only_the_hits(
    filtered: TestClient,
) -> None:
    answer = search(filtered, top_k=1, filter={"year": {"gte": 1998}}, facets=["country", "tags"])

    assert answer["facets"] == {
        "country": {
            "values": [
                {"value": "Japan", "count": 2},
                {"value": "Kenya", "count": 1},
                {"value": "Peru", "count": 1},
            ],
            "num_values": 3,
        },
        "tags": {"values": [{"value": "even", "count": 2}], "num_values": 1},
    }


def test_facets_without_a_filter_count_everything(filtered: TestClient) -> None:
    facets = search(filtered, facets=["year"])["facets"]

    assert facets["year"]["num_values"] == 12
    assert facets["year"]["values"][0] == {"value": 1990, "count": 1}


def test_hits_and_facets_have_one_form_of_a_date(filtered: TestClient) -> None:
    answer = search(filtered, filter={"day": {"lt": "1992-01-01"}}, facets=["day"])

    days = {hit["metadata"]["day"] for hit in answer["results"][0]["hits"]}
    assert days == {"1990-02-02T23:00:00Z", "1991-02-03"}
    assert {each["value"] for each in answer["facets"]["day"]["values"]} == days


def test_an_answer_has_facets_and_their_time_only_where_asked_for(filtered: TestClient) -> None:
    assert "facets" not in search(filtered)
    assert "filter" not in search(filtered)["took_ms"]
    assert "filter" in search(filtered, filter={"year": 1990})["took_ms"]
    assert 'stage="filter"' in filtered.get("/metrics").text


@pytest.mark.parametrize(
    ("body", "field", "detail"),
    [
        (
            {"filter": {"city": "Nairobi"}},
            "filter.city",
            "this index declares no such field; it declares: "
            "country (string), day (date), tags (strings), year (number)",
        ),
        ({"filter": {"year": "1990"}}, "filter.year", "must be a number"),
        ({"filter": {"day": {"gt": "May"}}}, "filter.day.gt", "must be a date (YYYY-MM-DD or"),
        ({"filter": {"tags": {"gt": "a"}}}, "filter.tags", "is of the kind strings"),
        ({"filter": {"year": {"gte": None}}}, "filter.year.gte", "must be a number or a string"),
        ({"filter": "Kenya"}, "filter", "must be an object of fields, such as {field: value}"),
        ({"facets": ["city"]}, "facets[0]", "this index declares no such field"),
    ],
)  # fmt: skip
def test_a_wrong_filter_is_refused_by_its_field(
    filtered: TestClient, body: dict[str, object], field: str, detail: str
) -> None:
    response = filtered.post("/search", json={"query": "a", **body})

    assert response.status_code == 422
    assert response.json()["field"] == field
    assert response.json()["detail"].startswith(f"{field}: {detail}")


def test_info_lists_the_fields(filtered: TestClient) -> None:
    assert filtered.get("/info").json()["index"]["fields"] == {
        "country": "string", "day": "date", "tags": "strings", "year": "number",
    }  # fmt: skip


def test_a_passage_of_a_wrong_type_stops_the_build_with_its_line(
    tmp_path: Path, tiny_encoder: Encoder
) -> None:
    records = [*RECORDS[:3], {"id": "bad", "text": "text", "year": "1999"}]
    passages = write_passages(tmp_path / "passages.jsonl", records)

    with pytest.raises(PassageError, match=r"passages.jsonl:4 has a `year` that is not a number"):
        build_index(
            read_passages(passages), tmp_path / "index", tiny_encoder, fields=parse_fields(FIELDS)
        )


def test_a_passage_of_a_wrong_type_may_be_skipped(tmp_path: Path, tiny_encoder: Encoder) -> None:
    records = [*RECORDS[:3], {"id": "bad", "text": "text", "year": "1999"}]
    passages = write_passages(tmp_path / "passages.jsonl", records)
    errors: list[PassageError] = []

    build_index(
        read_passages(passages),
        tmp_path / "index",
        tiny_encoder,
        fields=parse_fields(FIELDS),
        on_invalid=errors.append,
    )

    assert len(errors) == 1
    assert len(open_current(tmp_path / "index").passages) == 3


def test_the_command_line_declares_fields_and_filters(
    tmp_path: Path, tiny_checkpoint: Path
) -> None:
    passages = write_passages(tmp_path / "passages.jsonl", RECORDS)
    common = ["--index", str(tmp_path / "index"), "--encoder", str(tiny_checkpoint), "--json"]
    declared = [word for field in FIELDS for word in ("--field", field)]

    built = CliRunner().invoke(app, ["index", "build", str(passages), *declared, *common])
    asked = CliRunner().invoke(
        app, ["search", "a question", "--filter", '{"year": {"lt": 1992}}', *common]
    )
    wrong = CliRunner().invoke(app, ["search", "a question", "--filter", "{year", *common])

    assert built.exit_code == 0, built.output
    assert {hit["passage_id"] for hit in json.loads(asked.stdout)["hits"]} == {"00", "01"}
    assert wrong.exit_code == 1
    assert "--filter is not valid JSON" in wrong.stderr


@pytest.mark.parametrize("factory", ["HNSW8", "SQ8"])
def test_every_factory_that_is_built_with_fields_answers_filters(
    tmp_path: Path, tiny_encoder: Encoder, factory: str
) -> None:
    from service.retrieval.corpus.filters import parse_filter
    from service.retrieval.searcher import Searcher

    passages = write_passages(tmp_path / "passages.jsonl", RECORDS)
    build_index(
        read_passages(passages),
        tmp_path / "index",
        tiny_encoder,
        factory=factory,
        fields=parse_fields(FIELDS),
    )
    searcher = Searcher(tiny_encoder, open_current(tmp_path / "index"))

    (hits,) = searcher.search(["a"], 50, filter=parse_filter({"country": "Peru"}))
    (early,) = searcher.search(["a"], 50, filter=parse_filter({"day": {"lt": "1992-01-01"}}))

    assert {hit.passage.passage_id for hit in early} == {"00", "01"}
    assert {hit.passage.passage_id for hit in hits} == {"01", "04", "07", "10"}
