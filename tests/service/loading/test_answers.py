import json

import pytest

from service.loading.answers import OTHER, REQUEST_ID, WEB, answers
from service.settings.settings import Settings

KEY = "k" * 20


def paths(settings: Settings, port: int = 8000) -> set[str]:
    answered = {
        path for path in answers(settings, port, "x") if not path.endswith("*") and " " not in path
    }
    return answered - {"/web/style.css", "/web/favicon.svg"}


def test_the_step_stands_in_the_problem() -> None:
    answered = answers(Settings(), 8000, "opening the index")

    head, body = answered[OTHER]
    assert head.startswith("HTTP/1.1 503 Service Unavailable\r\n")
    assert "retry-after: 2\r\n" in head
    problem = json.loads(body)
    detail = "the service is loading (opening the index): try again in 2 s"
    assert (problem["title"], problem["detail"]) == ("Not ready", detail)
    assert problem["request_id"] == REQUEST_ID


def test_the_page_has_the_languages_of_the_search_page_with_its_texts() -> None:
    answered = answers(Settings(root_path="/clear"), 8000, "x")

    for path in (WEB / "languages").glob("*.json"):
        head, page = answered[f"/clear/ {path.stem}"]
        assert page == answered[f"/ {path.stem}"][1]
        direction = "rtl" if path.stem == "ar" else "ltr"
        assert f'<html lang="{path.stem}" dir="{direction}">' in page and "{" not in page
        assert "\r\nvary: Accept-Language\r\n" in head
    assert "<h1>Der Dienst ist nicht bereit</h1>" in answered["/ de"][1]
    time = "\N{LEFT-TO-RIGHT ISOLATE}2 s\N{POP DIRECTIONAL ISOLATE}"
    assert f"Der Dienst startet gerade. Neuer Versuch in {time}." in answered["/ de"][1]
    assert answered["/"] == answered["/ en"]
    assert "/ de" not in answers(Settings(operations_port=9000), 9000, "x")


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
