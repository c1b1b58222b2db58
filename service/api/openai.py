"""OpenAI's embeddings API, so that what speaks to OpenAI speaks to this service."""

from collections import defaultdict

import numpy as np
from fastapi import APIRouter, Request, Response

from service.api.encode_schemas import MAX_TEXTS
from service.api.openai_schemas import EmbeddingsRequest, EmbeddingsResponse, Model, Models
from service.api.openapi import Responses
from service.api.search import (
    OF_A_GET,
    OF_A_QUESTION,
    PROBLEMS,
    answer,
    cut,
    deadline_of,
    dimension_of,
    engine_of,
    milliseconds_of,
    written,
)
from service.engine.engine import Engine
from service.engine.outcome import EncodeOutcome
from service.errors import UnknownModelError
from service.http.disconnect import unless_gone
from service.retrieval.encoder.encoder import Role
from service.telemetry.metrics import Stage

NOT_FOUND: Responses = {404: PROBLEMS[404]}
router = APIRouter(prefix="/v1", tags=["openai"])


@router.post(
    "/embeddings", response_model=EmbeddingsResponse, responses={**OF_A_QUESTION, **NOT_FOUND}
)
async def embeddings(body: EmbeddingsRequest, request: Request) -> Response:
    """Embed texts; a model's bare name embeds passages, `:query` embeds questions."""
    engine = engine_of(request)
    role = roles_of(engine).get(body.model)
    if role is None:
        raise UnknownModelError(f"there is no such model: use one of {', '.join(roles_of(engine))}")
    dimension = dimension_of(engine.searcher.encoder, body.dimensions)
    embedded = await unless_gone(request, _encode(engine, body.input, role, request))
    rows = written(cut(embedded.embeddings, dimension), body.encoding_format)
    return answer(
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


@router.get("/models", responses=OF_A_GET)
async def models(request: Request) -> Models:
    """List the names that `model` may have."""
    return Models(data=_models(engine_of(request)))


@router.get("/models/{name:path}", responses={**OF_A_GET, **NOT_FOUND, 422: PROBLEMS[422]})
async def model(name: str, request: Request) -> Model:
    """Describe one of them."""
    known = _models(engine_of(request))
    for each in known:
        if each.id == name:
            return each
    names = ", ".join(each.id for each in known)
    raise UnknownModelError(f"there is no such model: use one of {names}")


def roles_of(engine: Engine) -> dict[str, Role]:
    """Tell which prompt each model's name chooses; some encoders have no passage side."""
    encoder = engine.searcher.encoder
    if not encoder.encodes_passages:
        return {encoder.name: "query", f"{encoder.name}:query": "query"}
    return {
        encoder.name: "passage",
        f"{encoder.name}:query": "query",
        f"{encoder.name}:passage": "passage",
    }


def _models(engine: Engine) -> list[Model]:
    created = int(engine.searcher.generation.created.timestamp())
    return [Model(id=name, created=created) for name in roles_of(engine)]


async def _encode(engine: Engine, texts: list[str], role: Role, request: Request) -> EncodeOutcome:
    """Embed part after part, each as `/encode` would: OpenAI's limit is eight times ours."""
    parts = []
    seconds: defaultdict[Stage, float] = defaultdict(float)
    for start in range(0, len(texts), MAX_TEXTS):
        part = texts[start : start + MAX_TEXTS]
        parts.append(await engine.encode(part, role, deadline_of(request)))
        for stage, stage_seconds in parts[-1].stage_seconds.items():
            seconds[stage] += stage_seconds
    return EncodeOutcome(
        np.concatenate([part.embeddings for part in parts]),
        sum(part.num_tokens for part in parts),
        sum(part.num_truncated for part in parts),
        seconds,
    )
