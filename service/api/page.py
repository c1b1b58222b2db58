"""The routes of the search page, `/`, its files below `/web`, and its examples."""

import json
import re

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from service.api.response import state_of
from service.http.headers import PAGE_HEADERS
from service.retrieval.corpus.table import PassageTable
from service.web.files import INDEX, WEB, read_files

METHODS = ("GET", "HEAD")
VERSIONED = re.compile(r"[0-9a-f]{12}")
YEAR = "max-age=31536000, immutable"


def serve_page(app: FastAPI) -> None:
    """Add the page at `/` and its files below `/web` to an app."""
    files = PageFiles()
    examples: list[dict[str, str]] = json.loads(files.files["examples.json"].content)

    @app.get("/web/examples.json", include_in_schema=False)
    async def answered_examples(request: Request) -> Response:
        engine = state_of(request).engine
        found = answered_by(engine.searcher.generation.passages, examples) if engine else []
        return JSONResponse(found, headers=PAGE_HEADERS)

    app.mount("/web", files, name="web")

    @app.api_route("/", methods=list(METHODS), include_in_schema=False)
    async def page(request: Request) -> Response:
        return files.files[INDEX].respond(request)


class PageFiles:
    """An ASGI app that serves the page's files: those below the version for a year."""

    def __init__(self) -> None:
        """Read the files."""
        self.version, self.files = read_files(WEB)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a file whole; the files are small."""
        request = Request(scope, receive)
        if request.method not in METHODS:
            raise HTTPException(405, headers={"Allow": ", ".join(METHODS)})
        name = scope["path"].removeprefix(scope["root_path"]).lstrip("/")
        version, _, rest = name.partition("/")
        is_versioned = VERSIONED.fullmatch(version) is not None
        found = self.files.get(rest if is_versioned else name)
        if found is None:
            raise HTTPException(404)
        # A page of another release gets what there is, and asks again.
        response = found.respond(request, YEAR if version == self.version else "no-cache")
        await response(scope, receive, send)


def answered_by(passages: PassageTable, examples: list[dict[str, str]]) -> list[dict[str, str]]:
    """Return the examples that an index answers, those of which it holds the passage."""
    return [example for example in examples if passages.rows_of(example["passage_id"])]
