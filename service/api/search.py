"""The HTTP routes: bodies in, engine, bodies out; no logic."""

import base64
import time
from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic_core import to_json

from service.api.encode_schemas import EncodeRequest, EncodeResponse
from service.api.openapi import Responses, describe_problems
from service.api.schemas import ReloadResponse
from service.api.search_schemas import SearchRequest, SearchResponse
from service.engine.engine import Engine
from service.errors import TABLE, DeviceBrokenError, ForbiddenError, NotReadyError
from service.http.disconnect import unless_gone
from service.retrieval.corpus.selection import Facet
from service.retrieval.encoder.encoder import Embeddings, Encoder
from service.state import State
from service.telemetry.metrics import Stage
from service.telemetry.tracing import annotate

# What the OpenAPI document says of each status; see `service.api.openapi` for the rest of it.
PROBLEMS = describe_problems(TABLE)
ALWAYS_POSSIBLE = {401, 403, 408, 431, 503}
OF_A_POST = {*ALWAYS_POSSIBLE, 400, 413, 415, 422, 429, 500, 504}
OF_A_GET: Responses = {status: PROBLEMS[status] for status in sorted(ALWAYS_POSSIBLE)}
OF_A_QUESTION: Responses = {status: PROBLEMS[status] for status in sorted(OF_A_POST)}
router = APIRouter()


@router.post("/search", response_model=SearchResponse, responses=OF_A_QUESTION, tags=["search"])
async def search(body: SearchRequest, request: Request) -> Response:
    """Find the English passages that answer questions in any language."""
    engine = engine_of(request)
    work = engine.search(
        body.texts,
        top_k=body.top_k,
        min_score=-1.0 if body.min_score is None else body.min_score,
        language=body.language,
        deadline=deadline_of(request, body.timeout_ms),
        filter=body.filter,
        facets=body.facets,
    )
    found = await unless_gone(request, work)
    generation = found.generation
    took_ms = milliseconds_of(found.stage_seconds)
    return answer(
        {
            "results": [
                {
                    "language": language,
                    "hits": [hit.as_dict(body.include_text) for hit in hits],
                }
                for language, hits in zip(found.languages, found.hits, strict=True)
            ],
            "index": {"generation": generation.name, "passages": len(generation.passages)},
            "encoder": engine.searcher.encoder.name,
            "took_ms": took_ms,
            **({"facets": _facets(found.facets)} if found.facets else {}),
        },
        took_ms,
    )


@router.post("/encode", response_model=EncodeResponse, responses=OF_A_QUESTION, tags=["encode"])
async def encode(body: EncodeRequest, request: Request) -> Response:
    """Embed texts as queries or as passages."""
    engine = engine_of(request)
    encoder = engine.searcher.encoder
    dimension = dimension_of(encoder, body.dimensions)
    if body.role == "passage" and not encoder.encodes_passages:
        raise _invalid("role", "must be query: this encoder has no passage side")
    work = engine.encode(body.texts, body.role, deadline_of(request, body.timeout_ms))
    embedded = await unless_gone(request, work)
    embeddings = cut(embedded.embeddings, dimension)
    took_ms = milliseconds_of(embedded.stage_seconds)
    return answer(
        {
            "embeddings": written(embeddings, body.encoding_format),
            "dimension": dimension,
            "encoder": encoder.name,
            "usage": {"tokens": embedded.num_tokens, "truncated_texts": embedded.num_truncated},
            "took_ms": took_ms,
        },
        took_ms,
    )


@router.get("/livez", responses=OF_A_GET, tags=["operation"])
async def livez(request: Request) -> dict[str, str]:
    """Tell that the process answers and its device works; if not, restart it."""
    state = _state(request)
    if state.is_stuck:
        raise DeviceBrokenError("the device failed or hangs: restart this instance")
    return {"status": "live"}


@router.get("/readyz", responses=OF_A_GET, tags=["operation"])
async def readyz(request: Request) -> dict[str, str]:
    """Tell whether requests should be sent here, from what the last real batch did."""
    state = _state(request)
    if not state.is_ready:
        raise NotReadyError(f"the service is {state.phase}: ask another instance or wait")
    if not await engine_of(request).is_healthy():
        raise NotReadyError("the last batch failed and so did a probe: ask another instance")
    refused = {"refused": state.refusal} if state.refusal else {}
    return {"status": state.phase, **refused}


@router.post(
    "/admin/reload",
    response_model=ReloadResponse,
    responses={**OF_A_GET, 409: PROBLEMS[409], 429: PROBLEMS[429]},
    tags=["operation"],
)
async def reload(request: Request) -> dict[str, object]:
    """Serve the generation that CURRENT names: verify, open, warm up, swap between two batches."""
    state = _state(request)
    if not state.settings.is_admin_open:
        raise ForbiddenError("the administration is closed here: set CLEAR_ADMIN=open to open it")
    engine_of(request)
    if state.reloader is None:
        raise NotReadyError("the service is loading: try again in a few seconds")
    return (await state.reloader.reload()).as_dict()


@router.get("/metrics", response_class=Response, responses=OF_A_GET, tags=["operation"])
async def metrics(request: Request) -> Response:
    """Expose all metrics to Prometheus."""
    text, media_type = _state(request).metrics.expose(request.headers.get("accept", ""))
    return Response(text, headers={"Content-Type": media_type})


@router.get("/info", responses=OF_A_GET, tags=["operation"])
async def info(request: Request) -> dict[str, object]:
    """Tell what runs here; no secrets."""
    return _state(request).describe()


def dimension_of(encoder: Encoder, dimensions: int | None) -> int:
    """Tell how many dimensions to answer with.

    Raises:
        RequestValidationError: there are not so many.
    """
    if dimensions and dimensions > encoder.embedding_dim:
        raise _invalid("dimensions", f"must be {encoder.embedding_dim} at the most")
    return dimensions or encoder.embedding_dim


def cut(embeddings: Embeddings, dimension: int) -> Embeddings:
    """Keep the first dimensions and make the rest unit-norm again, [B, D] to [B, dimension].

    >>> cut(np.array([[3.0, 4.0, 12.0]], dtype=np.float32), 2).round(3).tolist()
    [[0.6000000238418579, 0.800000011920929]]
    """
    if dimension == embeddings.shape[1]:
        return embeddings
    kept = embeddings[:, :dimension]
    norms = np.linalg.norm(kept, axis=1, keepdims=True)
    shortened: Embeddings = kept / np.maximum(norms, np.finfo(np.float32).tiny)
    return shortened


def _state(request: Request) -> State:
    state = request.app.state.service
    assert isinstance(state, State)
    return state


def engine_of(request: Request) -> Engine:
    """Find the engine.

    Raises:
        NotReadyError: it is loading.
    """
    engine = _state(request).engine
    if engine is None:
        raise NotReadyError("the service is loading: try again in a few seconds")
    return engine


def deadline_of(request: Request, timeout_ms: int | None = None) -> float:
    """Tell when a request's time is up, on the monotonic clock.

    Raises:
        RequestValidationError: it asks for more time than it may.
    """
    settings = _state(request).settings
    if timeout_ms is not None and timeout_ms > settings.max_timeout_ms:
        raise _invalid("timeout_ms", f"must be {settings.max_timeout_ms} at the most")
    return time.monotonic() + (timeout_ms or settings.timeout_ms) / 1000


def _invalid(field: str, message: str) -> RequestValidationError:
    return RequestValidationError([{"type": "value", "loc": ("body", field), "msg": message}])


def _facets(facets: dict[str, Facet]) -> dict[str, object]:
    return {
        field: {
            "values": [{"value": value, "count": count} for value, count in facet.values],
            "num_values": facet.num_values,
        }
        for field, facet in facets.items()
    }


def milliseconds_of(stage_seconds: dict[Stage, float]) -> dict[str, float]:
    """Write stage times as answers have them."""
    return {stage: round(seconds * 1000, 3) for stage, seconds in stage_seconds.items()}


def answer(body: dict[str, object], took_ms: dict[str, float]) -> Response:
    """Write a body as it is: to validate our own answer would cost as much as to make it."""
    annotate(took_ms)
    timing = ", ".join(f"{stage};dur={milliseconds}" for stage, milliseconds in took_ms.items())
    return Response(to_json(body), media_type="application/json", headers={"Server-Timing": timing})


def written(embeddings: Embeddings, encoding_format: str) -> list[Any]:
    """Write embeddings as lists of numbers, or as base64 of little-endian fp32."""
    if encoding_format == "float":
        numbers: list[list[float]] = embeddings.tolist()
        return numbers
    return [base64.b64encode(row.astype("<f4").tobytes()).decode() for row in embeddings]
