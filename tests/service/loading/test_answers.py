import json

import pytest

from service.loading.answers import OTHER, answers
from service.settings.settings import Settings

KEY = "k" * 20


def paths(settings: Settings, port: int = 8000) -> set[str]:
    return set(answers(settings, port, "x")) - {OTHER, "/web/style.css", "/web/favicon.svg"}


def test_the_step_stands_in_the_page_and_in_the_problem() -> None:
    answered = answers(Settings(), 8000, "opening the index")

    assert "Now: opening the index." in answered["/"][1]
    head, body = answered[OTHER]
    assert head.startswith("HTTP/1.1 503 Service Unavailable\r\n")
    assert "retry-after: 2\r\n" in head
    problem = json.loads(body)
    detail = "the service is loading (opening the index): try again in 2 s"
    assert (problem["title"], problem["detail"]) == ("Not ready", detail)
    assert problem["error"]["message"] == detail


def test_every_answer_says_its_length_and_closes_the_connection() -> None:
    for head, body in answers(Settings(), 8000, "x").values():
        assert f"content-length: {len(body.encode())}\r\n" in head
        assert "connection: close\r\n" in head
        assert "x-content-type-options: nosniff\r\n" in head
        assert head.count("content-security-policy") == 1
        assert head.endswith("\r\n\r\n")


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
