"""Helpers of all routes: body, engine and deadline of a request, and how a response is written."""

import base64
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic_core import to_json

from service.engine.engine import Engine
from service.errors import InvalidEmbeddingError
from service.lifespan import State
from service.retrieval.encoder.encoder import Embeddings, Encoder
from service.retrieval.generation.generation import Generation
from service.retrieval.unit_vectors import are_unit
from service.telemetry.metrics import Stage
from service.telemetry.tracing import annotate


def state_of(request: Request) -> State:
    """Return the state of the service that received a request."""
    state = request.app.state.service
    assert isinstance(state, State)
    return state


def engine_of(request: Request) -> Engine:
    """Return the engine."""
    engine = state_of(request).engine
    assert engine is not None  # the lifespan has loaded it
    return engine


def deadline_of(request: Request, timeout_ms: int | None = None) -> float:
    """Return the deadline of a request, in seconds of the monotonic clock.

    Raises:
        RequestValidationError: `timeout_ms` is above the maximum of the settings.
    """
    settings = state_of(request).settings
    if timeout_ms is not None and timeout_ms > settings.max_timeout_ms:
        raise invalid_field("timeout_ms", f"must be at most {settings.max_timeout_ms}")
    return time.monotonic() + (timeout_ms or settings.timeout_ms) / 1000


def seconds_left(deadline: float) -> float:
    """Return the seconds until a deadline of `deadline_of`; 0 after it."""
    return max(0.0, deadline - time.monotonic())


def dimension_of(encoder: Encoder, dimensions: int | None) -> int:
    """Return the number of dimensions to respond with, by default all.

    Raises:
        RequestValidationError: the encoder has fewer dimensions.
    """
    if dimensions and dimensions > encoder.embedding_dim:
        raise invalid_field("dimensions", f"must be at most {encoder.embedding_dim}")
    return dimensions or encoder.embedding_dim


def invalid_field(field: str, message: str) -> RequestValidationError:
    """Return the error of an invalid field, in the form that FastAPI raises."""
    return RequestValidationError([{"type": "value", "loc": ("body", field), "msg": message}])


@contextmanager
def naming_text(field: str, *, is_list: bool = True) -> Iterator[None]:
    """Name the text whose embedding is invalid by the field of the body that holds it."""
    try:
        yield
    except InvalidEmbeddingError as error:
        name = f"{field}[{error.position}]" if is_list else field
        raise InvalidEmbeddingError(error.position, name) from None


def truncate_embeddings(embeddings: Embeddings, dimension: int) -> Embeddings:
    """Keep the first dimensions and normalize again, [B, D] to [B, dimension].

    Raises:
        InvalidEmbeddingError: the first dimensions of an embedding are zero.

    >>> truncate_embeddings(np.array([[3.0, 4.0, 12.0]], dtype=np.float32), 2).round(3).tolist()
    [[0.6000000238418579, 0.800000011920929]]
    """
    if dimension == embeddings.shape[1]:
        return embeddings
    kept = embeddings[:, :dimension]
    norms = np.linalg.norm(kept, axis=1, keepdims=True)
    truncated: Embeddings = kept / np.maximum(norms, np.finfo(np.float32).tiny)
    for position in np.flatnonzero(~are_unit(truncated)).tolist():
        raise InvalidEmbeddingError(position)
    return truncated


def serialize_embeddings(embeddings: Embeddings, encoding_format: str) -> list[Any]:
    """Return each embedding as a list of numbers, or as base64 of little-endian fp32."""
    if encoding_format == "float":
        numbers: list[list[float]] = embeddings.tolist()
        return numbers
    return [base64.b64encode(row.astype("<f4").tobytes()).decode() for row in embeddings]


def milliseconds_of(stage_seconds: dict[Stage, float]) -> dict[str, float]:
    """Convert stage times from seconds to the milliseconds of responses."""
    return {stage: round(seconds * 1000, 3) for stage, seconds in stage_seconds.items()}


def json_response(body: dict[str, object], took_ms: dict[str, float]) -> Response:
    """Return a JSON response with the header Server-Timing.

    The body is not validated: that would cost as much as building it.
    """
    annotate(took_ms)
    timing = ", ".join(f"{stage};dur={milliseconds}" for stage, milliseconds in took_ms.items())
    content = to_json(body, inf_nan_mode="null")  # RFC 8259 has no NaN
    return Response(content, media_type="application/json", headers={"Server-Timing": timing})


def index_info(generation: Generation) -> dict[str, object]:
    """Return what an answer says of the generation that it is from."""
    table = generation.passages
    info: dict[str, object] = {"generation": generation.name, "passages": len(table)}
    return info | ({"documents": table.num_documents} if table.has_chunks else {})
