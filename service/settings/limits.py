"""Settings of limits: of connections, batches, and requests."""

from typing import Annotated

from pydantic import BaseModel, Field


class ConnectionSettings(BaseModel):
    """Limits of a connection and its messages."""

    max_body_bytes: Annotated[
        int, Field(ge=1024, description="Largest request body; a larger one is refused with 413")
    ] = 2_097_152
    max_head_bytes: Annotated[
        int,
        Field(
            ge=1024,
            description="Longest request line with headers; a longer one is refused with 431",
        ),
    ] = 32_768
    max_connections: Annotated[
        int, Field(ge=1, description="Open connections; more are refused with 503")
    ] = 1000
    read_seconds: Annotated[
        float, Field(gt=0, description="Time for a client to send its request; then 408")
    ] = 30.0
    write_seconds: Annotated[
        float,
        Field(
            gt=0,
            description="Time for a client to read its response; then the connection is closed",
        ),
    ] = 60.0
    keep_alive_seconds: Annotated[
        float,
        Field(
            gt=0,
            description="Time to keep an idle connection; set it above that of a proxy in front",
        ),
    ] = 75.0
    gzip_min_bytes: Annotated[
        int,
        Field(
            ge=0,
            description="Smallest response that is compressed if the client accepts gzip (for a "
            "browser 1024); 0: never",
        ),
    ] = 16_384


class BatchSettings(BaseModel):
    """Limits of a batch, and of the query cache."""

    max_batch_tokens: Annotated[
        int | None,
        Field(ge=16, description="Padded tokens of a batch; by default 1536, on a GPU 16384"),
    ] = None
    max_bulk_batch_tokens: Annotated[
        int | None,
        Field(
            ge=16,
            description="Padded tokens of an `/encode` batch; by default 512, on a GPU 4096",
        ),
    ] = None
    bulk_share: Annotated[
        float,
        Field(
            gt=0, lt=1, description="Share of `/encode` in the device's time while searches wait"
        ),
    ] = 0.25
    query_cache_entries: Annotated[
        int,
        Field(
            ge=0,
            description="Query embeddings in the cache; 0 disables it and keeps no query's text",
        ),
    ] = 10_000


class DeadlineSettings(BaseModel):
    """Limits of the queue, and deadlines of requests and batches."""

    stuck_seconds: Annotated[
        float,
        Field(
            gt=0,
            description="Seconds after which a batch that also takes ten times its forecast fails "
            "`/livez`",
        ),
    ] = 60.0
    max_waiting_tokens: Annotated[
        int,
        Field(
            ge=16,
            description="Tokens of other requests in the queue; above it a request is refused "
            "with 429",
        ),
    ] = 65_536
    timeout_ms: Annotated[
        int,
        Field(
            ge=1,
            description="Default deadline of a request; `/encode` and `/v1/embeddings` add time "
            "for their tokens",
        ),
    ] = 10_000
    max_timeout_ms: Annotated[
        int, Field(ge=1, description="Longest deadline that a request may set")
    ] = 60_000
