"""The fields `filter` and `language` of a search: their schemas, and how they are parsed."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from service.retrieval.corpus.filters import ANY, BOUNDS, Filter, parse_filter
from service.retrieval.errors import FilterError

# A language code, or the prefix of a grandfathered (`i-klingon`) or private (`x-...`) tag.
BCP_47 = r"^([A-Za-z]{2,3}|[IiXx]-[A-Za-z0-9]{1,8})(-[A-Za-z0-9]{1,8})*$"
NAMES = Path(__file__).parent / "language_names.json"


def _as_filter(content: object) -> Filter:
    try:
        return parse_filter(content)
    except FilterError as error:
        context = {"field": error.field, "reason": error.reason}
        raise PydanticCustomError("filter", "{reason}", context) from None


CONDITION_SCHEMAS = [
    {"type": ["string", "number", "boolean"]},
    {"type": "array", "items": {"type": ["string", "number", "boolean"]}},
    {
        "type": "object",
        "properties": {
            **{bound: {"type": ["string", "number"]} for bound in BOUNDS},
            "not": {"description": "a value, a list or bounds"},
        },
        "additionalProperties": False,
        "minProperties": 1,
    },
]
ALTERNATIVES_SCHEMA = {
    "description": "filters, of which at least one must hold",
    "type": "array",
    "items": {"type": "object", "minProperties": 1},
}
FILTER_SCHEMA = {
    "type": "object",
    "minProperties": 1,
    "properties": {ANY: {"anyOf": [ALTERNATIVES_SCHEMA, *CONDITION_SCHEMAS]}},
    "additionalProperties": {"anyOf": CONDITION_SCHEMAS},
}
FilterField = Annotated[
    Filter, PlainValidator(_as_filter), WithJsonSchema(FILTER_SCHEMA, mode="validation")
]


@cache
def _codes() -> dict[str, str]:
    """Return the code of each English name."""
    names = json.loads(NAMES.read_text(encoding="utf-8"))
    return {name.casefold(): code for code, name in names.items()}


def _as_code(value: str) -> str:
    if re.fullmatch(BCP_47, value):
        return value
    code = _codes().get(value.strip().casefold())
    raise PydanticCustomError(
        "language",
        "is the name of a language: write its code, `{code}`"
        if code
        else "must be a language code with hyphens (BCP 47), such as `sw`, `pt-BR` or `zh-Hant`",
        {"code": code},
    )


LanguageCode = Annotated[
    str,
    AfterValidator(_as_code),
    WithJsonSchema({"type": "string", "pattern": BCP_47}, mode="validation"),
]
