import sys
from collections.abc import Iterator

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from service.app import create_app
from service.errors import SettingsError
from service.settings.settings import Settings
from service.telemetry import tracing

sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="pip install '.[tracing]'")
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OPEN_METRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """Keep spans in memory instead of sending them."""
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    memory = InMemorySpanExporter()

    def make_provider(endpoint: str) -> object:
        provider = sdk.TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(memory))
        return provider

    monkeypatch.setattr(tracing, "make_provider", make_provider)
    yield memory


def serving(settings: Settings) -> TestClient:
    changes = {"traces_endpoint": "http://127.0.0.1:9/v1/traces"}
    return TestClient(create_app(settings.model_copy(update=changes)))


def exemplars(text: str) -> set[str]:
    """Return the trace ids among the exemplars of the request latency."""
    return {
        sample.exemplar.labels["trace_id"]
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.exemplar and sample.name == "clear_request_duration_seconds_bucket"
    }


def test_a_search_is_a_span_of_the_clients_trace_with_its_stages(
    service_settings: Settings, exporter: object
) -> None:
    with serving(service_settings) as client:
        client.post("/search", json={"query": "secret"}, headers={"traceparent": PARENT})

    [span] = exporter.get_finished_spans()  # type: ignore[attr-defined]
    assert span.name == "POST /search"
    assert f"{span.context.trace_id:032x}" == PARENT.split("-")[1]
    assert span.attributes["clear.encode_ms"] > 0
    assert "secret" not in span.to_json()


def test_probes_pages_and_query_strings_are_not_traced(
    service_settings: Settings, exporter: object
) -> None:
    with serving(service_settings) as client:
        for path in ("/livez", "/metrics", "/?q=secret"):
            client.get(path)
        client.post("/search?q=secret", json={"query": "tea"})

    assert exporter.get_finished_spans() == ()  # type: ignore[attr-defined]


def test_the_trace_is_an_exemplar_of_the_latency(
    service_settings: Settings, exporter: object
) -> None:
    with serving(service_settings) as client:
        client.post("/search", json={"query": "tea"}, headers={"traceparent": PARENT})
        text = client.get("/metrics", headers=OPEN_METRICS).text

    assert exemplars(text) == {PARENT.split("-")[1]}


def test_nothing_is_traced_by_default(
    service_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")

    with TestClient(create_app(service_settings)) as client:
        client.post("/search", json={"query": "tea"}, headers={"traceparent": PARENT})
        text = client.get("/metrics", headers=OPEN_METRICS).text

    assert not exemplars(text)


def test_without_the_packages_the_setting_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)

    with pytest.raises(SettingsError, match=r"clear-search\[tracing\]"):
        tracing.Tracing("http://127.0.0.1:9/v1/traces")


def test_tracing_to_an_endpoint_can_be_closed() -> None:
    traced = tracing.Tracing("http://127.0.0.1:9/v1/traces")

    assert traced.config["tracing"]
    traced.close()
