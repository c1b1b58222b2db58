"""Settings that limit connections, batches and requests."""

from typing import Annotated

from pydantic import BaseModel, Field


class ConnectionSettings(BaseModel):
    """Limits of a connection and its messages."""

    max_body_bytes: Annotated[
        int, Field(ge=1024, description="A larger request body is refused with 413")
    ] = 2_097_152
    max_head_bytes: Annotated[
        int, Field(ge=1024, description="Longer request lines with headers are refused with 431")
    ] = 32_768
    max_connections: Annotated[
        int, Field(ge=1, description="Connections at a time; more are refused with 503")
    ] = 1000
    read_seconds: Annotated[
        float, Field(gt=0, description="Time for a client to send a request; then 408")
    ] = 30.0
    write_seconds: Annotated[
        float, Field(gt=0, description="Time for a client to take an answer; then it is cut off")
    ] = 60.0
    keep_alive_seconds: Annotated[
        float,
        Field(gt=0, description="Idle connections are kept; longer than a proxy in front does"),
    ] = 75.0
    gzip_min_bytes: Annotated[
        int, Field(ge=0, description="Larger answers are compressed if asked; 0 never")
    ] = 16_384


class BatchSettings(BaseModel):
    """Limits of a batch, and of the query cache."""

    max_batch_tokens: Annotated[
        int | None,
        Field(ge=16, description="Padded tokens of a batch at the most; 1536, on a GPU 16384"),
    ] = None
    max_bulk_batch_tokens: Annotated[
        int | None,
        Field(
            ge=16,
            description="The same for `/encode`, for which a query may wait; 512, on a GPU 4096",
        ),
    ] = None
    bulk_share: Annotated[
        float, Field(gt=0, lt=1, description="Share of `/encode` in the device while both wait")
    ] = 0.25
    query_cache_entries: Annotated[
        int, Field(ge=0, description="Embeddings of queries kept; 0 switches the cache off")
    ] = 10_000


class DeadlineSettings(BaseModel):
    """Limits of the queue, and of the time of a request or a batch."""

    stuck_seconds: Annotated[
        float, Field(gt=0, description="A batch that runs for longer fails `/livez`")
    ] = 60.0
    max_waiting_tokens: Annotated[
        int, Field(ge=16, description="Tokens that may wait; more are refused with 429")
    ] = 65_536
    timeout_ms: Annotated[int, Field(ge=1, description="Deadline of a request that names none")] = (
        10_000
    )
    max_timeout_ms: Annotated[
        int, Field(ge=1, description="Longest deadline that a request may ask for")
    ] = 60_000
