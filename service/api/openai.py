"""The routes of OpenAI's embeddings API, for clients that are written for OpenAI."""

from collections.abc import Iterable

from fastapi import APIRouter, Request, Response

from service.api.openai_schemas import EmbeddingsRequest, EmbeddingsResponse, Model, Models
from service.api.openapi import GET_RESPONSES, POST_RESPONSES, PROBLEM_RESPONSES, Responses
from service.api.response import (
    deadline_of,
    dimension_of,
    engine_of,
    json_response,
    milliseconds_of,
    naming_text,
    serialize_embeddings,
    truncate_embeddings,
)
from service.batching.request import Spent
from service.engine.engine import Engine
from service.errors import UnknownModelError
from service.http.disconnect import cancel_on_disconnect
from service.http.json_route import JsonRoute
from service.retrieval.encoder.batches import Role

NOT_FOUND: Responses = {404: PROBLEM_RESPONSES[404]}
router = APIRouter(prefix="/v1", tags=["openai"], route_class=JsonRoute)


@router.post(
    "/embeddings",
    summary="Embed texts as OpenAI does",
    response_model=EmbeddingsResponse,
    responses={**POST_RESPONSES, **NOT_FOUND},
)
async def embeddings(body: EmbeddingsRequest, request: Request) -> Response:
    """Embed texts: as passages by a model's bare name, as queries by its name with `:query`."""
    engine = engine_of(request)
    roles = roles_of(engine)
    role = roles.get(body.model)
    if role is None:
        raise _unknown_model(roles)
    dimension = dimension_of(engine.searcher.encoder, body.dimensions)
    deadline = deadline_of(request)
    work = engine.encode(body.input, role, deadline, may_extend=True, spent=Spent())
    with naming_text("input"):
        embedded = await cancel_on_disconnect(request, work)
        embeddings = truncate_embeddings(embedded.embeddings, dimension)
    rows = serialize_embeddings(embeddings, body.encoding_format)
    return json_response(
        {
            "object": "list",
            "data": [
                {"object": "embedding", "index": index, "embedding": row}
                for index, row in enumerate(rows)
            ],
            "model": body.model,
            "usage": {"prompt_tokens": embedded.num_tokens, "total_tokens": embedded.num_tokens},
        },
        milliseconds_of(embedded.stage_seconds),
    )


@router.get("/models", summary="List the models", responses=GET_RESPONSES)
async def models(request: Request) -> Models:
    """List the names that `model` accepts."""
    return Models(data=_models(engine_of(request)))


@router.get(
    "/models/{name:path}",
    summary="Describe a model",
    responses={**GET_RESPONSES, **NOT_FOUND, 422: PROBLEM_RESPONSES[422]},
)
async def model(name: str, request: Request) -> Model:
    """Describe one model."""
    known = _models(engine_of(request))
    for each in known:
        if each.id == name:
            return each
    raise _unknown_model(each.id for each in known)


def roles_of(engine: Engine) -> dict[str, Role]:
    """Return the role that each model name selects; some encoders have no passage side."""
    encoder = engine.searcher.encoder
    if not encoder.encodes_passages:
        return {encoder.public_name: "query", f"{encoder.public_name}:query": "query"}
    return {
        encoder.public_name: "passage",
        f"{encoder.public_name}:query": "query",
        f"{encoder.public_name}:passage": "passage",
    }


def _unknown_model(names: Iterable[str]) -> UnknownModelError:
    return UnknownModelError(f"there is no such model: use one of {', '.join(names)}")


def _models(engine: Engine) -> list[Model]:
    created = int(engine.searcher.generation.created.timestamp())
    return [Model(id=name, created=created) for name in roles_of(engine)]
