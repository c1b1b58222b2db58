"""The checks of `clear-service doctor` that embed: each engine, and the longest text."""

import math
import time
from collections.abc import Iterator

import numpy as np

from service.components import checkpoint_of, load_encoder_of
from service.retrieval.encoder.batches import MAX_TRIAL_TOKENS
from service.retrieval.encoder.encoder import Embeddings, Encoder
from service.retrieval.encoder.runtime.cpu import CPU_ENGINES
from service.retrieval.encoder.runtime.memory import TextCost
from service.retrieval.errors import RetrievalError
from service.settings.settings import Settings

NUM_RUNS = 4
SAMPLE = "How much protein should an adult eat? 一个成年人应该吃多少蛋白质？"


def examine_engines(settings: Settings, used: Encoder) -> Iterator[tuple[str, str]]:
    """Embed a text on each engine that the settings allow.

    Args:
        settings: of the service.
        used: the encoder that these settings load.

    Yields:
        The name of an engine, and what it did: the one that is used first.
    """
    name = used.runtime.name.partition("-")[0]
    expected, report = _embed(used)
    yield name, f"{report}, used: {_why(settings, used, name)}"
    if used.device.type == "cuda":
        others = {} if settings.precision == "fp32" else {"torch in fp32": {"precision": "fp32"}}
    else:
        others = {each: {"cpu_engine": each} for each in CPU_ENGINES if each != name}
    for other, changes in others.items():
        if settings.cpu_engine not in ("auto", other) and used.device.type == "cpu":
            yield other, f"not tried, as CLEAR_CPU_ENGINE={settings.cpu_engine}"
            continue
        try:
            found, report = _embed(load_encoder_of(settings.model_copy(update=changes)))
        except RetrievalError as error:
            yield other, f"cannot encode: {error}"
            continue
        cosine = float(np.sum(found * expected))
        yield other, f"{report}, cosine {cosine:.5f} to {used.runtime.name}, not used"


def examine_longest_text(settings: Settings, encoder: Encoder) -> str:
    """Return what the longest text costs: memory by formula, time by a shorter text."""
    length = min(encoder.max_tokens, MAX_TRIAL_TOKENS)
    token_ids = encoder.tokenize([f"{SAMPLE} " * length], "query")[0].token_ids[:length]
    ids = np.array([token_ids])
    seconds = _seconds(encoder, ids)
    cost = TextCost.of(checkpoint_of(settings).query.config)
    if cost is None:
        return f"{len(token_ids)} tokens take {seconds:.3f} s"
    seconds = cost.seconds(encoder.max_tokens, len(token_ids), seconds)
    megabytes = math.ceil(cost.num_bytes(encoder.max_tokens) / 10**6)
    return (
        f"{encoder.max_tokens} tokens take about {seconds:.3f} s, and at most {megabytes:,} MB "
        "beside the weights"
    )


def _embed(encoder: Encoder) -> tuple[Embeddings, str]:
    text = encoder.tokenize([SAMPLE], "query")
    found = encoder.encode_tokenized(text)
    seconds = _seconds(encoder, np.array([text[0].token_ids]))
    return found, f"{encoder.runtime.name}: a text of {len(text[0].token_ids)} tokens in " + (
        f"{seconds * 1000:,.1f} ms"
    )


def _seconds(encoder: Encoder, token_ids: np.ndarray) -> float:
    """Return the seconds of the fastest of some runs; the first one prepares the shape."""
    fastest = math.inf
    for _ in range(NUM_RUNS):
        started = time.monotonic()
        encoder.runtime.embed(token_ids, np.ones_like(token_ids)).cpu()
        fastest = min(fastest, time.monotonic() - started)
    return fastest


def _why(settings: Settings, used: Encoder, name: str) -> str:
    if used.device.type == "cuda":
        return f"CLEAR_DEVICE={settings.device} is {used.device}"
    if settings.cpu_engine != "auto":
        return f"CLEAR_CPU_ENGINE={settings.cpu_engine}"
    if name == "openvino":
        return "CLEAR_CPU_ENGINE=auto finds it the fastest, and it equals torch on the probe"
    return "CLEAR_CPU_ENGINE=auto falls back to it where openvino is missing or cannot encode"
