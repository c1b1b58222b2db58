"""How much memory an index takes, and how much is left for it."""

from service.retrieval.errors import MemoryShortError
from service.retrieval.generation.manifest import VECTORS, GenerationManifest
from service.retrieval.hardware import free_bytes
from service.retrieval.index.open import choose_backend
from service.retrieval.index.options import IndexOptions

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


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.2f} GiB"
