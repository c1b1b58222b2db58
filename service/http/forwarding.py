"""ASGI middleware for a service behind a proxy: the prefix of its paths, and forwarded headers.

A proxy may serve the service below a prefix: it removes `/clear` from `/clear/docs`, or leaves it.
Between the two middlewares of this module a path has no prefix, as the rules of access need it.
Inside of them it has one, as ASGI defines `root_path`.
"""

import ipaddress
import re
from functools import lru_cache

from starlette.responses import RedirectResponse
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

from service.settings.access import ROOT_PATH

PREFIX = "clear.prefix"  # key of the scope
HOST = re.compile(r"[A-Za-z0-9._-]+(:\d+)?|\[[0-9A-Fa-f:.]+\](:\d+)?")


class ForwardedRequest:
    """Reads prefix, scheme and host from the settings and the headers of trusted proxies."""

    def __init__(self, app: ASGIApp, root_path: str, trusted_proxies: str) -> None:
        """Wrap an app.

        Args:
            app: receives paths without the prefix.
            root_path: the prefix of requests whose proxy names none.
            trusted_proxies: addresses and networks, separated by commas.
        """
        self._app = app
        self._root_path = root_path
        self._networks = [ipaddress.ip_network(each) for each in trusted_proxies.split(",") if each]
        self._is_trusted = lru_cache(1024)(self._is_in_networks)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        root, path = self._root_path, scope["path"]
        client = scope.get("client")
        is_trusted = client and self._networks and self._is_trusted(client[0])
        forwarded = _apply_headers(scope) if is_trusted else ""
        scope[PREFIX] = forwarded or root
        # A proxy that forwards a prefix has removed it. So has one whose request for `/search`,
        # below the prefix `/search`, is that of the route.
        is_left = root and not forwarded and f"{path}/".startswith(f"{root}/")
        if is_left and not _is_route(scope):
            if path == root:  # links of the page are relative to `root/`
                response = RedirectResponse(f"./{root.rpartition('/')[2]}/")
                await response(scope, receive, send)
                return
            scope["path"] = path.removeprefix(root)
        await self._app(scope, receive, send)

    def _is_in_networks(self, host: str) -> bool:
        try:
            address = ipaddress.ip_address(host)
        except ValueError:  # a Unix socket
            return False
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in self._networks)


class RootPath:
    """Adds the prefix to the path for the routes."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap the routes."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path, prefix = scope["path"], scope.get(PREFIX, "")
        scope["root_path"], scope["path"] = prefix, prefix + path
        try:
            await self._app(scope, receive, send)
        finally:
            scope["root_path"], scope["path"] = "", path


def _is_route(scope: Scope) -> bool:
    """Return whether the path is one of the app's own as it is."""
    routes = scope["app"].routes
    return any(route.matches(dict(scope))[0] is not Match.NONE for route in routes)


def _apply_headers(scope: Scope) -> str:
    """Set scheme and host of a request as a proxy forwards them; return the prefix, if any.

    Of several values the last is the trusted proxy's own. A malformed value is ignored.
    """
    values = {
        name: value.decode("latin-1").rpartition(",")[2].strip() for name, value in scope["headers"]
    }
    scheme = values.get(b"x-forwarded-proto")
    if scheme in ("http", "https"):
        scope["scheme"] = scheme
    host = values.get(b"x-forwarded-host", "")
    if HOST.fullmatch(host):
        others = [header for header in scope["headers"] if header[0] != b"host"]
        scope["headers"] = [*others, (b"host", host.encode())]
    prefix = values.get(b"x-forwarded-prefix", "").rstrip("/")
    return prefix if ROOT_PATH.fullmatch(prefix) else ""
