"""From an encoder's name to an encoder: a folder, a Hub id with its revision, or `bundled`."""

import re
from pathlib import Path

import torch
from tokenizers import Tokenizer

from service.retrieval.bundled import bundled_checkpoint
from service.retrieval.defaults import BUNDLED, default_cache
from service.retrieval.encoder import Encoder
from service.retrieval.errors import CheckpointError, DeviceError
from service.retrieval.layout import CheckpointLayout, read_layout
from service.retrieval.manifest import fingerprint_of, verify_manifest
from service.retrieval.runtime.choice import load_runtime

HUB_NAME = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)@(?P<revision>[0-9a-f]{40})")
HUB_FILES = ["*.json", "*.safetensors"]


def resolve_checkpoint(name: str, cache: Path) -> Path:
    """Find the folder of an encoder, fetching or writing it where that is needed.

    Args:
        name: `bundled`, a folder, or a Hub id with a pinned revision (`owner/name@commit`).
        cache: the folder for `bundled`; Hub files go to the Hub's own cache.

    Raises:
        CheckpointError: it is not there.
    """
    if name == BUNDLED:
        return bundled_checkpoint(cache)
    if Path(name).exists():
        return Path(name)
    if match := HUB_NAME.fullmatch(name):
        return _hub_checkpoint(match["name"], match["revision"])
    if re.fullmatch(r"[\w.-]+/[\w.-]+(@.*)?", name):
        raise CheckpointError(
            f"the encoder {name} is no folder, and a Hub id needs its revision pinned: "
            f"{name.partition('@')[0]}@<40 hexadecimal digits of the commit>"
        )
    raise CheckpointError(
        f"the encoder {name} is no folder: name a Sentence Transformers folder, "
        "a Hub id with its revision (owner/name@commit), or `bundled`"
    )


def _hub_checkpoint(name: str, revision: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=HUB_FILES))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(
            f"the encoder {name}@{revision} could not be fetched from the Hub ({reason}): "
            "check the name, the revision and the network, or name a folder"
        ) from None


def resolve_device(name: str) -> torch.device:
    """Turn `auto`, `cpu`, `cuda` or `cuda:N` into a device that is there.

    Raises:
        DeviceError: the name is unknown or no such device is there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise DeviceError(f"the device {name} is unknown: name auto, cpu, cuda or cuda:N")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(
            f"the device {name} is not there (CUDA devices: {torch.cuda.device_count()}): "
            "set CLEAR_DEVICE=auto or cpu, or mend the driver"
        )
    return device


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
    directory = resolve_checkpoint(name, cache)
    try:
        manifest = verify_manifest(directory)
    except CheckpointError as error:
        if name != BUNDLED:
            raise
        raise CheckpointError(f"{error}; or delete {directory}: it is written anew") from None
    layout = read_layout(directory)
    fingerprint = fingerprint_of(directory, layout, manifest)
    if max_tokens and max_tokens > layout.max_tokens:
        raise CheckpointError(
            f"max_tokens={max_tokens} is over the limit of the encoder {name} "
            f"({layout.max_tokens}): set CLEAR_MAX_TOKENS lower or leave it out"
        )
    runtime = load_runtime(
        layout,
        fingerprint,
        found_device,
        cpu_engine=cpu_engine,
        precision=precision,
        cache=cache,
        max_tokens=max_tokens or layout.max_tokens,
    )
    return Encoder(
        runtime,
        _load_tokenizer(layout),
        name=name if name == BUNDLED else str(manifest.get("name", name)),
        fingerprint=fingerprint,
        passage_fingerprint=str(manifest.get("passage_fingerprint", fingerprint)),
        pooling=layout.pooling,
        prompts=layout.prompts,
        max_tokens=max_tokens or layout.max_tokens,
        pad_id=int(layout.config.get("pad_token_id") or 0),
    )


def _load_tokenizer(layout: CheckpointLayout) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(layout.tokenizer))
    except Exception as error:  # noqa: BLE001  the library raises bare Exception for a bad file
        raise CheckpointError(
            f"{layout.tokenizer} is not a tokenizer file ({error}): restore it from a copy"
        ) from None
