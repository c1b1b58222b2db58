"""Loading of encoders: a checkpoint's sides, each in a runtime, with their tokenizers."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from service.retrieval.checkpoint.checkpoint import Checkpoint, open_checkpoint
from service.retrieval.checkpoint.layout import CheckpointLayout
from service.retrieval.checkpoint.transformer.config import MIN_TOKENS
from service.retrieval.checkpoint.transformer.rope import check_rope
from service.retrieval.defaults import default_cache
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.encoder.runtime.choice import RuntimeOptions, load_runtime
from service.retrieval.encoder.runtime.cpu import Choice
from service.retrieval.encoder.runtime.on_demand import OnDemandRuntime
from service.retrieval.encoder.runtime.runtime import Runtime
from service.retrieval.encoder.tokenizer import check_token_ids, has_same_tokens, load_tokenizer
from service.retrieval.errors import CheckpointError
from service.retrieval.hardware import resolve_device


def load_encoder(
    name: str,
    *,
    cache: Path | None = None,
    device: str = "auto",
    max_tokens: int | None = None,
    cpu_engine: str = "torch",
    precision: str = "fp32",
    query_prompt: str | None = None,
    passage_prompt: str | None = None,
    pooling: str | None = None,
    passage_choice: Choice | None = None,
) -> Encoder:
    """Load an encoder and verify the hashes of its files.

    Args:
        name: `bundled`, a folder, or `owner/name@commit`.
        cache: folder for the bundled checkpoint and for exported graphs.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        max_tokens: truncates texts at fewer tokens than the checkpoint's own limit.
        cpu_engine: the library that computes on a CPU: `auto`, `torch` or `openvino`.
        precision: `auto`, `fp32`, `bf16`, `fp16` or `int8`; engine and device must support it.
        query_prompt: as for `open_checkpoint`.
        passage_prompt: as for `open_checkpoint`.
        pooling: the mode for a folder without `modules.json`, as transformers saves it.
        passage_choice: engine and precision of a passage side of its own, where they differ.

    Raises:
        CheckpointError: the checkpoint is missing, altered or not supported.
        DeviceError: the device or the precision is not available, or settings contradict each
            other.
        MemoryShortError: the weights and the longest text do not fit in memory.
    """
    found_device = resolve_device(device)
    cache = cache or default_cache()
    checkpoint = open_checkpoint(name, cache, query_prompt, passage_prompt, pooling)
    _check_limit(checkpoint, name, max_tokens)

    def options(layout: CheckpointLayout) -> RuntimeOptions:
        limit = max_tokens or layout.max_tokens
        is_passage_side = layout is checkpoint.passage is not checkpoint.query
        choice = passage_choice if is_passage_side else None
        engine = (choice.engine, choice.precision) if choice else (cpu_engine, precision)
        return RuntimeOptions(found_device, *engine, cache, limit)

    if checkpoint.query is checkpoint.passage:
        runtime = _load_runtime(checkpoint, checkpoint.query, options(checkpoint.query))
        return _join(checkpoint, checkpoint.query, runtime, options(checkpoint.query).max_tokens)
    query, passage = _load_runtimes(checkpoint, options)
    limits = [options(layout).max_tokens for layout in (checkpoint.query, checkpoint.passage)]
    passage_side = _join(checkpoint, checkpoint.passage, passage, limits[1])
    return _join(checkpoint, checkpoint.query, query, limits[0], passage_side)


def _load_runtimes(
    checkpoint: Checkpoint, options: Callable[[CheckpointLayout], RuntimeOptions]
) -> tuple[Runtime, Runtime]:
    """Return the runtimes of queries and passages; on a CPU passages load theirs when they come."""
    query, passage = checkpoint.query, checkpoint.passage
    if options(passage).device.type == "cuda":  # which has no memory to find later
        first = _load_runtime(checkpoint, passage, options(passage))
        return _load_runtime(checkpoint, query, options(query), first), first
    loaded = _load_runtime(checkpoint, query, options(query))
    load = partial(_load_runtime, checkpoint, passage, options(passage), loaded)
    return loaded, OnDemandRuntime(load, loaded)


def _load_runtime(
    checkpoint: Checkpoint,
    layout: CheckpointLayout,
    options: RuntimeOptions,
    other: Runtime | None = None,
) -> Runtime:
    return load_runtime(
        layout,
        checkpoint.fingerprint(layout),  # prompts are not part of a graph
        options,
        shared_with=other,
        for_queries=layout is checkpoint.query,
    )


def _join(
    checkpoint: Checkpoint,
    layout: CheckpointLayout,
    runtime: Runtime,
    max_tokens: int,
    passage_side: Encoder | None = None,
) -> Encoder:
    """Return a side's encoder, with its tokenizer or that of the other side."""
    is_query_side = layout is checkpoint.query
    prompts = checkpoint.prompts.texts.values()
    # One tokenizer of 250,000 pieces takes more memory than the layers of a small encoder.
    has_same_limit = passage_side and passage_side.max_tokens == max_tokens
    if passage_side and has_same_limit and has_same_tokens(layout, checkpoint.passage):
        tokenizer = passage_side.tokenizer
    else:
        tokenizer = load_tokenizer(layout, max_tokens, prompts)
    check_token_ids(tokenizer, layout, prompts)
    return Encoder(
        runtime,
        tokenizer,
        checkpoint,
        fingerprint=(
            checkpoint.query_fingerprint if is_query_side else checkpoint.passage_fingerprint
        ),
        pooling=layout.pooling,
        max_tokens=max_tokens,
        pad_id=int(layout.config.get("pad_token_id") or 0),
        passage_side=passage_side,
    )


def _check_limit(checkpoint: Checkpoint, name: str, max_tokens: int | None) -> None:
    """Refuse a limit over that of a side or of its rotary positions, or without room for a text."""
    if max_tokens is not None and max_tokens < MIN_TOKENS:
        raise CheckpointError(
            f"CLEAR_MAX_TOKENS={max_tokens} is below the smallest limit, {MIN_TOKENS}: set "
            "it higher or leave it out"
        )
    limit = min(checkpoint.query.max_tokens, checkpoint.passage.max_tokens)
    if max_tokens and max_tokens > limit:
        raise CheckpointError(
            f"CLEAR_MAX_TOKENS={max_tokens} is over the limit of the encoder {name} "
            f"({limit}): set it lower or leave it out"
        )
    for side in (checkpoint.query, checkpoint.passage):
        check_rope(side.config, side.transformer / "config.json", max_tokens or side.max_tokens)
