import pytest

from service.retrieval.corpus.columns import Columns


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["id", "text", "title"], Columns("id", "text", "title")),
        (["_id", "text", "name"], Columns("_id", "text", "title")),  # `name` stays metadata
        (["docid", "contents"], Columns("docid", "contents", "title")),
        (["pid", "passage", "headline"], Columns("pid", "passage", "headline")),
        (["content", "text", "id", "name"], Columns("id", "text", "title")),
        (["a", "b"], Columns("id", "text", "title")),
    ],
)
def test_columns_are_found_by_common_names(names: list[str], expected: Columns) -> None:
    assert Columns().found_in(names) == expected


def test_a_named_column_is_kept_and_the_others_are_found() -> None:
    found = Columns(text="long.text").found_in(["id", "text", "long", "name"])

    assert found == Columns("id", "long.text", "name")
    assert not found.is_usual
    assert found.describe() == "id from `id`, text from `long.text`, title from `name`"


def test_one_file_may_have_both_usual_ids() -> None:
    columns = Columns().found_in(["id", "text"])

    assert [columns.id_in(record) for record in ({"_id": 1}, {"id": 1, "_id": 2}, {})] == [
        "_id", "id", "id",
    ]  # fmt: skip
