"""Whether a JSON document has the shape that its reader counts on; a hash proves only origin."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Maybe:
    """A field that may be missing."""

    shape: Any


@dataclass(frozen=True)
class Each:
    """An object of any names whose values are alike, some of which must be there."""

    shape: Any
    required: tuple[str, ...] = ()


def misfit(content: Any, shape: Any) -> str | None:
    """Name the first place where a document is not of a shape; None where it is.

    Args:
        content: as `json.loads` gives it.
        shape: a type; a list of one shape for all items; a dict of shapes by field, further
            fields left as they are; `Maybe` or `Each`.

    >>> misfit({"count": "12"}, {"count": int})
    'count is no integer'
    >>> misfit({"files": [{"size": 5}]}, {"files": [{"size": int, "name": Maybe(str)}]})
    """
    return next(_misfits(content, shape, ""), None)


NAMES = {str: "text", int: "integer", dict: "object", list: "list"}


def _misfits(content: Any, shape: Any, place: str) -> Iterator[str]:
    kind = shape if isinstance(shape, type) else list if isinstance(shape, list) else dict
    if not isinstance(content, kind) or isinstance(content, bool):
        yield f"{place or 'it'} is no {NAMES[kind]}"
    elif isinstance(content, str):
        if any("\ud800" <= character <= "\udfff" for character in content):
            yield f"{place} holds half a surrogate pair"
    elif isinstance(content, list):
        for number, item in enumerate(content):
            yield from _misfits(item, shape[0], f"{place}[{number}]")
    elif isinstance(content, dict):
        yield from _object_misfits(content, shape, place)


def _object_misfits(content: dict[str, Any], shape: Any, place: str) -> Iterator[str]:
    if isinstance(shape, Each):
        missing = (name for name in shape.required if name not in content)
        expected = dict.fromkeys(content, shape.shape)
    else:
        needed = (name for name, each in shape.items() if not isinstance(each, Maybe))
        missing = (name for name in needed if name not in content)
        expected = {name: each for name, each in shape.items() if name in content}
    yield from (f"{_join(place, name)} is missing" for name in missing)
    for name, each in expected.items():
        wanted = each.shape if isinstance(each, Maybe) else each
        yield from _misfits(content[name], wanted, _join(place, name))


def _join(place: str, name: str) -> str:
    return f"{place}.{ascii(name)[1:-1]}" if place else ascii(name)[1:-1]
