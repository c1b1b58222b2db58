"""The files of the page as a browser gets them: below a version, compressed, with entity tags."""

import base64
import gzip
import hashlib
import mimetypes
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from service.http.compression import may_compress
from service.http.headers import PAGE_HEADERS
from service.web.script import COMMENT, join_modules

WEB = Path(__file__).parent
INDEX, SCRIPT, EARLY = "index.html", "page.js", "early.js"
ADDRESS = re.compile(r'(?<=")web/')
POLICY = "Content-Security-Policy"


@dataclass(frozen=True)
class PageFile:
    """A file, whole and compressed."""

    content: bytes
    media_type: str
    headers: Mapping[str, str]

    def respond(self, request: Request, cache_control: str = "no-cache") -> Response:
        """Return the response to a request: 304 where the browser has the file."""
        tag = f'W/"{hashlib.sha256(self.content).hexdigest()[:32]}"'
        headers = {**self.headers, "Cache-Control": cache_control, "ETag": tag}
        headers["Vary"] = "Accept-Encoding"
        if tag in request.headers.get("If-None-Match", ""):
            return Response(status_code=304, headers=headers)
        content = self.content
        if may_compress(request.scope):
            content, headers["Content-Encoding"] = _compressed(content), "gzip"
        return Response(content, headers=headers, media_type=self.media_type)


@cache
def read_files(folder: Path) -> tuple[str, dict[str, PageFile]]:
    """Return the version of the page's files, and the files by their paths.

    The page's address of each names the version, which is a hash of all: no browser mixes the
    files of two releases. `early.js` stands in the page, allowed by its hash.
    """
    contents = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    contents[SCRIPT] = join_modules(folder / "search.js").encode()
    digest = hashlib.sha256(
        b"".join([name.encode() + content for name, content in contents.items()])
    )
    version = digest.hexdigest()[:12]
    early = COMMENT.sub("", contents[EARLY].decode())
    page = ADDRESS.sub(f"web/{version}/", contents[INDEX].decode())
    contents[INDEX] = page.replace(
        f'<script src="web/{version}/{EARLY}"></script>', f"<script>{early}</script>"
    ).encode()
    hashed = base64.b64encode(hashlib.sha256(early.encode()).digest()).decode()
    policy = f"{PAGE_HEADERS[POLICY]}; script-src 'self' 'sha256-{hashed}'"
    files = {
        name: PageFile(content, _media_type(name), PAGE_HEADERS)
        for name, content in contents.items()
    }
    files[INDEX] = PageFile(contents[INDEX], "text/html", {**PAGE_HEADERS, POLICY: policy})
    return version, files


@cache
def _compressed(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


def _media_type(name: str) -> str:
    return mimetypes.guess_type(name)[0] or "application/octet-stream"
