"""Loading of encoders: a checkpoint's sides, each in a runtime, with their tokenizers."""

from pathlib import Path

from service.retrieval.checkpoint.checkpoint import Checkpoint, open_checkpoint
from service.retrieval.checkpoint.layout import CheckpointLayout
from service.retrieval.checkpoint.transformer.config import MIN_TOKENS
from service.retrieval.checkpoint.transformer.rope import check_rope
from service.retrieval.defaults import default_cache
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.encoder.runtime.choice import RuntimeOptions, load_runtime
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
        return RuntimeOptions(found_device, cpu_engine, precision, cache, limit)

    passage = _load_side(checkpoint, checkpoint.passage, options(checkpoint.passage))
    if checkpoint.query is checkpoint.passage:
        return passage
    query = _load_side(checkpoint, checkpoint.query, options(checkpoint.query), passage)
    if query.embedding_dim != passage.embedding_dim:
        raise CheckpointError(
            f"{checkpoint.directory}: the query side has {query.embedding_dim} dimensions, the "
            f"passage side {passage.embedding_dim}: use a checkpoint whose sides have the same "
            "number"
        )
    return query


def _load_side(
    checkpoint: Checkpoint,
    layout: CheckpointLayout,
    options: RuntimeOptions,
    passage_side: Encoder | None = None,
) -> Encoder:
    is_query_side = layout is checkpoint.query
    runtime = load_runtime(
        layout,
        checkpoint.fingerprint(layout),  # prompts are not part of a graph
        options,
        shared_with=passage_side.runtime if passage_side else None,
        for_queries=is_query_side,
    )
    prompts = checkpoint.prompts.texts.values()
    # One tokenizer of 250,000 pieces takes more memory than the layers of a small encoder.
    has_same_limit = passage_side and passage_side.max_tokens == options.max_tokens
    if passage_side and has_same_limit and has_same_tokens(layout, checkpoint.passage):
        tokenizer = passage_side.tokenizer
    else:
        tokenizer = load_tokenizer(layout, options.max_tokens, prompts)
    check_token_ids(tokenizer, layout, prompts)
    return Encoder(
        runtime,
        tokenizer,
        checkpoint,
        fingerprint=(
            checkpoint.query_fingerprint if is_query_side else checkpoint.passage_fingerprint
        ),
        pooling=layout.pooling,
        max_tokens=options.max_tokens,
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
