"""The life of the service: load, warm up, serve, drain."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from service.batching.program import Limits
from service.components import index_options_of, load_encoder_of
from service.engine.engine import Engine
from service.engine.reloader import Reloader
from service.errors import SettingsError
from service.process import freeze_loaded_objects
from service.retrieval.generation.generation import open_current
from service.retrieval.searcher import Searcher
from service.settings.settings import Settings
from service.state import State
from service.telemetry.metrics import Metrics
from service.telemetry.tracing import Tracing


@asynccontextmanager
async def lifespan(state: State, tracing: Tracing) -> AsyncIterator[None]:
    """Load and warm up the engine, serve, and drain when the server stops."""
    settings = state.settings
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
