"""Settings of running the service: reloads, shutdown, logs, traces."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field


class ReloadSettings(BaseModel):
    """How a new index generation becomes live."""

    watch_seconds: Annotated[
        float,
        Field(
            ge=0, description="How often to look whether CURRENT names another generation; 0 never"
        ),
    ] = 5.0
    admin: Annotated[
        Literal["auto", "open", "closed"],
        Field(
            description="Whether `/admin` answers (to keys of scope `admin`); `auto`: with keys, "
            "or on a loopback address"
        ),
    ] = "auto"


class ShutdownSettings(BaseModel):
    """What happens after SIGTERM."""

    drain_seconds: Annotated[
        float, Field(ge=0, description="After SIGTERM: time not ready, but still answering")
    ] = 0.0
    shutdown_seconds: Annotated[
        float, Field(ge=0, description="Then: time for requests in flight to finish")
    ] = 30.0


class TelemetrySettings(BaseModel):
    """Logs and traces."""

    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Field(description="Least level logged")
    ] = "info"
    log_format: Annotated[
        Literal["text", "json"], Field(description="Lines for people, or a JSON object a line")
    ] = "text"
    access_log_level: Annotated[
        Literal["debug", "info", "off"],
        Field(description="Level at which each request is logged, never what it asks"),
    ] = "debug"
    traces_endpoint: Annotated[
        str | None,
        Field(
            pattern="^https?://",
            description="Send spans there by OTLP, such as `http://collector:4318/v1/traces`",
        ),
    ] = None
