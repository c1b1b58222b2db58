"""From a generation's files and the settings to the one backend that searches them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from service.retrieval.errors import GenerationError
from service.retrieval.index.backend import VectorIndex
from service.retrieval.index.faiss.index import open_faiss_index
from service.retrieval.index.options import Backend, IndexOptions
from service.retrieval.index.torch_flat import open_torch_flat


def chosen_backend(factory: str, options: IndexOptions) -> Backend:
    """Choose the backend of an index.

    Raises:
        GenerationError: a setting asks for one that does not search such an index, or that has
            no such setting.
    """
    is_flat = factory == "Flat"
    backend = options.backend
    if backend == "auto":
        # As exact as FAISS and quicker for a batch of queries; on a GPU embeddings stay there.
        backend = "torch" if is_flat else "faiss"
    if backend in ("torch", "milvus") and not is_flat:
        raise GenerationError(
            f"CLEAR_INDEX_BACKEND={backend} needs the vectors as they are, and the index was built "
            f"as {factory!r}: build it with --factory Flat, or leave CLEAR_INDEX_BACKEND out"
        )
    if backend != "faiss" and (options.nprobe or options.ef_search):
        name = "CLEAR_NPROBE" if options.nprobe else "CLEAR_EF_SEARCH"
        raise GenerationError(
            f"{name} is set and the index is searched by {backend}, which looks at every vector "
            f"or has settings of its own: leave {name} out"
        )
    return backend


def open_vectors(path: Path, manifest: Mapping[str, Any], options: IndexOptions) -> VectorIndex:
    """Open the vectors of a verified generation.

    Args:
        path: its file of vectors.
        manifest: its manifest.
        options: what the settings ask for.

    Raises:
        GenerationError: the backend does not suit the index, or refuses it.
        DeviceError: a device cannot be used.
    """
    match chosen_backend(str(manifest["factory"]), options):
        case "torch":
            return open_torch_flat(path, options.device)
        case "milvus":
            from service.retrieval.index.milvus.index import open_milvus  # an extra of its own

            return open_milvus(path.parent.name, manifest, options.milvus)
        case _:
            device = options.device.partition(",")[0]
            index = open_faiss_index(path, device, options.nprobe, options.ef_search)
            if manifest.get("fields"):
                index.check_selects()
            return index
