"""What the steps share: texts, encoders, an index, and the timing of a device's work."""

import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from service.components import load_encoder_of
from service.retrieval.corpus.reader import Passage
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.encoder.reference.texts import SENTENCES
from service.retrieval.indexing.build import build_index
from service.settings.settings import Settings, load_settings
from tests.bench.corpus import corpus_passages
from tests.gpu.step import Machine

REPEATS = 5


def texts(count: int) -> list[str]:
    """Return different texts in 16 scripts, from a question to three passages in length."""
    pairs = list(SENTENCES.values())
    found: list[str] = []
    for number in itertools.count():
        question, passage = pairs[number % len(pairs)]
        words = passage.split()
        start = number // len(pairs) % max(1, len(words))
        rest = " ".join([*words[start:], *words[:start]] * (number % 4))
        found.append(f"{number} {question} {rest}".strip())
        if len(found) == count:
            return found
    raise AssertionError


def settings_of(machine: Machine, **fields: object) -> Settings:
    """Return settings with the device of the machine."""
    return load_settings(**{"device": machine.device, **fields})


def encoder_of(machine: Machine, **fields: object) -> Encoder:
    """Return the encoder of the settings, on the device of the machine."""
    return load_encoder_of(settings_of(machine, **fields))


def passages(machine: Machine) -> Iterator[tuple[str, Passage]]:
    """Yield the Factbook's entries, all or a few."""
    rows = itertools.islice(corpus_passages(), machine.size(9037, 64))
    for row in rows:
        yield "factbook", Passage(row["id"], row["text"], row["title"])


def ensure_index(machine: Machine) -> Path:
    """Return the index of these passages, embedded in fp32 on the machine's device."""
    index = machine.work / "index"
    if not (index / "CURRENT").is_file():
        build_index(passages(machine), index, encoder_of(machine, precision="fp32"))
    return index


def seconds_of(machine: Machine, run: Callable[[], object], repeats: int = REPEATS) -> float:
    """Return the median time of a run, after one that is not counted."""
    run()
    machine.synchronize()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        machine.synchronize()
        times.append(time.perf_counter() - started)
    return statistics.median(times)
