"""Request and response bodies of `/search`, with their limits."""

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from service.api.schemas import Body, IndexInfo, StageTimes, Text, Timeout
from service.retrieval.corpus.filters import BOUNDS, Filter, parse_filter
from service.retrieval.errors import FilterError
from service.retrieval.index.backend import MAX_TOP_K

MAX_QUERIES = 64
MAX_FACETS = 16
BCP_47 = r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*$"


def _as_filter(content: object) -> Filter:
    try:
        return parse_filter(content)
    except FilterError as error:
        context = {"field": error.field, "reason": error.reason}
        raise PydanticCustomError("filter", "{reason}", context) from None


FILTER_SCHEMA = {
    "type": "object",
    "minProperties": 1,
    "additionalProperties": {
        "anyOf": [
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
    },
}
FilterField = Annotated[
    Filter, PlainValidator(_as_filter), WithJsonSchema(FILTER_SCHEMA, mode="validation")
]


class SearchRequest(Body):
    """What to search for."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"query": "Je, mji mkuu wa Kenya ni upi?", "top_k": 3, "language": "sw"}]
        }
    )

    query: Annotated[Text | None, Field(description="One question, in any language")] = None
    queries: Annotated[
        list[Text] | None,
        Field(min_length=1, max_length=MAX_QUERIES, description="Or several, answered in order"),
    ] = None
    top_k: Annotated[int, Field(ge=1, le=MAX_TOP_K, description="Hits a query at the most")] = 10
    filter: Annotated[
        FilterField | None,
        Field(
            description="Declared fields that hits must have: {field: value}, {field: [values]}, "
            "{field: {gte, gt, lte, lt, not}}"
        ),
    ] = None
    facets: Annotated[
        list[str],
        Field(
            max_length=MAX_FACETS,
            description="Declared fields whose values are counted among all that the filter "
            "lets through",
        ),
    ] = []
    min_score: Annotated[
        float | None, Field(ge=-1, le=1, description="Leave out hits with a lower score")
    ] = None
    language: Annotated[
        str | None,
        Field(pattern=BCP_47, description="The queries' language (BCP 47); else it is detected"),
    ] = None
    include_text: Annotated[bool, Field(description="False leaves the passages' text out")] = True
    timeout_ms: Timeout = None

    @model_validator(mode="after")
    def _check_fields(self) -> Self:
        if (self.query is None) == (self.queries is None):
            raise PydanticCustomError(
                "query", "give either `query` or `queries`", {"field": "query"}
            )
        return self

    @property
    def texts(self) -> list[str]:
        """List the queries, one or several."""
        return [self.query] if self.query is not None else list(self.queries or [])


class Hit(BaseModel):
    """A passage found."""

    passage_id: str
    score: Annotated[float, Field(description="Inner product of unit vectors, -1 to 1")]
    rank: Annotated[int, Field(description="1 is the best")]
    title: str
    text: Annotated[str | None, Field(description="Null where include_text is false")]
    metadata: dict[str, Any]


class SearchResult(BaseModel):
    """One query's hits."""

    language: Annotated[str, Field(description="As declared, else as detected (BCP 47)")]
    hits: list[Hit]


class FacetValue(BaseModel):
    """A value of a field, and how many passages have it."""

    value: str | bool | int | float
    count: int


class Facet(BaseModel):
    """A field's values among all passages that the filter lets through."""

    values: Annotated[list[FacetValue], Field(description="The most frequent, 100 at the most")]
    num_values: Annotated[int, Field(description="How many values there are in all")]


class SearchResponse(BaseModel):
    """One result a query, in order."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "results": [
                        {
                            "language": "sw",
                            "hits": [
                                {
                                    "passage_id": "kenya.12",
                                    "score": 0.87,
                                    "rank": 1,
                                    "title": "Kenya",
                                    "text": "Nairobi is the capital of Kenya.",
                                    "metadata": {"page": 1},
                                }
                            ],
                        }
                    ],
                    "index": {"generation": "3f9c" * 16, "passages": 5538},
                    "encoder": "bundled",
                    "took_ms": {
                        "tokenize": 0.1,
                        "queue": 0.0,
                        "encode": 8.9,
                        "search": 0.6,
                        "passages": 0.1,
                    },
                }
            ]
        }
    )

    results: list[SearchResult]
    facets: Annotated[
        dict[str, Facet] | None, Field(description="By field; there only where asked for")
    ] = None
    index: IndexInfo
    encoder: str
    took_ms: StageTimes
