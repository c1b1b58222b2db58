"""The search page: its files, and headers that restrict what a browser loads for it.

The page is plain HTML, CSS and JavaScript in `service/web`, without a build step.
"""

import json
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.response import state_of
from service.http.headers import PAGE_HEADERS
from service.retrieval.corpus.table import PassageTable

WEB = Path(__file__).parents[1] / "web"


def serve_page(app: FastAPI) -> None:
    """Add the page at `/` and its files below `/web` to an app."""
    examples: list[dict[str, str]] = json.loads((WEB / "examples.json").read_text())

    @app.get("/web/examples.json", include_in_schema=False)
    async def answered_examples(request: Request) -> Response:
        engine = state_of(request).engine
        found = answered_by(engine.searcher.generation.passages, examples) if engine else []
        return JSONResponse(found, headers=PAGE_HEADERS)

    files: ASGIApp = _PageFiles(directory=WEB)
    app.mount("/web", files, name="web")

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def page() -> Response:
        return _WholeFile(WEB / "index.html", headers=PAGE_HEADERS)


def answered_by(passages: PassageTable, examples: list[dict[str, str]]) -> list[dict[str, str]]:
    """Return the examples that an index answers, those of which it holds the passage."""
    return [example for example in examples if passages.rows_of(example["passage_id"])]


def _without_range(scope: Scope) -> Scope:
    """Return the scope of a request for the whole file; the files are small.

    Starlette answers an invalid `Range` with 400 in plain text, where RFC 9110 has it ignored.
    """
    return {**scope, "headers": [pair for pair in scope["headers"] if pair[0] != b"range"]}


class _WholeFile(FileResponse):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await super().__call__(_without_range(scope), receive, send)


class _PageFiles(StaticFiles):
    """The page's files with the page's headers."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a file whole."""
        await super().__call__(_without_range(scope), receive, send)

    def file_response(self, *arguments: object, **options: object) -> FileResponse:
        """Return the response with a file; starlette calls this for each file."""
        response = super().file_response(*arguments, **options)  # type: ignore[arg-type]
        response.headers.update(PAGE_HEADERS)
        return response  # type: ignore[return-value]
