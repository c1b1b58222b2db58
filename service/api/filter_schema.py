"""The filter of a search in a request's body: its schema, and how it is parsed."""

from typing import Annotated

from pydantic import PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from service.retrieval.corpus.filters import ANY, BOUNDS, Filter, parse_filter
from service.retrieval.errors import FilterError


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
