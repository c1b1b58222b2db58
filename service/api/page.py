"""The search page: its files, and headers that restrict what a browser loads for it.

The page is plain HTML, CSS and JavaScript in `service/web`, without a build step.
"""

from pathlib import Path

from fastapi import FastAPI, Response
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from service.http.headers import PAGE_HEADERS

WEB = Path(__file__).parents[1] / "web"


def serve_page(app: FastAPI) -> None:
    """Add the page at `/` and its files below `/web` to an app."""
    files: ASGIApp = _PageFiles(directory=WEB)
    app.mount("/web", files, name="web")

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def page() -> Response:
        return _WholeFile(WEB / "index.html", headers=PAGE_HEADERS)


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
