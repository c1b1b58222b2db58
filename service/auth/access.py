"""Access rules: which paths are closed, open, or require a key with a scope."""

from typing import Literal

from service.auth.keys import Scope
from service.settings.settings import Settings

# Probes and browsers without a key must reach these; none of them reads the index or runs the
# encoder.
PROBES = {"/livez", "/readyz"}
PAGE = {"/"}
PAGE_FOLDERS = ("/web/",)
DOCS = {"/docs", "/openapi.json"}
DOCS_FOLDERS = ("/static-offline-docs/",)
METRICS = {"/metrics"}
ADMIN_FOLDERS = ("/admin/",)
# A path that is not listed requires a key of any scope, or of `encode` under /v1.
SCOPES: dict[str, Scope] = {
    "/search": "search",
    "/encode": "encode",
    "/documents": "write",
}
SCOPES_OF_FOLDERS: dict[str, Scope] = {
    "/v1/": "encode",
    "/passages/": "search",
    "/documents/": "search",
    "/changes/": "write",
}
Rule = Literal["open", "closed", "key", "search", "encode", "write", "admin"]


class Access:
    """The access rule of each path, from the settings."""

    def __init__(self, settings: Settings) -> None:
        """Read the settings."""
        self._metrics = settings.metrics
        self._docs = settings.docs
        self._operations_port = settings.operations_port

    def rule(self, path: str, port: int | None = None) -> Rule:
        """Return the access rule of a path on a port.

        >>> access = Access(Settings())
        >>> access.rule("/readyz"), access.rule("/search"), access.rule("/admin/reload")
        ('open', 'search', 'admin')
        """
        folder = f"{path}/"
        if path in PROBES:
            return "open"
        is_operation = path in METRICS or folder.startswith(ADMIN_FOLDERS)
        is_docs = path in DOCS or folder.startswith(DOCS_FOLDERS)
        if self._operations_port is not None:
            on_operations_port = port == self._operations_port
            if on_operations_port != (is_operation or is_docs):
                return "closed"
        if path in METRICS:
            return _as_rule(self._metrics, "admin")
        if is_docs:
            return _as_rule(self._docs, "key")
        if folder.startswith(ADMIN_FOLDERS):
            return "admin"
        if path in PAGE or folder.startswith(PAGE_FOLDERS):
            return "open"
        return scope_of(path) or "key"


def scope_of(path: str) -> Scope | None:
    """Return the scope that a path requires; None if a key of any scope does."""
    folders = (scope for folder, scope in SCOPES_OF_FOLDERS.items() if path.startswith(folder))
    return next(folders, SCOPES.get(path))


def _as_rule(setting: Literal["open", "key", "closed"], scope: Rule) -> Rule:
    return scope if setting == "key" else setting
