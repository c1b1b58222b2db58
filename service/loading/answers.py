"""What is answered while the service loads: whole HTTP responses, by path."""

import json
from collections.abc import Mapping
from html import escape
from http import HTTPStatus
from pathlib import Path

from service.auth.access import Access
from service.errors import NotReadyError
from service.http.headers import CLOSE, LOAD_NOTHING, PAGE_HEADERS, SECURITY_HEADERS
from service.problem import MEDIA_TYPE, OPENAI_PATHS, problem_of
from service.settings.settings import Settings

WEB = Path(__file__).parents[1] / "web"
RETRY_AFTER_SECONDS = 2
# Isolated: in a text that runs from right to left, "s 2" would be read.
WAITING_TIME = f"\N{LEFT-TO-RIGHT ISOLATE}{RETRY_AFTER_SECONDS} s\N{POP DIRECTIONAL ISOLATE}"
RIGHT_TO_LEFT = {"ar"}  # of the page's languages
OTHER = "*"  # the key of the answer to every path that is not listed
REQUEST_ID = "{request_id}"  # stands for it in a body
METRICS = """\
# HELP clear_ready 1 if the service accepts requests.
# TYPE clear_ready gauge
clear_ready 0.0
"""
Answer = tuple[str, str]  # head and body, without length and request id


def answers(settings: Settings, port: int, step: str) -> dict[str, Answer]:
    """Return the answer to each path on a port; nothing is answered that requires a key.

    Args:
        settings: who may read which path, and the prefix that a proxy may leave.
        port: one of those that the service listens on.
        step: what is loaded now.
    """
    access = Access(settings)
    answered = {
        path: answer
        for path, answer in _contents().items()
        if access.rule(path.partition(" ")[0], port) == "open"
    }
    answered |= {f"{OPENAI_PATHS}*": _refusal(step, OPENAI_PATHS)}
    prefixed = {settings.root_path + path: answer for path, answer in answered.items()}
    return answered | prefixed | {OTHER: _refusal(step)}


def _contents() -> dict[str, Answer]:
    style = (WEB / "style.css").read_text(encoding="utf-8")
    icon = (WEB / "favicon.svg").read_text(encoding="utf-8")
    return {
        "/livez": _answer(json.dumps({"status": "live"}), "application/json"),
        "/metrics": _answer(METRICS, "text/plain; version=0.0.4; charset=utf-8"),
        "/web/style.css": _answer(style, "text/css; charset=utf-8", PAGE_HEADERS),
        "/web/favicon.svg": _answer(icon, "image/svg+xml", PAGE_HEADERS),
        **_pages(),
    }


def _pages() -> dict[str, Answer]:
    """Return the page in each of its languages as `/ de`, and in English as `/`."""
    page = (WEB / "loading.html").read_text(encoding="utf-8")
    headers = {**PAGE_HEADERS, "Vary": "Accept-Language"}
    found = {}
    for path in (WEB / "languages").glob("*.json"):
        catalog = json.loads(path.read_text(encoding="utf-8"))
        texts = {
            "language": path.stem,
            "title": catalog["failures"]["notReady"]["title"],
            "text": catalog["notReady"].replace("{time}", WAITING_TIME),
            "direction": "rtl" if path.stem in RIGHT_TO_LEFT else "ltr",
        }
        content = page
        for name, text in texts.items():
            content = content.replace(f"{{{name}}}", escape(text))
        found[f"/ {path.stem}"] = _answer(content, "text/html; charset=utf-8", headers)
    return found | {"/": found["/ en"]}


def _refusal(step: str, path: str = "") -> Answer:
    """Return 503 as a problem, below OpenAI's path with the member that its clients read."""
    error = NotReadyError(f"the service is loading ({step}): try again in {RETRY_AFTER_SECONDS} s")
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
    problem = problem_of(error, path=path) | {"request_id": REQUEST_ID}
    return _answer(json.dumps(problem), MEDIA_TYPE, headers, error.status)


def _answer(
    body: str, media_type: str, headers: Mapping[str, str] = {}, status: int = HTTPStatus.OK
) -> Answer:
    lines = {
        "content-type": media_type,
        **{
            name.decode(): value.decode()
            for name, value in (*SECURITY_HEADERS, LOAD_NOTHING, CLOSE)
        },
        **{name.lower(): value for name, value in headers.items()},
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{head}", body
