import json

import pytest

from service.loading.answers import OTHER, REQUEST_ID, answers
from service.settings.settings import Settings

KEY = "k" * 20


def paths(settings: Settings, port: int = 8000) -> set[str]:
    answered = {path for path in answers(settings, port, "x") if not path.endswith("*")}
    return answered - {"/web/style.css", "/web/favicon.svg"}


def test_the_step_stands_in_the_page_and_in_the_problem() -> None:
    answered = answers(Settings(), 8000, "opening the index")

    assert "Now: opening the index." in answered["/"][1]
    head, body = answered[OTHER]
    assert head.startswith("HTTP/1.1 503 Service Unavailable\r\n")
    assert "retry-after: 2\r\n" in head
    problem = json.loads(body)
    detail = "the service is loading (opening the index): try again in 2 s"
    assert (problem["title"], problem["detail"]) == ("Not ready", detail)
    assert problem["request_id"] == REQUEST_ID


@pytest.mark.parametrize("root_path", ["", "/clear"])
def test_only_openai_s_paths_have_openai_s_member(root_path: str) -> None:
    answered = answers(Settings(root_path=root_path), 8000, "x")

    refusals = {path for path in answered if path.endswith("*")}
    assert refusals == {"*", "/v1/*", f"{root_path}/v1/*"}
    for path in refusals:
        problem = json.loads(answered[path][1])
        told = None if path == "*" else problem["detail"]
        assert problem.get("error", {}).get("message") == told


def test_every_answer_closes_the_connection_and_leaves_what_the_program_adds() -> None:
    for head, _ in answers(Settings(), 8000, "x").values():
        assert "content-length" not in head
        assert "x-request-id" not in head
        assert "connection: close\r\n" in head
        assert "x-content-type-options: nosniff\r\n" in head
        assert head.count("content-security-policy") == 1
        assert head.endswith("\r\n")
        assert "\r\n\r\n" not in head


@pytest.mark.parametrize("metrics", ["key", "closed"])
def test_metrics_that_not_everyone_may_read_are_not_answered(metrics: str) -> None:
    assert paths(Settings()) == {"/", "/livez", "/metrics"}
    closed = Settings.model_validate({"metrics": metrics, "api_key": KEY})
    assert paths(closed) == {"/", "/livez"}


def test_a_port_of_operations_alone_answers_metrics() -> None:
    settings = Settings(operations_port=9000)

    assert paths(settings) == {"/", "/livez"}
    assert paths(settings, 9000) == {"/livez", "/metrics"}


def test_a_proxy_may_leave_the_prefix() -> None:
    both = {"/", "/livez", "/metrics", "/clear/", "/clear/livez", "/clear/metrics"}

    assert (
        paths(Settings(root_path="/clear"))
        - {
            "/clear/web/style.css",
            "/clear/web/favicon.svg",
        }
        == both
    )
