"""What is there and what is missing: devices, builds, encoder, index, versions."""

import json
import os
import platform
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from service.retrieval.errors import RetrievalError
from service.settings.settings import Settings

PACKAGES = ("clear-search", "torch", "transformers", "tokenizers", "fastapi", "pyarrow")
CHECKPOINT_BYTES = 600_000_000


@dataclass(frozen=True)
class Finding:
    """One thing looked at; `mend` says what to do where something is wrong."""

    subject: str
    found: str
    mend: str = ""

    @property
    def is_wrong(self) -> bool:
        """Tell whether something is to be mended."""
        return bool(self.mend)


def examine(settings: Settings) -> list[Finding]:
    """Look at everything that a service with these settings needs."""
    return [
        *_machine(settings),
        *_device(settings),
        *_faiss(settings),
        *_encoder_and_index(settings),
    ]


def print_findings(findings: Sequence[Finding], as_json: bool) -> None:
    """Print findings on stdout, as a table or as JSON."""
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings]))
        return
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("", "what", "found", "to mend"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        mark = "[red]✗[/red]" if finding.is_wrong else "[green]✓[/green]"
        table.add_row(mark, finding.subject, Text(finding.found), Text(finding.mend))
    Console().print(table)


def _machine(settings: Settings) -> Iterator[Finding]:
    yield Finding(
        "python", f"{platform.python_version()}, {platform.system()} {platform.machine()}"
    )
    yield Finding("cores", str(len(os.sched_getaffinity(0))))
    yield Finding("packages", ", ".join(f"{name} {version(name)}" for name in PACKAGES))
    folder = next(path for path in (settings.cache, *settings.cache.parents) if path.exists())
    free_bytes = shutil.disk_usage(folder).free
    too_little = "free 600 MB or set CLEAR_CACHE" if free_bytes < CHECKPOINT_BYTES else ""
    yield Finding("cache", f"{settings.cache}, {free_bytes // 10**6} MB free", too_little)


def _device(settings: Settings) -> Iterator[Finding]:
    import torch

    from service.retrieval.device import resolve_device

    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    yield Finding("GPUs", ", ".join(names) or "none: the CPU encodes")
    try:
        yield Finding("device", str(resolve_device(settings.device)))
    except RetrievalError as error:
        yield Finding("device", settings.device, str(error))


def _faiss(settings: Settings) -> Iterator[Finding]:
    builds = [f"{name} {found}" for name in FAISS_BUILDS if (found := _version(name))]
    if not builds:
        yield Finding("faiss", "none", "pip install 'clear-search[cpu]' (or [gpu])")
        return
    mend = "keep one: uninstall all, then install the extra cpu or gpu" if len(builds) > 1 else ""
    from service.retrieval.index.faiss.library import num_gpus

    yield Finding("faiss", f"{', '.join(builds)}, serving {num_gpus()} GPUs", mend)


FAISS_BUILDS = ("faiss-cpu", "faiss-gpu", "faiss-gpu-cuvs", "faiss-gpu-cu12")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _encoder_and_index(settings: Settings) -> Iterator[Finding]:
    from service.loading import load_encoder_of
    from service.retrieval.generation.generation import open_current

    encoder = None
    try:
        encoder = load_encoder_of(settings)
        yield Finding(
            "encoder",
            f"{encoder.name}, {encoder.embedding_dim} dimensions, {encoder.max_tokens} tokens, "
            f"fingerprint {encoder.fingerprint[:16]}",
        )
        if encoder.passage_fingerprint != encoder.fingerprint:
            yield Finding("passage side", f"fingerprint {encoder.passage_fingerprint[:16]}")
        yield Finding("runtime", f"{encoder.runtime.name} on {encoder.device}")
    except RetrievalError as error:
        yield Finding("encoder", settings.encoder, str(error))
    if settings.index is None:
        yield Finding("index", "none named (--index or CLEAR_INDEX)")
        return
    try:
        generation = open_current(settings.index)
        if encoder is not None:
            generation.check_encoder(encoder)
        yield Finding("index", f"{generation.name}, {len(generation.passages)} passages, whole")
    except RetrievalError as error:
        yield Finding("index", str(settings.index), str(error))
