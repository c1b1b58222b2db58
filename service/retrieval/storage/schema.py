"""Checks of JSON documents against pydantic models; an error names the file and the field.

A hash proves where a file came from. It does not prove that its content has the right form.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError

from service.retrieval.errors import MAX_QUOTED, ArtifactError

# The words for pydantic's error types, for the author of a JSON file.
REASONS = {
    "missing": "is missing",
    "string_type": "is not text",
    "int_type": "is not a whole number",
    "float_type": "is not a number",
    "bool_type": "is not true or false",
    "list_type": "is not a list",
    "too_short": "is empty",
    "too_long": "must be empty",
    "finite_number": "is not a finite number",
    "dict_type": "is not an object",
    "model_type": "is not an object",
    "none_required": "must be null",
}


MAX_DEPTH = 64


def _whole(text: str) -> str:
    if _is_broken(text):
        raise ValueError("holds half a surrogate pair")
    return text


def _is_broken(text: str) -> bool:
    return not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text)


# Text that UTF-8 can encode. An escape in JSON can hold half a surrogate pair; pydantic accepts it.
JsonText = Annotated[str, AfterValidator(_whole)]


def _sha256(text: Any) -> Any:
    if not (isinstance(text, str) and re.fullmatch("[0-9a-f]{64}", text)):
        raise ValueError("is not a sha256 of 64 hexadecimal digits: correct it or remove it")
    return text


# A hash that may be absent, but not empty or null: such a value would switch the check off.
OptionalSha256 = Annotated[str | None, BeforeValidator(_sha256)]


class Document(BaseModel):
    """The fields of a JSON document that a reader counts on; further fields are kept as they are.

    Values are not converted: `"12"` is not a number and `true` is not 1.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="allow")


DocumentType = TypeVar("DocumentType", bound=BaseModel)


def parse_document(
    model: type[DocumentType], content: Any, path: Path, error: type[ArtifactError], fix: str
) -> DocumentType:
    """Build a model from the content of a JSON file.

    Args:
        model: the model of the document.
        content: what the file holds, as `json.loads` returns it.
        path: the file, for the message.
        error: the class of the error raised.
        fix: what a user can do, for the message.

    Raises:
        ArtifactError: of the class `error`, naming the file, the first field that is wrong and
            the fix.
    """
    try:
        return model.model_validate(content)
    except ValidationError as reason:
        raise error(f"{path}: {schema_violation(reason)}: {fix}") from None


def schema_violation(error: ValidationError) -> str:
    """Return the first field that is wrong and what is wrong with it, in one line."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = _place(first["loc"])
    reason = REASONS.get(first["type"]) or _plain(first["msg"])
    return f"`{place}` {reason}" if place else f"it {reason}"


def content_violation(content: Any) -> str | None:
    """Return the first place in a JSON document that this program cannot write again, or None.

    Such a place holds text that UTF-8 cannot encode, or is nested too deeply.
    """
    waiting: list[tuple[tuple[str | int, ...], Any]] = [((), content)]
    while waiting:
        place, value = waiting.pop()
        if len(place) > MAX_DEPTH:
            return f"`{_place(place[:3])}` is nested deeper than {MAX_DEPTH} levels"
        if isinstance(value, str) and _is_broken(value):
            return f"`{_place(place)}` holds half a surrogate pair"
        if isinstance(value, dict):
            if broken := next(filter(_is_broken, value), None):
                return f"the name `{_place((*place, broken))}` holds half a surrogate pair"
            waiting += [((*place, key), part) for key, part in reversed(value.items())]
        if isinstance(value, list):
            waiting += [((*place, at), part) for at, part in reversed(list(enumerate(value)))]
    return None


def _place(location: Iterable[str | int]) -> str:
    place = ""
    for part in location:
        name = ascii(part)[1:-1][:MAX_QUOTED] if isinstance(part, str) else f"[{part}]"
        place += name if isinstance(part, int) or not place else f".{name}"
    return place if len(place) <= 2 * MAX_QUOTED else f"{place[: 2 * MAX_QUOTED]}..."


def _plain(message: str) -> str:
    return message.removeprefix("Value error, ").replace("Input should", "must")
