"""Settings of operation: reloads, shutdown, logs and traces."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field


class ReloadSettings(BaseModel):
    """How a new index generation becomes live."""

    watch_seconds: Annotated[
        float,
        Field(
            ge=0, description="Interval of checks for a new index generation (CURRENT); 0: never"
        ),
    ] = 5.0
    admin: Annotated[
        Literal["auto", "open", "closed"],
        Field(
            description="Whether `/admin` is open, to keys with the scope `admin`; `auto`: if "
            "there are keys, or on a loopback address"
        ),
    ] = "auto"


class ChangeSettings(BaseModel):
    """How documents are put and deleted over HTTP."""

    documents: Annotated[
        Literal["auto", "open", "closed"],
        Field(
            description="Whether `POST /documents` is open, to keys with the scope `write`; "
            "`auto`: if there are keys"
        ),
    ] = "auto"
    apply_seconds: Annotated[
        float,
        Field(gt=0, description="Least time between two generations made of changes that wait"),
    ] = 2.0
    max_waiting_documents: Annotated[
        int,
        Field(ge=1, description="Documents that may wait; more are refused with 429"),
    ] = 100_000


class ShutdownSettings(BaseModel):
    """What happens after SIGTERM."""

    drain_seconds: Annotated[
        float, Field(ge=0, description="Time after SIGTERM to serve requests while not ready")
    ] = 0.0
    shutdown_seconds: Annotated[
        float, Field(ge=0, description="Time after that for requests in flight to finish")
    ] = 30.0


class TelemetrySettings(BaseModel):
    """Logs and traces."""

    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Field(description="Lowest level that is logged"),
    ] = "info"
    log_format: Annotated[
        Literal["text", "json"], Field(description="Log format: lines of text, or of JSON")
    ] = "text"
    access_log_level: Annotated[
        Literal["debug", "info", "off"],
        Field(description="Level of the access log; texts are never logged"),
    ] = "debug"
    traces_endpoint: Annotated[
        str | None,
        Field(
            pattern="^https?://",
            description="OTLP endpoint for spans, such as `http://collector:4318/v1/traces`",
        ),
    ] = None
