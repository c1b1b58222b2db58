"""The FastAPI application: load, warm up, ready, drain."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from fastapi_offline import FastAPIOffline
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from service.api.openai import router as openai_router
from service.api.openai_errors import OpenAIErrors
from service.api.openapi import describe_contract
from service.api.search import router
from service.auth.access import Access, KeyCheck
from service.auth.keyring import KeyRing
from service.batching.program import Limits
from service.engine.engine import Engine
from service.engine.reloader import Reloader
from service.errors import SettingsError
from service.http.admission import Gate
from service.http.compression import Compression
from service.http.observer import RequestObserver
from service.loading import index_options_of, load_encoder_of
from service.problems import BodyLimit, install_problems
from service.retrieval.generation.generation import open_current
from service.retrieval.searcher import Searcher
from service.settings.settings import Settings
from service.state import State
from service.telemetry.metrics import Metrics
from service.telemetry.tracing import Tracing

COLLECT_AFTER_OBJECTS = 20_000
CORS_METHODS = ("GET", "POST")
CORS_REQUEST_HEADERS = ("Authorization", "Content-Type", "X-Request-Id", "traceparent")
CORS_ANSWER_HEADERS = ("Retry-After", "Server-Timing", "X-Request-Id")
WEB = Path(__file__).parent / "web"
PAGE_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'"
    ),
}


def create_app(settings: Settings) -> FastAPI:
    """Make the app; nothing is loaded before its lifespan starts."""
    state = State(settings)
    tracing = Tracing(settings.traces_endpoint)
    state.metrics.describe(settings.max_waiting_tokens)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        engine = state.engine = await asyncio.to_thread(load_engine, settings, state.metrics)
        try:
            await asyncio.to_thread(engine.warm_up)
            assert settings.index is not None  # or nothing had been loaded
            reloader = state.reloader = Reloader(
                engine,
                settings.index,
                index_options_of(settings, engine.searcher.encoder),
                state.metrics,
            )
            reloader.watch(settings.watch_seconds)
            _spare_the_collector()
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
    app.openapi = partial(describe_contract, app)  # type: ignore[method-assign]
    install_problems(app)
    app.include_router(router)
    app.include_router(openai_router)
    _serve_page(app)
    _add_middleware(app, state)
    return app


def _add_middleware(app: FastAPI, state: State) -> None:
    """Wrap the app, from the inside out: what costs least refuses first."""
    settings = state.settings
    app.add_middleware(Gate, forecast=state.retry_after_seconds, timeout_ms=settings.timeout_ms)
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    ring = KeyRing(settings) if settings.has_keys else None
    app.add_middleware(KeyCheck, access=Access(settings), ring=ring, metrics=state.metrics)
    app.add_middleware(OpenAIErrors)
    if settings.gzip_min_bytes:
        app.add_middleware(Compression, min_bytes=settings.gzip_min_bytes)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins.split(","),
            allow_methods=CORS_METHODS,
            allow_headers=CORS_REQUEST_HEADERS,
            expose_headers=CORS_ANSWER_HEADERS,
        )
    app.add_middleware(RequestObserver, state=state)


def load_engine(settings: Settings, metrics: Metrics) -> Engine:
    """Load the encoder and the live index generation.

    Raises:
        SettingsError: no index is named, or a limit is below what the encoder needs.
        RetrievalError: the encoder or the index cannot be used.
    """
    if settings.index is None:
        raise SettingsError("no index is named: set CLEAR_INDEX or give --index DIR")
    encoder = load_encoder_of(settings)
    generation = open_current(settings.index, index_options_of(settings, encoder))
    return Engine(
        Searcher(encoder, generation),
        metrics,
        _limits(settings, encoder.device.type),
        settings.query_cache_entries,
    )


def _spare_the_collector() -> None:
    """Keep what is loaded, a million objects, out of each search for garbage.

    Under load those searches took half of the event loop's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER_OBJECTS)


def _limits(settings: Settings, device: str) -> Limits:
    """Fill in what suits the device: a CPU gains nothing from batches as large as a GPU's."""
    batch, bulk_batch = (16_384, 4096) if device == "cuda" else (1536, 512)
    max_batch_tokens = min(settings.max_batch_tokens or batch, settings.max_waiting_tokens)
    return Limits(
        max_batch_tokens,
        min(settings.max_bulk_batch_tokens or bulk_batch, max_batch_tokens),
        settings.max_waiting_tokens,
        settings.bulk_share,
    )


def _serve_page(app: FastAPI) -> None:
    files: ASGIApp = _PageFiles(directory=WEB)
    app.mount("/web", files, name="web")

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(WEB / "index.html", headers=PAGE_HEADERS)


class _PageFiles(StaticFiles):
    """The page's files with the page's headers."""

    def file_response(self, *arguments: object, **options: object) -> FileResponse:
        response = super().file_response(*arguments, **options)  # type: ignore[arg-type]
        response.headers.update(PAGE_HEADERS)
        return response  # type: ignore[return-value]
