"""The life of the service: its state, from loading through ready to draining."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Literal

from service.batching.program import Limits
from service.batching.request import Lane
from service.changes.writer import ChangeWriter
from service.components import index_options_of, load_encoder_of, mirror_of
from service.engine.engine import Engine
from service.engine.language import LanguageDetector
from service.engine.reloader import Reloader
from service.errors import RequestError, SettingsError
from service.process import freeze_imported_objects, freeze_loaded_objects, trim_memory
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.encoder.reference.comparison import Comparison, read_comparison
from service.retrieval.evidence.table import describe_evidence
from service.retrieval.generation.generation import (
    current_name,
    generations_directory,
    open_generation,
    runtime_of,
)
from service.retrieval.language_quality import describe_languages
from service.retrieval.mapped_files import release_program_pages
from service.retrieval.searcher import Searcher
from service.settings.settings import Settings
from service.telemetry.metrics import Metrics
from service.telemetry.tracing import Tracing

logger = logging.getLogger(__name__)
NO_INDEX = "no index is named: set CLEAR_INDEX or give --index DIR"
Phase = Literal["loading", "ready", "draining"]


@dataclass
class State:
    """Settings, metrics, phase, and what is loaded: engine, reloader, reference comparison."""

    settings: Settings
    metrics: Metrics = field(default_factory=Metrics)
    engine: Engine | None = None
    reloader: Reloader | None = None
    comparison: Comparison | None = None
    changes: ChangeWriter | None = None
    phase: Phase = "loading"
    announce: Callable[[str], None] = lambda step: None

    @property
    def is_ready(self) -> bool:
        """Return whether this instance should receive requests."""
        return self.phase == "ready"

    @property
    def is_stuck(self) -> bool:
        """Return whether only a restart helps."""
        if self.engine is None:
            return False
        batcher = self.engine.batcher
        return batcher.is_broken or batcher.is_stuck(self.settings.stuck_seconds)

    def is_idle(self, lane: Lane) -> bool:
        """Return `Batcher.is_idle`; True while the engine loads."""
        return self.engine is None or self.engine.batcher.is_idle(lane)

    def refusal_of(self, lane: Lane, timeout_seconds: float) -> RequestError | None:
        """Return `Batcher.refusal`, or None while the engine loads."""
        if self.engine is None:
            return None
        return self.engine.batcher.refusal(lane, timeout_seconds)

    @property
    def field_maxima(self) -> dict[str, int]:
        """Return the limits of request fields that depend on the settings and the encoder."""
        maxima = {"timeout_ms": self.settings.max_timeout_ms}
        if self.engine:
            maxima["dimensions"] = self.engine.searcher.encoder.embedding_dim
        return maxima

    @property
    def refusal(self) -> str:
        """Return why the generation that CURRENT names is not served, or an empty string."""
        return self.reloader.refusal if self.reloader else ""

    def begin(self, step: str) -> None:
        """Log and announce what is loaded now."""
        logger.info("%s", step)
        self.announce(step)

    def enter(self, phase: Phase) -> None:
        """Change the phase; `draining` is final."""
        if self.phase != "draining":
            self.phase = phase
        self.metrics.ready.set(self.is_ready)

    def describe(self) -> dict[str, object]:
        """Describe this instance for `/info`, without secrets and paths."""
        description: dict[str, object] = {"version": version("clear-search"), "phase": self.phase}
        if self.engine is None:
            return description
        encoder, generation = self.engine.searcher.encoder, self.engine.searcher.generation
        return description | {
            "encoder": {
                "name": encoder.public_name,
                "fingerprint": encoder.fingerprint,
                "passage_fingerprint": encoder.passage_fingerprint,
                "has_two_sides": encoder.has_two_sides,
                "dimension": encoder.embedding_dim,
                "max_tokens": encoder.max_tokens,
                "pooling": str(encoder.pooling),
                "prompts": encoder.prompts,
                "prompt_sources": encoder.prompts_in_force.sources,
                "device": str(encoder.device),
                "runtime": encoder.runtime.name,
                "reference": self.comparison.describe() if self.comparison else None,
                "languages": describe_languages(encoder.checkpoint.languages),
            },
            "relevance": self.engine.searcher.relevance.describe(),
            "identifiers": {"reason": generation.identifiers.reason},
            "index": {
                "generation": generation.name,
                "created": generation.created.isoformat(timespec="seconds"),
                "passages": len(generation.passages),
                "backend": generation.backend,
                "factory": generation.manifest.factory,
                "fields": dict(generation.passages.fields),
                "evidence": describe_evidence(generation.evidence),
                "refused": self.refusal,
            },
            "changes": self.changes.describe() if self.changes else None,
            "limits": {
                "max_body_bytes": self.settings.max_body_bytes,
                "timeout_ms": self.settings.timeout_ms,
                "max_timeout_ms": self.settings.max_timeout_ms,
                "max_waiting_tokens": self.settings.max_waiting_tokens,
            },
        }


@asynccontextmanager
async def lifespan(state: State, tracing: Tracing) -> AsyncIterator[None]:
    """Serve what is loaded, and drain when the server stops; load it here if it is not loaded."""
    settings = state.settings
    if state.engine is None:
        await asyncio.to_thread(load, state)
    engine = state.engine
    assert engine is not None
    assert settings.index_folder is not None  # checked by `load_engine`
    try:
        options = index_options_of(settings, engine.searcher.encoder)
        reloader = Reloader(
            engine, settings.index_folder, options, state.metrics, mirror_of(settings)
        )
        state.reloader = reloader
        if settings.are_documents_open:
            state.changes = ChangeWriter(settings, engine, reloader, options, state.metrics)
            state.changes.start()
        reloader.watch(settings.watch_seconds)
        state.enter("ready")
        yield
    finally:
        state.enter("draining")
        if state.changes:
            await state.changes.close()
        if state.reloader:
            await state.reloader.close()
        await asyncio.to_thread(engine.close)
        await asyncio.to_thread(tracing.close)


def load(state: State, encoder: Encoder | None = None) -> None:
    """Load and warm up the engine, with an encoder if one is given; raises as `load_engine`."""
    settings = state.settings
    freeze_imported_objects()
    engine = load_engine(settings, state.metrics, state.begin, encoder)
    with ExitStack() as on_error:
        on_error.callback(engine.close)
        state.comparison = read_comparison(settings.cache, engine.searcher.encoder)
        state.begin("warming up")
        engine.warm_up()
        on_error.pop_all()
    state.engine = engine
    freeze_loaded_objects()
    trim_memory()
    release_program_pages()


def load_engine(
    settings: Settings,
    metrics: Metrics,
    on_step: Callable[[str], None] = lambda step: None,
    encoder: Encoder | None = None,
) -> Engine:
    """Load the encoder, unless it is given, and the live generation; tell `on_step` what comes.

    Raises:
        SettingsError: the settings name no index.
        RetrievalError: the encoder or the index cannot be used.
    """
    folder, mirror = settings.index_folder, mirror_of(settings)
    if folder is None:
        raise SettingsError(NO_INDEX)
    if mirror:
        on_step("pulling the index")
    name = mirror.start() if mirror else current_name(folder)
    directory = generations_directory(folder) / name
    if encoder is None:
        on_step("loading the encoder")
        encoder = load_encoder_of(settings, runtime_of(directory))
    for line in encoder.prompts_in_force.lines:
        logger.info("%s", line)
    if warning := encoder.prompts_in_force.warning:
        logger.warning("%s", warning)
    on_step("opening the index")
    generation = open_generation(directory, index_options_of(settings, encoder))
    searcher = Searcher(encoder, generation)
    if mirror:
        mirror.keep(name)
    if searcher.warning:
        logger.warning("%s", searcher.warning)
    return Engine(
        searcher,
        metrics,
        limits_of(settings, encoder.device.type),
        settings.query_cache_entries,
        LanguageDetector(settings.cache, remembers=settings.query_cache_entries > 0),
    )


def limits_of(settings: Settings, device: str) -> Limits:
    """Return the batch limits; the defaults depend on the device (large batches suit a GPU)."""
    batch, bulk_batch = (16_384, 4096) if device == "cuda" else (1536, 512)
    max_batch_tokens = min(settings.max_batch_tokens or batch, settings.max_waiting_tokens)
    return Limits(
        max_batch_tokens,
        min(settings.max_bulk_batch_tokens or bulk_batch, max_batch_tokens),
        settings.max_waiting_tokens,
        settings.bulk_share,
    )
