"""Tracing: OpenTelemetry spans of requests, made by FastAPI; off by default."""

import os
from collections.abc import Mapping, MutableMapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from fastapi.telemetry import TelemetryConfig
from opentelemetry import trace

from service.errors import SettingsError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

# Neither FastAPI nor an OpenTelemetry variable may turn anything on.
OFF: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}


class Tracing:
    """Sends a span for each request to an OTLP endpoint, from a background thread."""

    def __init__(self, endpoint: str | None) -> None:
        """Configure tracing; None turns it off.

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
        """Send the remaining spans."""
        if self._provider:
            self._provider.shutdown()


def make_provider(endpoint: str) -> "TracerProvider":
    """Return a provider that samples spans (OTEL_TRACES_SAMPLER) and sends them."""
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
    """Return whether a request is not traced: a probe, page or scrape, or one with a query string.

    The search page keeps queries in the query string.

    >>> is_excluded({"method": "GET", "query_string": b"q=secret"})
    True
    """
    return scope.get("method") != "POST" or bool(scope.get("query_string"))


def trace_id() -> str | None:
    """Return the trace id of the current request; None if it is not sampled."""
    context = trace.get_current_span().get_span_context()
    return trace.format_trace_id(context.trace_id) if context.trace_flags.sampled else None


def annotate(took_ms: Mapping[str, float]) -> None:
    """Add the time of each stage to the span of the current request."""
    span = trace.get_current_span()
    if span.is_recording():
        span.set_attributes({f"clear.{stage}_ms": value for stage, value in took_ms.items()})
