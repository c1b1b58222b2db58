"""The memory that opening a generation takes, compared with the memory that is free."""

from service.retrieval.errors import MemoryShortError
from service.retrieval.generation.manifest import VECTORS, GenerationManifest
from service.retrieval.hardware import free_bytes
from service.retrieval.index.open import choose_backend
from service.retrieval.index.options import IndexOptions

HALF_BYTES = 2


def check_room(name: str, manifest: GenerationManifest, options: IndexOptions) -> None:
    """Check that a generation fits in memory beside the live one.

    Args:
        name: the generation's.
        manifest: the generation's.
        options: the backend that will search its vectors, and the device.

    Raises:
        MemoryShortError: a device has too little free memory.
    """
    for device, num_bytes in needed_bytes(manifest, options).items():
        free = free_bytes(device)
        if num_bytes > free:
            raise MemoryShortError(
                f"the generation {name} needs {_gib(num_bytes)} on {device} beside the live one, "
                f"{_gib(free)} are free: give the instance more memory, or restart it, which "
                "loads the new generation alone"
            )


def needed_bytes(manifest: GenerationManifest, options: IndexOptions) -> dict[str, int]:
    """Return the peak number of bytes that opening a generation takes, by device.

    Passages are memory-mapped and do not count. For the torch backend FAISS reads the vectors
    before they are copied, so that they are in memory twice for a moment.
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
