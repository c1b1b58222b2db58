"""ASGI middleware that answers while the encoder and the index are being loaded."""

from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import NotReadyError
from service.lifespan import State
from service.problems import ProblemResponse

RETRY_AFTER_SECONDS = 2
# The routes that need nothing loaded. `/` says that the service is loading.
ALWAYS_ANSWERED = {"/livez", "/metrics", "/"}
ALWAYS_ANSWERED_FOLDERS = ("/web/",)


class LoadingGate:
    """Refuses requests with 503 and Retry-After until the service is loaded."""

    def __init__(self, app: ASGIApp, state: State) -> None:
        """Wrap an app."""
        self._app = app
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on or refuse it."""
        if self._state.phase != "loading" or scope["type"] != "http" or _needs_nothing(scope):
            await self._app(scope, receive, send)
            return
        error = NotReadyError(
            f"the service is loading ({self._state.loading_step}): "
            f"try again in {RETRY_AFTER_SECONDS} s"
        )
        headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
        await ProblemResponse(error, headers=headers)(scope, receive, send)


def _needs_nothing(scope: Scope) -> bool:
    path: str = scope["path"]
    return path in ALWAYS_ANSWERED or path.startswith(ALWAYS_ANSWERED_FOLDERS)
