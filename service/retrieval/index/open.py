"""Choice of the backend for a file of vectors, by the index's factory string and the settings."""

from pathlib import Path

from service.retrieval.corpus.fields import Fields
from service.retrieval.errors import GenerationError
from service.retrieval.index.backend import VectorIndex
from service.retrieval.index.faiss.index import open_faiss_index
from service.retrieval.index.options import Backend, IndexOptions
from service.retrieval.index.torch_flat import open_torch_flat


def choose_backend(factory: str, options: IndexOptions) -> Backend:
    """Return the backend that searches an index.

    Raises:
        GenerationError: the backend that the settings name cannot search such an index, or a
            search setting does not apply to it.
    """
    is_flat = factory == "Flat"
    backend = options.backend
    if backend == "auto":
        # As exact as FAISS and faster for a batch of queries; on a GPU embeddings stay there.
        backend = "torch" if is_flat else "faiss"
    if backend in ("torch", "milvus") and not is_flat:
        raise GenerationError(
            f"CLEAR_INDEX_BACKEND={backend} needs uncompressed vectors, and the index was built "
            f"as {factory!r}: build it with --factory Flat, or leave CLEAR_INDEX_BACKEND out"
        )
    if backend != "faiss" and (options.nprobe or options.ef_search):
        name = "CLEAR_NPROBE" if options.nprobe else "CLEAR_EF_SEARCH"
        raise GenerationError(
            f"{name} is set and the index is searched by {backend}, which scores every vector "
            f"or has search settings of its own: leave {name} out"
        )
    return backend


def open_vectors(
    path: Path,
    options: IndexOptions,
    *,
    factory: str,
    count: int,
    embedding_dim: int,
    fields: Fields,
) -> VectorIndex:
    """Open the vectors of a verified generation.

    Args:
        path: the file of vectors, in the generation's folder.
        options: backend, device and search settings.
        factory: FAISS's description of the index.
        count: number of vectors.
        embedding_dim: length of a vector.
        fields: metadata that searches filter by.

    Raises:
        GenerationError: the backend does not suit the index, or refuses it.
        DeviceError: a device cannot be used.
    """
    match choose_backend(factory, options):
        case "torch":
            return open_torch_flat(path, options.device, is_mapped=options.is_mapped)
        case "milvus":
            from service.retrieval.index.milvus.index import open_milvus  # an extra of its own

            return open_milvus(path.parent.name, options.milvus, count, embedding_dim, fields)
        case _:
            device = options.device.partition(",")[0]
            index = open_faiss_index(path, device, options.nprobe, options.ef_search)
            if fields:
                index.check_selection_support()
            return index
