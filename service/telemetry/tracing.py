"""OpenTelemetry spans of requests, FastAPI's own; off, and nothing loaded, unless asked for."""

import os
from collections.abc import Mapping, MutableMapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from fastapi.telemetry import TelemetryConfig
from opentelemetry import trace

from service.errors import SettingsError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

# Neither FastAPI nor a variable of OpenTelemetry's sends anything anywhere by itself.
OFF: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}


class Tracing:
    """Sends a span a request to an OTLP address, in batches, in a thread of its own."""

    def __init__(self, endpoint: str | None) -> None:
        """Prepare it; None switches it off.

        Raises:
            SettingsError: OpenTelemetry's packages are not installed.
        """
        self._provider = make_provider(endpoint) if endpoint else None
        self.config = OFF
        if self._provider:
            self.config = {
                **OFF,
                "tracing": True,
                "tracer_provider": self._provider,
                "operation_spans": False,
                "exclude": is_excluded,
            }

    def close(self) -> None:
        """Send what is left."""
        if self._provider:
            self._provider.shutdown()


def make_provider(endpoint: str) -> "TracerProvider":
    """Make what samples (as OTEL_TRACES_SAMPLER says) and sends spans."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise SettingsError(
            "CLEAR_TRACES_ENDPOINT needs OpenTelemetry: pip install 'clear-search[tracing]'"
        ) from None
    name = os.environ.get("OTEL_SERVICE_NAME", "clear-search")
    resource = Resource.create({"service.name": name, "service.version": version("clear-search")})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    return provider


def is_excluded(scope: MutableMapping[str, Any]) -> bool:
    """Leave out probes, pages and scrapes, and a query string: the search page keeps queries there.

    >>> is_excluded({"method": "GET", "query_string": b"q=secret"})
    True
    """
    return scope.get("method") != "POST" or bool(scope.get("query_string"))


def trace_id() -> str | None:
    """Name the trace of the request being answered; None where it is not sampled."""
    context = trace.get_current_span().get_span_context()
    return trace.format_trace_id(context.trace_id) if context.trace_flags.sampled else None


def annotate(took_ms: Mapping[str, float]) -> None:
    """Tell the request's span the time of each stage."""
    span = trace.get_current_span()
    if span.is_recording():
        span.set_attributes({f"clear.{stage}_ms": value for stage, value in took_ms.items()})
