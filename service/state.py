"""The state of a running service: its parts and its phase."""

import logging
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Literal

from service.batching.request import Lane
from service.engine.engine import Engine
from service.engine.reloader import Reloader
from service.errors import RequestError
from service.settings.settings import Settings
from service.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)
Phase = Literal["loading", "ready", "draining"]


@dataclass
class State:
    """Settings, metrics, phase, and the engine and the reloader once they are loaded."""

    settings: Settings
    metrics: Metrics = field(default_factory=Metrics)
    engine: Engine | None = None
    reloader: Reloader | None = None
    phase: Phase = "loading"
    loading_step: str = "starting"

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
        return batcher.is_broken or batcher.running_seconds > self.settings.stuck_seconds

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

    def begin(self, loading_step: str) -> None:
        """Keep and log what is loaded now."""
        self.loading_step = loading_step
        logger.info("%s", loading_step)

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
                "pooling": encoder.pooling,
                "prompts": encoder.prompts,
                "device": str(encoder.device),
                "runtime": encoder.runtime.name,
            },
            "index": {
                "generation": generation.name,
                "created": generation.created.isoformat(timespec="seconds"),
                "passages": len(generation.passages),
                "backend": generation.manifest.backend,
                "factory": generation.manifest.factory,
                "fields": dict(generation.passages.fields),
                "refused": self.refusal,
            },
            "limits": {
                "max_body_bytes": self.settings.max_body_bytes,
                "timeout_ms": self.settings.timeout_ms,
                "max_timeout_ms": self.settings.max_timeout_ms,
                "max_waiting_tokens": self.settings.max_waiting_tokens,
            },
        }
