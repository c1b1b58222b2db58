"""The route `/encode`: texts in, embeddings out."""

from fastapi import APIRouter, Request, Response

from service.api.openapi import POST_RESPONSES
from service.api.response import (
    deadline_of,
    dimension_of,
    engine_of,
    invalid_field,
    json_response,
    milliseconds_of,
    naming_text,
    serialize_embeddings,
    truncate_embeddings,
)
from service.api.schemas import EncodeRequest, EncodeResponse
from service.batching.request import Spent
from service.http.disconnect import cancel_on_disconnect
from service.http.json_route import JsonRoute

router = APIRouter(route_class=JsonRoute)


@router.post(
    "/encode",
    summary="Embed texts",
    response_model=EncodeResponse,
    responses=POST_RESPONSES,
    tags=["encode"],
)
async def encode(body: EncodeRequest, request: Request) -> Response:
    """Embed texts as queries or as passages."""
    engine = engine_of(request)
    encoder = engine.searcher.encoder
    dimension = dimension_of(encoder, body.dimensions)
    if body.role == "passage" and not encoder.encodes_passages:
        raise invalid_field("role", "must be query: this encoder has no passage side")
    deadline = deadline_of(request, body.timeout_ms)
    work = engine.encode(
        body.texts, body.role, deadline, may_extend=body.timeout_ms is None, spent=Spent()
    )
    with naming_text("texts"):
        embedded = await cancel_on_disconnect(request, work)
        embeddings = truncate_embeddings(embedded.embeddings, dimension)
    took_ms = milliseconds_of(embedded.stage_seconds)
    return json_response(
        {
            "embeddings": serialize_embeddings(embeddings, body.encoding_format),
            "dimension": dimension,
            "encoder": encoder.public_name,
            "usage": {"tokens": embedded.num_tokens, "truncated_texts": embedded.num_truncated},
            "took_ms": took_ms,
        },
        took_ms,
    )
