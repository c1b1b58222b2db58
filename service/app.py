"""The FastAPI application and its life: load, warm up, serve, drain."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.middleware.cors import CORSMiddleware

from service.api import encode, openai, operations, search
from service.api.openapi import openapi_document
from service.api.page import serve_page
from service.auth.access import Access
from service.auth.authentication import KeyCheck
from service.auth.keyring import KeyRing
from service.batching.program import Limits
from service.engine.engine import Engine
from service.engine.reloader import Reloader
from service.errors import SettingsError
from service.http.admission import AdmissionControl
from service.http.body_limit import BodyLimit
from service.http.compression import Compression
from service.http.forwarding import ForwardedRequest, RootPath
from service.http.head_method import HeadMethod
from service.http.loading_gate import LoadingGate
from service.http.observer import RequestObserver
from service.loading import index_options_of, load_encoder_of
from service.problems import install_problems
from service.process import freeze_loaded_objects
from service.retrieval.generation.generation import open_current
from service.retrieval.searcher import Searcher
from service.settings.settings import Settings
from service.state import State
from service.telemetry.metrics import Metrics
from service.telemetry.tracing import Tracing

CORS_METHODS = ("GET", "POST")
CORS_RESPONSE_HEADERS = ("Retry-After", "Server-Timing", "X-Request-Id")


def create_app(settings: Settings) -> FastAPI:
    """Create the app; encoder and index are loaded when its lifespan starts."""
    state = State(settings)
    tracing = Tracing(settings.traces_endpoint)
    state.metrics.describe(settings.max_waiting_tokens)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        engine = await asyncio.to_thread(load_engine, settings, state.metrics, state.begin)
        state.engine = engine
        try:
            state.begin("warming up")
            await asyncio.to_thread(engine.warm_up)
            assert settings.index is not None  # checked by `load_engine`
            reloader = state.reloader = Reloader(
                engine,
                settings.index,
                index_options_of(settings, engine.searcher.encoder),
                state.metrics,
            )
            reloader.watch(settings.watch_seconds)
            await asyncio.to_thread(freeze_loaded_objects)
            state.enter("ready")
            yield
        finally:
            state.enter("draining")
            if state.reloader:
                await state.reloader.close()
            await asyncio.to_thread(engine.close)
            await asyncio.to_thread(tracing.close)

    app: FastAPI = FastAPIOffline(
        title="CLEAR Search",
        version=version("clear-search"),
        description="Ask in any language, search English passages.",
        lifespan=lifespan,
        redoc_url=None,
        favicon_url="web/favicon.svg",
        telemetry=tracing.config,
    )
    app.state.service = state
    app.openapi = partial(openapi_document, app, state)  # type: ignore[method-assign]
    install_problems(app)
    for module in (search, encode, operations, openai):
        app.include_router(module.router)
    serve_page(app)
    _add_middleware(app, state)
    return app


def _add_middleware(app: FastAPI, state: State) -> None:
    """Add the middleware, innermost first: the cheapest refusals come first in a request."""
    settings = state.settings
    app.add_middleware(RootPath)
    app.add_middleware(AdmissionControl, forecast=state, timeout_ms=settings.timeout_ms)
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    app.add_middleware(LoadingGate, state=state)
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


def load_engine(
    settings: Settings, metrics: Metrics, on_step: Callable[[str], None] = lambda step: None
) -> Engine:
    """Load the encoder and the live index generation; call `on_step` with what comes next.

    Raises:
        SettingsError: the settings name no index.
        RetrievalError: the encoder or the index cannot be used.
    """
    if settings.index is None:
        raise SettingsError("no index is named: set CLEAR_INDEX or give --index DIR")
    on_step("loading the encoder")
    encoder = load_encoder_of(settings)
    on_step("opening the index")
    generation = open_current(settings.index, index_options_of(settings, encoder))
    return Engine(
        Searcher(encoder, generation),
        metrics,
        _limits(settings, encoder.device.type),
        settings.query_cache_entries,
    )


def _limits(settings: Settings, device: str) -> Limits:
    """Return the batch limits; the defaults depend on the device (large batches suit a GPU)."""
    batch, bulk_batch = (16_384, 4096) if device == "cuda" else (1536, 512)
    max_batch_tokens = min(settings.max_batch_tokens or batch, settings.max_waiting_tokens)
    return Limits(
        max_batch_tokens,
        min(settings.max_bulk_batch_tokens or bulk_batch, max_batch_tokens),
        settings.max_waiting_tokens,
        settings.bulk_share,
    )
