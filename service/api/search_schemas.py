"""Request bodies of `/search`, with their limits."""

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from service.api.schemas import Body, Text, Timeout, WholeNumber
from service.api.search_fields import FilterField, LanguageCode
from service.retrieval.defaults import ANSWER_THRESHOLD
from service.retrieval.index.backend import MAX_TOP_K
from service.retrieval.storage.schema import JsonText

MAX_QUERIES = 64
MAX_FACETS = 16
SOURCES = ("query", "queries", "more_like")


class SearchRequest(Body):
    """The queries to search for, and which passages may be hits."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"query": "Je, mji mkuu wa Kenya ni upi?", "top_k": 3, "language": "sw"}],
            "oneOf": [
                {"required": ["query"], "properties": {"query": {"type": "string"}}},
                {"required": ["queries"], "properties": {"queries": {"type": "array"}}},
                {"required": ["more_like"], "properties": {"more_like": {"type": "string"}}},
            ],
        }
    )

    query: Annotated[Text | None, Field(description="One query, in any language")] = None
    queries: Annotated[
        list[Text] | None,
        Field(
            min_length=1, max_length=MAX_QUERIES, description="Several queries, answered in order"
        ),
    ] = None
    more_like: Annotated[
        JsonText | None,
        Field(
            description="The id of a passage, in place of a query: find the passages nearest to "
            "it. Itself and the other chunks of its document are left out; the id of a document "
            "that was split stands for its first chunk. Hits have no relevance"
        ),
    ] = None
    top_k: Annotated[
        int,
        Field(ge=1, le=MAX_TOP_K, description="Maximum number of hits for each query"),
        WholeNumber,
    ] = 10
    offset: Annotated[
        int,
        Field(ge=0, lt=MAX_TOP_K, description="Hits to leave out first; with top_k 1,000 at most"),
        WholeNumber,
    ] = 0
    fold: Annotated[
        Literal["duplicates"] | None,
        Field(
            description="`duplicates`: of hits that nearly repeat each other's text the best one "
            "is returned, with the number of the others; offset and top_k count what is left"
        ),
    ] = None
    group: Annotated[
        Literal["document", "chunk"],
        Field(
            description="`document`: of a long document that was split the best chunk is returned, "
            "with the number of the others found; `chunk`: all chunks"
        ),
    ] = "document"
    filter: Annotated[
        FilterField | None,
        Field(
            description="Conditions on declared fields: {field: value}, {field: [values]}, "
            "{field: {gte, gt, lte, lt, not}}, {any: [filters]}; dates are ISO 8601, in UTC "
            "without a zone"
        ),
    ] = None
    facets: Annotated[
        list[str],
        Field(
            max_length=MAX_FACETS,
            description="Declared fields whose values are counted among all passages that match "
            "the filter",
        ),
    ] = []
    min_score: Annotated[
        float | None, Field(ge=-1, le=1, description="Omit hits with a lower score")
    ] = None
    min_relevance: Annotated[
        float | None, Field(ge=0, le=1, description="Omit hits with a lower relevance")
    ] = None
    answer_threshold: Annotated[
        float,
        Field(ge=0, le=1, description="The relevance from which on a query counts as answered"),
    ] = ANSWER_THRESHOLD
    language: Annotated[
        LanguageCode | None,
        Field(description="Language of the queries (BCP 47); detected by default"),
    ] = None
    include_text: Annotated[bool, Field(description="False omits the text of the passages")] = True
    evidence: Annotated[
        bool,
        Field(description="True finds the part of each hit's text that answers the query best"),
    ] = False
    timeout_ms: Timeout = None

    @model_validator(mode="after")
    def _check_fields(self) -> Self:
        given = [name for name in SOURCES if getattr(self, name) is not None]
        if len(given) != 1:
            raise PydanticCustomError(
                "query", "give one of `query`, `queries` and `more_like`", {"field": "query"}
            )
        if self.offset + self.top_k > MAX_TOP_K:
            raise PydanticCustomError(
                "offset",
                "must be at most {largest} with this top_k",
                {"field": "offset", "largest": MAX_TOP_K - self.top_k},
            )
        if self.min_relevance is not None and self.more_like is not None:
            raise PydanticCustomError(
                "min_relevance",
                "a passage asks no question: leave it out beside more_like",
                {"field": "min_relevance"},
            )
        return self

    @property
    def source(self) -> str:
        """Return the field that says what to search for."""
        return next(name for name in SOURCES if getattr(self, name) is not None)

    @property
    def texts(self) -> list[str]:
        """Return the queries as a list."""
        return [self.query] if self.query is not None else list(self.queries or [])
