"""What the encoder does on this machine: start, memory, questions a second, passages a minute.

The texts are random tokens of a usual length, since only lengths decide how long they take.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import numpy as np

from service.components import load_encoder_of
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.encoder.runtime.cpu import CPU_ENGINES
from service.retrieval.errors import RetrievalError
from service.retrieval.hardware import multiplies_bf16, read_memory
from service.settings.settings import Settings

QUESTION_TOKENS, QUESTIONS = 24, 64
PASSAGE_TOKENS, PASSAGES = 128, 32
# Of each of three measurements; no other engine is begun after LIMIT_SECONDS.
STEP_SECONDS = 0.5
LIMIT_SECONDS = 16.0
# A difference below this may be noise.
MIN_GAIN = 1.15


@dataclass(frozen=True)
class Speed:
    """What one runtime does; `settings` are those that select it, empty for the one in use.

    `passages_per_minute` is NaN for an encoder of queries alone.
    """

    runtime: str
    settings: dict[str, str]
    load_seconds: float
    memory_mib: float | None
    question_ms: float
    questions_per_second: float
    passages_per_minute: float

    def as_dict(self) -> dict[str, object]:
        """Return the figures as `--json` prints them; what was not measured is null."""
        return {name: None if value != value else value for name, value in asdict(self).items()}


def measure_all(settings: Settings) -> list[Speed]:
    """Measure the runtime that the settings select, then the others that run here."""
    begun = time.monotonic()
    speeds = [measure(settings, {})]
    on_cuda = speeds[0].runtime.startswith("cuda")
    for changes in () if on_cuda else _others():
        if time.monotonic() - begun > LIMIT_SECONDS:
            break
        try:
            found = measure(settings, changes)
        except RetrievalError:  # the engine is missing, or cannot compute this encoder
            continue
        if found.runtime not in [each.runtime for each in speeds]:
            speeds.append(found)
    return speeds


def measure(settings: Settings, changes: dict[str, str]) -> Speed:
    """Load the encoder with some settings changed, and measure it.

    Raises:
        RetrievalError: the encoder cannot be loaded with these settings.
    """
    begun = time.monotonic()
    encoder = load_encoder_of(settings.model_copy(update=changes))
    load_seconds = time.monotonic() - begun
    question = _seconds_of(encoder, 1, QUESTION_TOKENS)
    questions = _seconds_of(encoder, QUESTIONS, QUESTION_TOKENS)
    # The memory of a later engine would include the earlier ones.
    memory = None if changes else read_memory(encoder.device).used_bytes / 2**20
    passages = math.nan
    if encoder.encodes_passages:
        passages = _seconds_of(encoder.side("passage"), PASSAGES, PASSAGE_TOKENS)
    return Speed(
        runtime=encoder.runtime.name,
        settings=changes,
        load_seconds=load_seconds,
        memory_mib=memory,
        question_ms=question * 1000,
        questions_per_second=QUESTIONS / questions,
        passages_per_minute=PASSAGES / passages * 60,
    )


def advice(speeds: list[Speed]) -> list[str]:
    """Return a line for each runtime that is clearly faster than the first, which is in use."""
    used, *others = speeds
    if not others:
        return [
            "no other runtime was measured: none runs here, or the one in use alone took over "
            f"{LIMIT_SECONDS:g} s; then try again on an idle machine"
        ]
    lines = [line for other in others if (line := _compare(used, other))]
    tried = ", ".join(other.runtime for other in others)
    return lines or [
        f"no other runtime here is {MIN_GAIN:g} times as fast as {used.runtime} for one question, "
        f"many, or passages (measured beside: {tried})"
    ]


def _compare(used: Speed, other: Speed) -> str:
    """Return in what another runtime is clearly faster, and slower; empty if in nothing faster."""
    ratios = {
        "the speed of one question": used.question_ms / other.question_ms,
        "the questions a second": other.questions_per_second / used.questions_per_second,
        "the passages a minute": other.passages_per_minute / used.passages_per_minute,
    }
    if not any(ratio >= MIN_GAIN for ratio in ratios.values()):
        return ""
    differences = ", ".join(
        f"{ratio:.2f} times {name}"
        for name, ratio in ratios.items()
        if ratio >= MIN_GAIN or ratio <= 1 / MIN_GAIN
    )
    names = " ".join(f"CLEAR_{name.upper()}={to}" for name, to in other.settings.items())
    return (
        f"{names}: {differences}, compared with {used.runtime}; an index keeps the vectors of the "
        "runtime that built it, so build it again with these"
    )


def _others() -> Iterator[dict[str, str]]:
    for engine in reversed(CPU_ENGINES):
        for precision in CPU_ENGINES[engine]:
            if precision != "bf16" or multiplies_bf16():
                yield {"cpu_engine": engine, "precision": precision}


def _seconds_of(encoder: Encoder, count: int, length: int) -> float:
    """Return the median seconds of a batch; the first run prepares the shape."""
    length = min(length, encoder.max_tokens)
    ids = np.random.default_rng(0).integers(5, 100, (count, length))
    mask = np.ones_like(ids)
    return _median_seconds(lambda: encoder.runtime.embed(ids, mask).cpu())


def _median_seconds(run: Callable[[], object]) -> float:
    run()
    seconds: list[float] = []
    while sum(seconds) < STEP_SECONDS or not seconds:
        begun = time.monotonic()
        run()
        seconds.append(time.monotonic() - begun)
    return sorted(seconds)[math.floor(len(seconds) / 2)]
