"""The routes `/search`, queries in, hits out, and `/passages/{passage_id}`."""

from fastapi import APIRouter, Request, Response

from service.api.openapi import GET_RESPONSES, POST_RESPONSES, PROBLEM_RESPONSES
from service.api.response import (
    deadline_of,
    engine_of,
    index_info,
    invalid_field,
    json_response,
    milliseconds_of,
    naming_text,
    state_of,
)
from service.api.search_answers import PassageResponse, SearchResponse
from service.api.search_schemas import SearchRequest
from service.batching.request import Spent
from service.engine.language import QueryLanguage
from service.engine.page import Page
from service.errors import ShortDeadlineError, UnknownPassageError
from service.http.disconnect import cancel_on_disconnect
from service.http.json_route import JsonRoute
from service.retrieval.corpus.selection import Facet
from service.retrieval.language_quality import LanguageRecord, grade_of

router = APIRouter(route_class=JsonRoute)


@router.post(
    "/search",
    summary="Search the passages",
    response_model=SearchResponse,
    responses=POST_RESPONSES,
    tags=["search"],
)
async def search(body: SearchRequest, request: Request) -> Response:
    """Find the English passages that answer queries in any language."""
    engine = engine_of(request)
    work = engine.search(
        body.texts,
        Page(
            body.top_k,
            body.offset,
            -1.0 if body.min_score is None else body.min_score,
            body.fold is not None,
            body.more_like,
            body.min_relevance,
            body.answer_threshold,
            by_document=body.group == "document",
            evidence=body.evidence,
        ),
        language=body.language,
        deadline=deadline_of(request, body.timeout_ms),
        filter=body.filter,
        facets=body.facets,
        spent=Spent(),
    )
    field = body.source
    try:
        with naming_text(field, is_list=body.queries is not None):
            found = await cancel_on_disconnect(request, work)
    except ShortDeadlineError as error:
        longest_ms = state_of(request).settings.max_timeout_ms
        if error.least_seconds * 1000 <= longest_ms:
            raise
        raise invalid_field(
            field,
            f"must take less than the longest timeout_ms ({longest_ms}) on an idle device: "
            "send fewer or shorter texts",
        ) from None
    generation = found.generation
    took_ms = milliseconds_of(found.stage_seconds)
    return json_response(
        {
            "results": [
                {
                    **_language(language, engine.searcher.encoder.checkpoint.languages),
                    "answered": answered,
                    **({"truncated": True} if truncated else {}),
                    "hits": [hit.as_dict(body.include_text, body.evidence) for hit in hits],
                }
                for language, answered, truncated, hits in zip(
                    found.languages, found.answered, found.truncated, found.hits, strict=True
                )
            ],
            "index": index_info(generation),
            "encoder": engine.searcher.encoder.public_name,
            "took_ms": took_ms,
            **({"facets": _facets(found.facets)} if found.facets else {}),
        },
        took_ms,
    )


@router.get(
    "/passages/{passage_id:path}",
    summary="Read a passage",
    response_model=PassageResponse,
    response_model_exclude_unset=True,
    responses={
        **GET_RESPONSES,
        404: PROBLEM_RESPONSES[404],
        422: PROBLEM_RESPONSES[422],
    },
    tags=["search"],
)
async def passage(passage_id: str, request: Request) -> dict[str, object]:
    """Return a passage by its id, or a whole document that was split by the document's id."""
    generation = engine_of(request).searcher.generation
    table = generation.passages
    row = table.find(passage_id)
    found = table.document(passage_id) if row is None else table.read([row])[0]
    if found is None:
        raise UnknownPassageError("the live index has no passage of this id: search for it")
    return {
        "passage_id": found.passage_id,
        "title": found.title,
        "text": found.text,
        "metadata": dict(found.metadata),
        **found.place,
        "index": index_info(generation),
    }


def _language(language: QueryLanguage, record: LanguageRecord | None) -> dict[str, object]:
    """Return the language of a query, with its quality in a record if it is certain."""
    if language.is_certain:
        return {"language": language.code, "language_quality": grade_of(record, language.code)}
    return {
        "language": language.code,
        "language_uncertain": True,
        "language_quality": "unknown",
    }


def _facets(facets: dict[str, Facet]) -> dict[str, object]:
    return {
        field: {
            "values": [{"value": value, "count": count} for value, count in facet.values],
            "num_values": facet.num_values,
        }
        for field, facet in facets.items()
    }
