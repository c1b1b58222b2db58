import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from service.app import create_app
from service.retrieval.index.options import Backend
from service.settings.settings import Settings
from service.telemetry.metrics import STAGES, Metrics
from tests.support.responses import sample

DOCUMENTED = {
    "clear_request_duration_seconds",
    "clear_stage_duration_seconds",
    "clear_requests_in_flight",
    "clear_refusals_total",
    "clear_key_requests_total",
    "clear_connections_refused_total",
    "clear_queries_total",
    "clear_tokens_total",
    "clear_truncated_texts_total",
    "clear_batch_items",
    "clear_waiting_tokens",
    "clear_batch_tokens_total",
    "clear_batch_duration_seconds",
    "clear_batch_token_budget",
    "clear_invalid_embeddings_total",
    "clear_query_cache_lookups_total",
    "clear_query_cache_hits_total",
    "clear_query_duration_seconds",
    "clear_truncated_queries_total",
    "clear_top_score",
    "clear_answers_total",
    "clear_max_waiting_tokens",
    "clear_device_memory_used_bytes",
    "clear_device_memory_total_bytes",
    "clear_build_info",
    "clear_ready",
    "clear_encoder_info",
    "clear_index_info",
    "clear_index_passages",
    "clear_index_created_timestamp_seconds",
    "clear_reloads_total",
    "clear_reload_duration_seconds",
    "clear_reload_refused",
    "clear_changed_documents_total",
    "clear_change_live_seconds",
    "clear_waiting_documents",
    "clear_oldest_waiting_change_seconds",
    "clear_index_writer",
}


def labels_of(client: TestClient, name: str, label: str) -> set[str]:
    return {
        found.labels[label]
        for family in text_string_to_metric_families(client.get("/metrics").text)
        for found in family.samples
        if found.name == name
    }


def test_every_documented_metric_is_exposed_and_no_other_of_ours(client: TestClient) -> None:
    lines = client.get("/metrics").text.splitlines()

    names = {line.split()[2] for line in lines if line.startswith("# TYPE clear_")}
    assert {name for name in names if not name.endswith("_created")} == DOCUMENTED


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/search", {"query": "a"}, "200"),
        ("POST", "/search", {"query": ""}, "422"),
        ("POST", "/encode", {"texts": "a", "role": "query"}, "200"),
        ("GET", "/livez", None, "200"),
        ("GET", "/search", None, "405"),
    ],
)
def test_a_request_is_timed_by_route_method_and_status(
    client: TestClient, method: str, path: str, body: object, status: str
) -> None:
    name, labels = "clear_request_duration_seconds_count", {"route": path, "status": status}
    before = sample(client, name, method=method, **labels)

    client.request(method, path, json=body)

    assert sample(client, name, method=method, **labels) == before + 1


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage != "filter"])
def test_each_stage_of_a_search_is_timed(client: TestClient, stage: str) -> None:
    labels = {"route": "/search", "stage": stage}
    before = sample(client, "clear_stage_duration_seconds_count", **labels)

    client.post("/search", json={"queries": ["a", "b"]})

    assert sample(client, "clear_stage_duration_seconds_count", **labels) == before + 1


@pytest.mark.parametrize(
    ("declared", "label"),
    [("sw", "sw"), ("sw-KE", "sw"), ("SW", "sw"), ("xx-made-up", "other"), ("qqq", "other")],
)
def test_the_label_of_a_declared_language_is_bounded(
    client: TestClient, declared: str, label: str
) -> None:
    labels = {"language": label, "source": "declared"}
    before = sample(client, "clear_queries_total", **labels)

    client.post("/search", json={"queries": ["a", "b"], "language": declared})

    assert sample(client, "clear_queries_total", **labels) == before + 2
    assert declared == label or declared not in labels_of(client, "clear_queries_total", "language")


def test_a_detected_language_is_counted_as_detected(client: TestClient) -> None:
    labels = {"language": "bn", "source": "detected"}
    before = sample(client, "clear_queries_total", **labels)

    client.post("/search", json={"query": "বাংলাদেশের প্রধান পরিবেশগত সমস্যাগুলো কী কী?"})

    assert sample(client, "clear_queries_total", **labels) == before + 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"{", "malformed"), (b"{}", "invalid"), (b"a" * 3_000_000, "body")],
)
def test_a_refusal_is_counted_by_its_reason(
    client: TestClient, content: bytes, reason: str
) -> None:
    before = sample(client, "clear_refusals_total", reason=reason)

    client.post("/search", content=content, headers={"Content-Type": "application/json"})

    assert sample(client, "clear_refusals_total", reason=reason) == before + 1


def test_an_unknown_path_or_method_is_not_a_label(client: TestClient) -> None:
    client.get("/made-up/path")
    client.request("MADEUP", "/livez")

    name = "clear_request_duration_seconds_count"
    assert "/made-up/path" not in client.get("/metrics").text
    assert "MADEUP" not in client.get("/metrics").text
    assert "unmatched" in labels_of(client, name, "route")
    assert "other" in labels_of(client, name, "method")


def test_tokens_and_truncated_texts_are_counted(client: TestClient) -> None:
    names = ("clear_tokens_total", "clear_truncated_texts_total")
    before = [sample(client, name, route="/encode") for name in names]

    texts = ["long " * 500, "short", "longer " * 500]
    usage = client.post("/encode", json={"texts": texts, "role": "passage"}).json()["usage"]

    after = [sample(client, name, route="/encode") for name in names]
    assert after == [before[0] + usage["tokens"], before[1] + 2]


def test_only_the_request_that_reads_the_metrics_is_in_flight(client: TestClient) -> None:
    client.post("/search", json={"query": ""})

    assert sample(client, "clear_requests_in_flight") == 1


def test_the_loaded_encoder_and_index_are_exposed(client: TestClient) -> None:
    info = client.get("/info").json()

    assert sample(client, "clear_ready") == 1
    assert sample(client, "clear_index_passages") == 12
    assert sample(client, "clear_waiting_tokens") == 0
    generation = {"generation": info["index"]["generation"], "factory": "Flat"}
    assert sample(client, "clear_index_info", backend="torch", **generation) == 1
    encoder = {"name": info["encoder"]["name"], "fingerprint": info["encoder"]["fingerprint"][:16]}
    assert sample(client, "clear_encoder_info", device="cpu", dimension="32", **encoder) == 1


@pytest.mark.parametrize(
    ("setting", "backend"), [("auto", "torch"), ("torch", "torch"), ("faiss", "faiss")]
)
def test_the_backend_that_searches_the_index_is_named(
    service_settings: Settings, setting: Backend, backend: str
) -> None:
    settings = service_settings.model_copy(update={"index_backend": setting})

    with TestClient(create_app(settings)) as client:
        assert client.get("/info").json()["index"]["backend"] == backend
        assert labels_of(client, "clear_index_info", "backend") == {backend}


def test_latency_truncation_and_best_score_are_counted_by_language(client: TestClient) -> None:
    names = (
        "clear_query_duration_seconds_count",
        "clear_truncated_queries_total",
        "clear_top_score_count",
        "clear_top_score_sum",
    )
    before = [sample(client, name, language="yo") for name in names]

    queries = ["Lima", "very long " * 200]
    found = client.post("/search", json={"queries": queries, "language": "yo", "min_score": 0.999})

    after = [sample(client, name, language="yo") for name in names]
    grown = [now - then for now, then in zip(after, before, strict=True)]
    assert grown[:3] == [2, 1, 2]
    assert 0 < grown[3] <= 2
    assert [result["hits"] for result in found.json()["results"]] == [[], []]


def test_the_memory_of_the_device_is_exposed(client: TestClient) -> None:
    used, total = (
        sample(client, f"clear_device_memory_{kind}_bytes", device="cpu")
        for kind in ("used", "total")
    )

    assert 0 < used < total


def test_the_query_cache_counts_lookups_and_hits(client: TestClient) -> None:
    names = ("clear_query_cache_lookups_total", "clear_query_cache_hits_total")
    client.post("/search", json={"query": "asked before"})
    before = [sample(client, name) for name in names]

    client.post("/search", json={"query": "asked before"})

    assert [sample(client, name) for name in names] == [value + 1 for value in before]


def test_prometheus_may_ask_for_openmetrics(client: TestClient) -> None:
    accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"

    answer = client.get("/metrics", headers={"Accept": accept})

    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


def test_a_child_that_is_found_again_is_the_one_that_is_exposed() -> None:
    metrics = Metrics()
    for _ in range(2):
        metrics.tokens.labels("/search").inc(3)
        metrics.request_seconds.labels("/search", "POST", "200").observe(0.2)
    lines = metrics.expose()[0].decode().splitlines()
    assert 'clear_tokens_total{route="/search"} 6.0' in lines
    labels = '{method="POST",route="/search",status="200"}'
    assert f"clear_request_duration_seconds_count{labels} 2.0" in lines
