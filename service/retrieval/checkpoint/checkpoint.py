"""An encoder's files, held against their hashes, and the encoder that is loaded from them."""

import filecmp
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from service.retrieval.checkpoint.adapter import DESCRIPTION, check_base, read_adapter
from service.retrieval.checkpoint.layout import CheckpointLayout, read_sides
from service.retrieval.checkpoint.locator import resolve_adapter, resolve_checkpoint
from service.retrieval.checkpoint.manifest import FILE_NAME as MANIFEST
from service.retrieval.checkpoint.manifest import fingerprint_of, verify_manifest
from service.retrieval.defaults import BUNDLED, BUNDLED_BASE, default_cache
from service.retrieval.device import resolve_device
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.encoder.runtime.choice import load_runtime
from service.retrieval.errors import CheckpointError


def load_encoder(
    name: str,
    *,
    cache: Path | None = None,
    device: str = "auto",
    max_tokens: int | None = None,
    cpu_engine: str = "torch",
    precision: str = "fp32",
) -> Encoder:
    """Load an encoder and hold its files against their hashes.

    Args:
        name: `bundled`, a folder, or `owner/name@commit`.
        cache: the folder for `bundled` and for graphs made of checkpoints.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        max_tokens: cut texts shorter than the checkpoint's own limit.
        cpu_engine: what computes on a CPU: `auto`, `torch` or `openvino`.
        precision: `auto`, `fp32`, `bf16`, `fp16` or `int8`, as far as engine and device have it.

    Raises:
        CheckpointError: the checkpoint is missing, altered, or asks for what is not supported.
        DeviceError: the device or the precision is not there, or settings contradict each other.
    """
    found_device = resolve_device(device)
    cache = cache or default_cache()
    checkpoint = open_checkpoint(name, cache)
    limit = min(checkpoint.query.max_tokens, checkpoint.passage.max_tokens)
    if max_tokens and max_tokens > limit:
        raise CheckpointError(
            f"max_tokens={max_tokens} is over the limit of the encoder {name} "
            f"({limit}): set CLEAR_MAX_TOKENS lower or leave it out"
        )

    def load(layout: CheckpointLayout, passage_side: Encoder | None) -> Encoder:
        runtime = load_runtime(
            layout,
            fingerprint := checkpoint.fingerprint(layout),
            found_device,
            cpu_engine=cpu_engine,
            precision=precision,
            cache=cache,
            max_tokens=max_tokens or limit,
            beside=passage_side.runtime if passage_side else None,
            for_queries=layout is checkpoint.query,
        )
        # One tokenizer of 250,000 pieces takes more memory than the layers of a small encoder.
        if passage_side and _same_tokenizer(layout, checkpoint.passage):
            tokenizer = passage_side.tokenizer
        else:
            tokenizer = _load_tokenizer(layout)
        return Encoder(
            runtime,
            tokenizer,
            name=checkpoint.name,
            fingerprint=fingerprint,
            passage_fingerprint=str(checkpoint.manifest.get("passage_fingerprint", fingerprint)),
            pooling=layout.pooling,
            prompts=layout.prompts,
            max_tokens=max_tokens or limit,
            pad_id=int(layout.config.get("pad_token_id") or 0),
            passage_side=passage_side,
        )

    passage = load(checkpoint.passage, None)
    return passage if checkpoint.query is checkpoint.passage else load(checkpoint.query, passage)


@dataclass(frozen=True)
class Checkpoint:
    """What an encoder's name leads to: two layouts, one and the same where it has but one side."""

    name: str
    directory: Path
    manifest: dict[str, Any]
    query: CheckpointLayout
    passage: CheckpointLayout

    def fingerprint(self, layout: CheckpointLayout) -> str:
        """Tell the fingerprint of a side."""
        return fingerprint_of(self.directory, layout, self.manifest)


def open_checkpoint(name: str, cache: Path) -> Checkpoint:
    """Find an encoder's files and hold them against their hashes, no weights loaded.

    Raises:
        CheckpointError: they are missing, altered, or ask for what is not supported.
    """
    directory = resolve_checkpoint(name, cache)
    try:
        manifest = verify_manifest(directory)
    except CheckpointError as error:
        if name not in (BUNDLED, BUNDLED_BASE):
            raise
        raise CheckpointError(f"{error}; or delete {directory}: it is written anew") from None
    known_as = name if name in (BUNDLED, BUNDLED_BASE) else str(manifest.get("name", name))
    checkpoint = Checkpoint(known_as, directory, manifest, *read_sides(directory))
    if folder := resolve_adapter(name, directory):
        checkpoint = _with_adapter(checkpoint, folder)
    return (
        checkpoint
        if checkpoint.query is checkpoint.passage
        else _with_passage_fingerprint(checkpoint)
    )


def _with_adapter(checkpoint: Checkpoint, folder: Path) -> Checkpoint:
    adapter = read_adapter(folder)
    if checkpoint.query is not checkpoint.passage:
        raise CheckpointError(
            f"{folder / DESCRIPTION}: the encoder {checkpoint.directory} has a query side of its "
            "own: use the adapter with the base that it was trained on"
        )
    check_base(adapter, checkpoint.fingerprint(checkpoint.passage), str(checkpoint.directory))
    name = str(adapter.description.get("name", f"{checkpoint.name}+{folder.name}"))
    if checkpoint.name == BUNDLED:
        name = BUNDLED
    return replace(checkpoint, name=name, query=replace(checkpoint.query, adapter=adapter))


def _with_passage_fingerprint(checkpoint: Checkpoint) -> Checkpoint:
    """Record the passage side's fingerprint; a manifest that names another one is wrong."""
    found = checkpoint.fingerprint(checkpoint.passage)
    stated = checkpoint.manifest.get("passage_fingerprint", found)
    if stated != found:
        raise CheckpointError(
            f"{checkpoint.directory / MANIFEST}: `passage_fingerprint` is {str(stated)[:16]}, the "
            f"passage side has {found[:16]}: restore the folder from a copy"
        )
    sizes = [layout.config.get("hidden_size") for layout in (checkpoint.query, checkpoint.passage)]
    if sizes[0] != sizes[1]:
        raise CheckpointError(
            f"{checkpoint.directory}: the query side has {sizes[0]} dimensions, the passage side "
            f"{sizes[1]}: both must be of one size"
        )
    return replace(checkpoint, manifest=checkpoint.manifest | {"passage_fingerprint": found})


def _same_tokenizer(layout: CheckpointLayout, other: CheckpointLayout) -> bool:
    """Tell whether two sides have the same tokenizer."""
    paths = (layout.tokenizer, other.tokenizer)
    return paths[0] == paths[1] or filecmp.cmp(*paths, shallow=False)


def _load_tokenizer(layout: CheckpointLayout) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(layout.tokenizer))
    except Exception as error:  # noqa: BLE001  the library raises bare Exception for a bad file
        raise CheckpointError(
            f"{layout.tokenizer} is not a tokenizer file ({error}): restore it from a copy"
        ) from None
