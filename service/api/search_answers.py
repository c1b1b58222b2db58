"""Response bodies of `/search` and `/passages/{passage_id}`."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from service.api.schemas import IndexInfo, StageTimes
from service.retrieval.language_quality import Grade


class ChunkPlace(BaseModel):
    """Where a passage is from; present only if it is a part of a longer document."""

    document_id: Annotated[str | None, Field(description="The document's id")] = None
    start: Annotated[
        int | None, Field(description="Characters of the document's text before this one")
    ] = None
    end: Annotated[int | None, Field(description="Where it ends, in characters")] = None


class Evidence(BaseModel):
    """The part of a hit's text that answers the query best."""

    start: Annotated[int, Field(description="Characters of the hit's text before it")]
    end: Annotated[int, Field(description="Where it ends, in characters")]
    score: Annotated[
        float,
        Field(description="Inner product of the embeddings of query and best sentence, -1 to 1"),
    ]


class Hit(ChunkPlace):
    """A passage that was found."""

    passage_id: str
    score: Annotated[float, Field(description="Inner product of unit-norm embeddings, -1 to 1")]
    relevance: Annotated[
        float | None,
        Field(
            description="Probability that the passage answers the query, 0 to 1; null where "
            "`/info` says why there is none, or for more_like"
        ),
    ]
    rank: Annotated[int, Field(description="1 is the best hit")]
    matched: Annotated[
        list[str],
        Field(
            description="Rare codes, numbers, acronyms and names of the query that the passage "
            "holds, as it writes them; they lift it above passages of a higher score"
        ),
    ]
    title: str
    text: Annotated[str | None, Field(description="Null if include_text is false")]
    metadata: dict[str, Any]
    duplicates: Annotated[
        int | None,
        Field(
            description="Hits folded into this one; present only if fold is given or the index "
            "was built with --deduplicate"
        ),
    ] = None
    duplicate_ids: Annotated[
        list[str] | None, Field(description="Their passage_ids; present with duplicates")
    ] = None
    more_chunks: Annotated[
        int | None,
        Field(description="Other chunks found of the document; present only if grouped by it"),
    ] = None
    evidence: Annotated[
        Evidence | None,
        Field(
            description="Present only if asked for; null where no part stands out, for more_like, "
            "and where `/info` says why the index has no evidence"
        ),
    ] = None


class PassageResponse(ChunkPlace):
    """A passage of the live index, or a document that was split."""

    passage_id: str
    title: str
    text: str
    metadata: dict[str, Any]
    index: IndexInfo


class SearchResult(BaseModel):
    """The hits of one query."""

    language: Annotated[
        str, Field(description="The language as given in the request, else as detected (BCP 47)")
    ]
    language_uncertain: Annotated[
        bool | None,
        Field(
            description="True if the query is too short, or too like several languages, to detect "
            "its language for certain; else absent"
        ),
    ] = None
    language_quality: Annotated[
        Grade,
        Field(
            description="How well the encoder finds passages for queries in this language; unknown "
            "where the language is uncertain"
        ),
    ]
    answered: Annotated[
        bool | None,
        Field(
            description="Whether the best hit's relevance reaches answer_threshold, also if "
            "offset, min_score or min_relevance omits that hit; null as relevance is"
        ),
    ]
    truncated: Annotated[
        bool | None,
        Field(
            description="True if the query is over the encoder's limit, so that only its "
            "beginning was searched for; else absent"
        ),
    ] = None
    hits: list[Hit]


class FacetValue(BaseModel):
    """A value of a field, and the number of passages that have it."""

    value: str | bool | int | float
    count: int


class Facet(BaseModel):
    """The values of a field among all passages that match the filter."""

    values: Annotated[list[FacetValue], Field(description="The most frequent values, at most 100")]
    num_values: Annotated[int, Field(description="Number of distinct values")]


class SearchResponse(BaseModel):
    """One result for each query, in order."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "results": [
                        {
                            "language": "sw",
                            "language_quality": "good",
                            "answered": True,
                            "hits": [
                                {
                                    "passage_id": "kenya.12",
                                    "score": 0.87,
                                    "relevance": 0.93,
                                    "rank": 1,
                                    "matched": [],
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
        dict[str, Facet] | None, Field(description="Facets by field; present only if requested")
    ] = None
    index: IndexInfo
    encoder: str
    took_ms: StageTimes
