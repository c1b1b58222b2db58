"""The FastAPI application: routes, middleware, the OpenAPI document."""

from functools import partial
from importlib.metadata import version

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.middleware.cors import CORSMiddleware

from service.api import documents, encode, openai, operations, search
from service.api.openapi import openapi_document
from service.api.page import serve_page
from service.auth.access import Access
from service.auth.authentication import KeyCheck
from service.auth.keyring import KeyRing
from service.http.admission import AdmissionControl
from service.http.body_limit import BodyLimit
from service.http.compression import Compression
from service.http.forwarding import ForwardedRequest, RootPath
from service.http.head_method import HeadMethod
from service.http.observer import RequestObserver
from service.lifespan import State, lifespan
from service.problems import install_problems
from service.settings.settings import Settings
from service.telemetry.tracing import Tracing

CORS_METHODS = ("GET", "POST")
CORS_RESPONSE_HEADERS = ("Retry-After", "Server-Timing", "X-Request-Id")


def create_app(settings: Settings) -> FastAPI:
    """Create the app; its lifespan loads encoder and index, unless the server has."""
    state = State(settings)
    tracing = Tracing(settings.traces_endpoint)
    state.metrics.describe(settings.max_waiting_tokens)

    app: FastAPI = FastAPIOffline(
        title="CLEAR Search",
        version=version("clear-search"),
        description="Ask in any language, search English passages.",
        lifespan=lambda app: lifespan(state, tracing),
        redoc_url=None,
        redirect_slashes=False,  # clients lose the body or the key on the way
        favicon_url="web/favicon.svg",
        telemetry=tracing.config,
    )
    app.state.service = state
    app.openapi = partial(openapi_document, app, state)  # type: ignore[method-assign]
    install_problems(app)
    # Before FastAPI's own routes, which are tried in order; an included router looks them up twice.
    modules = (search, encode, documents, operations, openai)
    app.routes[:0] = [route for module in modules for route in module.router.routes]
    serve_page(app)
    _add_middleware(app, state)
    return app


def _add_middleware(app: FastAPI, state: State) -> None:
    """Add the middleware, innermost first: the cheapest refusals come first in a request."""
    settings = state.settings
    app.add_middleware(RootPath)
    app.add_middleware(AdmissionControl, forecast=state, timeout_ms=settings.timeout_ms)
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    ring = KeyRing(settings) if settings.has_keys else None
    app.add_middleware(KeyCheck, access=Access(settings), ring=ring, metrics=state.metrics)
    if settings.gzip_min_bytes:
        app.add_middleware(Compression, min_bytes=settings.gzip_min_bytes)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins.split(","),
            allow_methods=CORS_METHODS,
            allow_headers=("*",),  # libraries add their own; the origins are what is allowed
            expose_headers=CORS_RESPONSE_HEADERS,
        )
    app.add_middleware(
        ForwardedRequest,
        root_path=settings.root_path,
        trusted_proxies=settings.trusted_proxies,
    )
    app.add_middleware(HeadMethod)
    app.add_middleware(RequestObserver, state=state)
