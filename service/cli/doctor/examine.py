"""The checks of `clear-service doctor`: packages, devices, faiss, encoder and index."""

import os
import platform
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from service.cli.console import count_of
from service.retrieval.errors import RetrievalError
from service.settings.settings import Settings

if TYPE_CHECKING:
    from service.retrieval.encoder.encoder import Encoder

PACKAGES = ("clear-search", "torch", "transformers", "tokenizers", "fastapi", "pyarrow")
FAISS_BUILDS = ("faiss-cpu", "faiss-gpu", "faiss-gpu-cuvs", "faiss-gpu-cu12")
CHECKPOINT_BYTES = 600_000_000


@dataclass(frozen=True)
class Finding:
    """The result of one check; `fix` says what to do, and is empty where nothing is wrong."""

    subject: str
    found: str
    fix: str = ""

    @property
    def is_wrong(self) -> bool:
        """Return whether something must be fixed."""
        return bool(self.fix)

    def as_dict(self) -> dict[str, str]:
        """Return the finding as `--json` prints it."""
        return {"subject": self.subject, "found": self.found, "mend": self.fix}


def examine(settings: Settings) -> list[Finding]:
    """Check everything that a service with these settings needs."""
    return [
        *_machine(settings),
        *_device(settings),
        *_faiss(),
        *_encoder_and_index(settings),
    ]


def _machine(settings: Settings) -> Iterator[Finding]:
    yield Finding(
        "python", f"{platform.python_version()}, {platform.system()} {platform.machine()}"
    )
    yield Finding("cores", str(len(os.sched_getaffinity(0))))
    yield Finding("packages", ", ".join(f"{name} {version(name)}" for name in PACKAGES))
    folder = next(path for path in (settings.cache, *settings.cache.parents) if path.exists())
    free_bytes = shutil.disk_usage(folder).free
    fix = "free 600 MB or set CLEAR_CACHE" if free_bytes < CHECKPOINT_BYTES else ""
    yield Finding("cache", f"{settings.cache}, {free_bytes // 10**6} MB free", fix)


def _device(settings: Settings) -> Iterator[Finding]:
    import torch

    from service.retrieval.hardware import resolve_device

    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    yield Finding("GPUs", ", ".join(names) or "none: the CPU is used")
    try:
        yield Finding("device", str(resolve_device(settings.device)))
    except RetrievalError as error:
        yield Finding("device", settings.device, str(error))


def _faiss() -> Iterator[Finding]:
    builds = [f"{name} {found}" for name in FAISS_BUILDS if (found := _version(name))]
    if not builds:
        yield Finding("faiss", "none", "pip install 'clear-search[cpu]' (or [gpu])")
        return
    fix = "keep one: uninstall all, then install the extra cpu or gpu" if len(builds) > 1 else ""
    from service.retrieval.index.faiss.library import num_gpus

    yield Finding("faiss", f"{', '.join(builds)}, serving {num_gpus()} GPUs", fix)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _encoder_and_index(settings: Settings) -> Iterator[Finding]:
    import torch

    from service.cli.doctor.engines import examine_engines, examine_longest_text
    from service.components import load_encoder_of
    from service.retrieval.hardware import Contention, read_memory

    encoder = None
    try:
        begun, contention = time.monotonic(), Contention()
        encoder = load_encoder_of(settings)
        seconds = time.monotonic() - begun
        yield Finding(
            "encoder",
            f"{encoder.name}, {encoder.embedding_dim} dimensions, {encoder.max_tokens} tokens, "
            f"fingerprint {encoder.fingerprint[:16]}",
        )
        if encoder.passage_fingerprint != encoder.fingerprint:
            yield Finding("passage side", f"fingerprint {encoder.passage_fingerprint[:16]}")
        prompts = encoder.prompts_in_force
        yield Finding("prompts", "; ".join(filter(None, (*prompts.lines, prompts.warning))))
        yield Finding("runtime", f"{encoder.runtime.name} on {encoder.device}")
        mebibytes = read_memory(torch.device("cpu")).used_bytes / 2**20
        yield Finding(
            "cost",
            f"loaded in {seconds:.1f} s, this process holds {mebibytes:,.0f} MiB; "
            "`clear-service bench` measures questions a second and passages a minute here",
        )
        for engine, found in examine_engines(settings, encoder):
            yield Finding(f"engine {engine}", found)
        yield Finding("longest text", examine_longest_text(settings, encoder))
        if warning := contention.warning():
            yield Finding("other load", warning)
    except RetrievalError as error:
        yield Finding("encoder", settings.encoder, str(error))
    yield from _index(settings, encoder)


def _index(settings: Settings, encoder: "Encoder | None") -> Iterator[Finding]:
    from service.cli.options import pulled_index_folder
    from service.retrieval.generation.generation import open_current, query_prompt_warning

    if settings.index is None:
        yield Finding("index", "none named (--index or CLEAR_INDEX)")
        return
    try:
        generation = open_current(pulled_index_folder(settings))
        if encoder is not None:
            generation.check_encoder(encoder)
        passages = count_of(len(generation.passages), "passage")
        yield Finding("index", f"{generation.name}, {passages}, whole")
        if encoder is not None and (
            warning := query_prompt_warning(generation.manifest.encoder, encoder.checkpoint)
        ):
            yield Finding("query prompt", warning)
    except RetrievalError as error:
        yield Finding("index", str(settings.index), str(error))
