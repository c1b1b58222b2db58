import pytest

from service.retrieval.storage.shape import Each, Maybe, misfit

SHAPE = {
    "name": str,
    "count": int,
    "tags": Maybe([str]),
    "files": Each({"size": int}, required=("a",)),
}
FITTING = {"name": "x", "count": 1, "files": {"a": {"size": 1}, "b": {"size": 2}}}


@pytest.mark.parametrize("more", [{}, {"tags": []}, {"tags": ["a"]}, {"other": object()}])
def test_what_fits_has_no_fault(more: dict[str, object]) -> None:
    assert misfit(FITTING | more, SHAPE) is None


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (None, "it is no object"),
        ([], "it is no object"),
        ({}, "name is missing"),
        (FITTING | {"name": None}, "name is no text"),
        (FITTING | {"name": "\ud800"}, "name holds half a surrogate pair"),
        (FITTING | {"count": True}, "count is no integer"),
        (FITTING | {"count": 1.0}, "count is no integer"),
        (FITTING | {"tags": "ab"}, "tags is no list"),
        (FITTING | {"tags": ["a", 5]}, "tags[1] is no text"),
        (FITTING | {"files": {"b": {"size": 2}}}, "files.a is missing"),
        (FITTING | {"files": {"a": {"size": 2}, "b": {}}}, "files.b.size is missing"),
        (FITTING | {"files": {"a": {"size": 2}, "\ud800\n": 5}}, r"files.\ud800\n is no object"),
    ],
)
def test_the_first_fault_is_named_with_its_place(content: object, fault: str) -> None:
    assert misfit(content, SHAPE) == fault
