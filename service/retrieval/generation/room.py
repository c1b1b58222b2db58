"""How much memory an index takes, and how much is left for it."""

from collections.abc import Iterator
from pathlib import Path

import torch

from service.retrieval.errors import MemoryShortError
from service.retrieval.generation.manifest import VECTORS, GenerationManifest
from service.retrieval.index.open import choose_backend
from service.retrieval.index.options import IndexOptions

CGROUPS = Path("/sys/fs/cgroup")
MEMORY = Path("/proc/meminfo")
HALF_BYTES = 2


def check_room(name: str, manifest: GenerationManifest, options: IndexOptions) -> None:
    """Refuse to open a generation that does not fit beside what is in memory.

    Args:
        name: of the generation.
        manifest: its manifest.
        options: by what and where its vectors are to be searched.

    Raises:
        MemoryShortError: with what is needed and what is free.
    """
    for where, needed_bytes in needed(manifest, options).items():
        free = free_bytes(where)
        if needed_bytes > free:
            raise MemoryShortError(
                f"the generation {name} needs {_gib(needed_bytes)} on {where} beside the live one, "
                f"{_gib(free)} are free: give the instance more memory, or restart it, which "
                "loads the new generation alone"
            )


def needed(manifest: GenerationManifest, options: IndexOptions) -> dict[str, int]:
    """Tell the most bytes that opening a generation takes, by device; passages stay on the disk.

    What torch searches is read by FAISS and copied: for a moment it is there twice.
    """
    size_bytes = manifest.files[VECTORS]["size_bytes"]
    backend = choose_backend(manifest.factory, options)
    devices = options.device.split(",")
    if backend == "milvus":
        return {}
    if not devices[0].startswith("cuda"):
        return {"cpu": size_bytes * 2 if backend == "torch" else size_bytes}
    if backend == "faiss":
        return {"cpu": size_bytes, devices[0]: size_bytes}
    halves = manifest.count * manifest.dimension * HALF_BYTES
    return {"cpu": size_bytes} | dict.fromkeys(devices, halves // len(devices))


def free_bytes(device: str) -> int:
    """Tell how much this process may still take, caches that would make room included."""
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(torch.device(device))[0])
    return min(_machine_bytes(), *_cgroup_bytes(CGROUPS, Path("/proc/self/cgroup")))


def _machine_bytes() -> int:
    for line in MEMORY.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise MemoryShortError(f"{MEMORY} does not tell what is available")


def _cgroup_bytes(root: Path, membership: Path) -> Iterator[int]:
    """Yield what each cgroup above this process leaves; a container's is its limit."""
    yield 2**63
    lines = [line.split(":", 2) for line in _read(membership).splitlines()]
    paths = {kinds: path.lstrip("/") for _, kinds, path in lines}
    yield from _left(root, paths.get("", ""), "memory.max", "memory.current")
    of_version_1 = "memory.limit_in_bytes", "memory.usage_in_bytes"
    yield from _left(root / "memory", paths.get("memory", ""), *of_version_1)


def _left(root: Path, path: str, limit_file: str, used_file: str) -> Iterator[int]:
    directory = root / path
    for folder in (directory, *directory.parents):
        if not folder.is_relative_to(root):
            return
        limit, used = _read(folder / limit_file), _read(folder / used_file)
        if limit.isdigit() and used.isdigit():
            yield int(limit) - int(used) + _file_cache_bytes(folder)


def _file_cache_bytes(folder: Path) -> int:
    """Tell what of a cgroup's use is cached files that nobody used lately."""
    lines = dict(line.split() for line in _read(folder / "memory.stat").splitlines())
    return int(lines.get("total_inactive_file", lines.get("inactive_file", 0)))


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.2f} GiB"
