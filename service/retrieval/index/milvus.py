"""The Milvus backend: one collection a generation, for an index that outgrows one machine.

A generation keeps its files; its vectors and fields are loaded into a collection of its own name,
counted and asked for again before the alias is set on it. A service searches the collection of the
generation that it opened, not the alias: passages and vectors never mix.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from service.retrieval.errors import DeviceError, GenerationError
from service.retrieval.fields import NO_FIELDS, Fields
from service.retrieval.index.backend import (
    EXTRA_CANDIDATES,
    Ranking,
    Selected,
    best_first,
    by_selection,
    empty_ranking,
)
from service.retrieval.index.faiss import flat_vectors
from service.retrieval.index.milvus_filter import ROW, columns, expression, row_values
from service.retrieval.index.options import MilvusOptions
from service.retrieval.passage_table import PassageTable
from service.retrieval.selection import Selection

BATCH_BYTES = 8 * 2**20  # of vectors in one insert; a server refuses more than 64 MB
NUM_CHECKED = 8
CHECKED_SCORE = 0.99
# Seconds-old data is enough: a collection is complete before it is searched. Strong takes 50 times
# as long.
CONSISTENCY = "Bounded"
MAX_CANDIDATES = 16_384
POLL_SECONDS = 0.2
BUILD_PARAMETERS: dict[str, dict[str, int]] = {
    "HNSW": {"M": 32, "efConstruction": 200},
    "IVF_FLAT": {"nlist": 4096},
    "IVF_SQ8": {"nlist": 4096},
    "GPU_IVF_FLAT": {"nlist": 4096},
    "GPU_CAGRA": {"intermediate_graph_degree": 64, "graph_degree": 32},
}
EXACT_TYPES = {"FLAT", "GPU_BRUTE_FORCE"}

Client = Any


class MilvusIndex:
    """One loaded collection behind the protocol `VectorIndex`.

    Filters run in Milvus. They are exact with the index types FLAT and GPU_BRUTE_FORCE; with
    another they are as good as it is, and a ranking that comes back short is asked for again with
    more candidates.
    """

    def __init__(
        self, client: Client, collection: str, count: int, dim: int, options: MilvusOptions,
        fields: Fields,
    ) -> None:  # fmt: skip
        """Take over a collection that is loaded and complete."""
        self._client = client
        self._collection = collection
        self._count = count
        self._embedding_dim = dim
        self._options = options
        self._fields = fields

    @property
    def count(self) -> int:
        """Count the vectors."""
        return self._count

    @property
    def embedding_dim(self) -> int:
        """Tell the length of a vector."""
        return self._embedding_dim

    def search(
        self, queries: NDArray[np.float32] | Tensor, top_k: int, selected: Selected = None
    ) -> list[Ranking]:
        """Find each query's nearest vectors; arguments as `VectorIndex.search` has them.

        Raises:
            GenerationError: Milvus cannot be asked, or finds fewer than there are.
        """
        rankings = [empty_ranking()] * len(queries)
        if isinstance(queries, Tensor):
            queries = queries.cpu().numpy()
        for selection, group in by_selection(selected, len(queries)):
            count = self._count if selection is None else selection.count
            if count:
                vectors = np.ascontiguousarray(queries[group], dtype=np.float32)
                for query, ranking in zip(
                    group, self._search_group(vectors, top_k, selection, count), strict=True
                ):
                    rankings[query] = ranking
        return rankings

    def _search_group(
        self, queries: NDArray[np.float32], top_k: int, selection: Selection | None, count: int
    ) -> list[Ranking]:
        limit = min(top_k + EXTRA_CANDIDATES, count)
        for breadth in (max(128, limit), MAX_CANDIDATES):
            found = self._ask(queries, limit, selection, breadth)
            if all(len(ranking.rows) >= min(top_k, count) for ranking in found):
                return [ranking.first(top_k) for ranking in found]
        raise GenerationError(
            f"Milvus finds fewer than {min(top_k, count)} of {count} vectors in "
            f"{self._collection}: use CLEAR_MILVUS_INDEX_TYPE=FLAT, or ask for less"
        )

    def _ask(
        self, queries: NDArray[np.float32], limit: int, selection: Selection | None, breadth: int
    ) -> list[Ranking]:
        found = _asked(
            self._options,
            self._client.search,
            self._collection,
            data=list(queries),
            limit=limit,
            filter=expression(selection.filter, self._fields) if selection else "",
            search_params={"metric_type": "IP", "params": _breadth(self._options, breadth)},
            consistency_level=CONSISTENCY,
        )
        return [
            best_first(
                np.array(hits.distances, np.float32),
                np.array(hits.ids, np.int64),
                limit,
            )
            for hits in found
        ]


def open_milvus(
    name: str, manifest: Mapping[str, Any], options: MilvusOptions | None
) -> MilvusIndex:
    """Open the collection of a generation, loading it into the servers' memory where it is not.

    Raises:
        GenerationError: there is no such collection, or it is not complete.
        DeviceError: Milvus cannot be reached.
    """
    client = connect(options)
    assert options is not None
    collection = collection_of(name, options)
    if not _asked(options, client.has_collection, collection):
        raise GenerationError(
            f"Milvus has no collection {collection}: run `clear-service index push` with the same "
            "settings, or leave CLEAR_INDEX_BACKEND out"
        )
    _load(client, collection, options)
    _check_count(client, collection, int(manifest["count"]), options)
    return MilvusIndex(
        client,
        collection,
        int(manifest["count"]),
        int(manifest["dimension"]),
        options,
        manifest.get("fields", NO_FIELDS),
    )


def push(
    vectors_file: Path,
    passages: PassageTable,
    name: str,
    options: MilvusOptions | None,
    on_rows: Callable[[int], None] = lambda num_rows: None,
) -> str:
    """Load a generation's vectors and fields into a collection, check it, set the alias on it.

    What a push that was stopped left is dropped and begun anew; a complete collection is kept.

    Args:
        vectors_file: a flat index file, verified.
        passages: row i belongs to vector i.
        name: the generation's.
        options: which Milvus, and the type of its index.
        on_rows: is told how many vectors were sent.

    Returns:
        The collection.

    Raises:
        GenerationError: Milvus refuses the collection, or holds other than what was sent.
        DeviceError: Milvus cannot be reached.
    """
    client = connect(options)
    assert options is not None
    collection = collection_of(name, options)
    with flat_vectors(vectors_file) as vectors:
        if not _is_complete(client, collection, len(vectors), options):
            _asked(options, client.drop_collection, collection)
            _create(client, collection, vectors.shape[1], passages.fields, options)
            for batch in _batches(vectors, passages):
                _asked(options, client.insert, collection, batch)
                on_rows(len(batch))
            _asked(options, client.flush, collection, timeout=options.load_seconds)
        _load(client, collection, options)
        _check_count(client, collection, len(vectors), options)
        index = MilvusIndex(
            client, collection, len(vectors), vectors.shape[1], options, passages.fields
        )
        _check_vectors(index, vectors)
    _point_alias(client, collection, options)
    return collection


def connect(options: MilvusOptions | None) -> Client:
    """Connect to Milvus; the client keeps the connection up.

    Raises:
        DeviceError: pymilvus is not installed, no server is named, or it cannot be reached.
    """
    if options is None:
        raise DeviceError("CLEAR_INDEX_BACKEND=milvus needs CLEAR_MILVUS_URI: name the server")
    try:
        client_class = _client_class()
    except ModuleNotFoundError:
        raise DeviceError(
            "CLEAR_INDEX_BACKEND=milvus needs pymilvus: pip install 'clear-search[milvus]'"
        ) from None
    tls = {"server_pem_path": options.ca_file} if options.ca_file else {}
    if options.client_certificate_file:
        tls |= {
            "client_pem_path": options.client_certificate_file,
            "client_key_path": options.client_key_file,
            "ca_pem_path": tls.pop("server_pem_path", ""),
        }
    return _asked(
        options,
        client_class,
        options.uri,
        token=options.token,
        db_name=options.database,
        **tls,
    )


def collection_of(name: str, options: MilvusOptions) -> str:
    """Name the collection of a generation."""
    return f"{options.prefix}_{name}"


def _client_class() -> Any:
    """Import pymilvus, which otherwise reads a `.env` file that it finds above itself."""
    before = os.environ.get("PYTHON_DOTENV_DISABLED")
    os.environ["PYTHON_DOTENV_DISABLED"] = "1"
    try:
        from pymilvus import MilvusClient
    finally:
        if before is None:
            del os.environ["PYTHON_DOTENV_DISABLED"]
        else:
            os.environ["PYTHON_DOTENV_DISABLED"] = before
    # It logs each failed call with what was asked, a user's filter among it.
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
    return MilvusClient


def _asked(options: MilvusOptions, call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Call Milvus; its errors are ours, without what was asked."""
    from pymilvus.exceptions import MilvusException

    try:
        return call(*arguments, **{"timeout": options.timeout_seconds, **named})
    except MilvusException as error:
        action = getattr(call, "__name__", "connect")
        if action == "MilvusClient":
            raise DeviceError(
                "Milvus cannot be reached at CLEAR_MILVUS_URI, or refuses CLEAR_MILVUS_TOKEN "
                f"(code {error.code}): see that it runs, and that address, TLS and token are right"
            ) from None
        reason = " ".join(str(error.message).split())[:200] if action != "search" else ""
        raise GenerationError(f"Milvus fails to {action} (code {error.code}) {reason}") from None


def _create(
    client: Client, collection: str, embedding_dim: int, fields: Fields, options: MilvusOptions
) -> None:
    from pymilvus import DataType

    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field(ROW, DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=embedding_dim)
    for column, facts in columns(fields):
        kinds = {key: getattr(DataType, value) for key, value in facts.items() if "type" in key}
        schema.add_field(column, **{**facts, **kinds})
    indexes = client.prepare_index_params()
    indexes.add_index(
        "vector",
        index_type=options.index_type,
        metric_type="IP",
        params=BUILD_PARAMETERS.get(options.index_type, {}),
    )
    _asked(
        options,
        client.create_collection,
        collection,
        schema=schema,
        index_params=indexes,
        consistency_level=CONSISTENCY,
    )
    made = _asked(options, client.describe_index, collection, "vector")
    if made.get("index_type") != options.index_type or made.get("metric_type") != "IP":
        raise GenerationError(
            f"Milvus made an index of {made.get('index_type')} and {made.get('metric_type')}, not "
            f"of {options.index_type} and IP: set CLEAR_MILVUS_INDEX_TYPE to one that it has"
        )


def _batches(
    vectors: NDArray[np.float32], passages: PassageTable
) -> Iterator[list[dict[str, Any]]]:
    size = max(1, BATCH_BYTES // vectors[:1].nbytes) if len(vectors) else 1
    for start in range(0, len(vectors), size):
        block = np.ascontiguousarray(vectors[start : start + size])
        values = row_values(passages, start, start + len(block))
        yield [
            {ROW: row, "vector": vector, **fields}
            for row, vector, fields in zip(
                range(start, start + len(block)), block, values, strict=True
            )
        ]


def _load(client: Client, collection: str, options: MilvusOptions) -> None:
    """Load a collection and see that it is: a wrong index type may fail here alone."""
    _asked(options, client.load_collection, collection, timeout=options.load_seconds)
    state = _asked(options, client.get_load_state, collection)["state"]
    if getattr(state, "name", str(state)) != "Loaded":
        raise GenerationError(f"Milvus has not loaded {collection}: {state}")
    _wait_until_indexed(client, collection, options)


def _wait_until_indexed(client: Client, collection: str, options: MilvusOptions) -> None:
    """Wait for the index of what was sent; until then Milvus looks at every vector."""
    deadline = time.monotonic() + options.load_seconds
    while True:
        index = _asked(options, client.describe_index, collection, "vector")
        if not int(index.get("pending_index_rows", 0)):
            return
        if index.get("state") == "Failed" or time.monotonic() > deadline:
            raise GenerationError(
                f"Milvus fails to index {collection} as {options.index_type} "
                f"({index['pending_index_rows']} vectors are missing): set "
                "CLEAR_MILVUS_INDEX_TYPE to a type that this Milvus has"
            )
        time.sleep(POLL_SECONDS)


def _is_complete(client: Client, collection: str, count: int, options: MilvusOptions) -> bool:
    if not _asked(options, client.has_collection, collection):
        return False
    try:
        _load(client, collection, options)
        _check_count(client, collection, count, options)
    except GenerationError:
        return False
    return True


def _check_count(client: Client, collection: str, count: int, options: MilvusOptions) -> None:
    found = _asked(
        options, client.query, collection, output_fields=["count(*)"], consistency_level="Strong"
    )[0]["count(*)"]
    if found != count:
        raise GenerationError(
            f"Milvus holds {found} vectors in {collection}, the generation has {count}: "
            "run `clear-service index push` again"
        )


def _check_vectors(index: MilvusIndex, vectors: NDArray[np.float32]) -> None:
    """Search for some of the vectors that were sent: Milvus keeps no hash of its data."""
    rows = np.unique(np.linspace(0, len(vectors) - 1, min(NUM_CHECKED, len(vectors))).astype(int))
    queries = np.ascontiguousarray(vectors[rows])
    for row, ranking in zip(rows, index.search(queries, 1), strict=True):
        if ranking.scores[0] < CHECKED_SCORE or vectors[ranking.rows[0]] @ vectors[row] < 0.99:
            raise GenerationError(
                f"Milvus does not find the vector of row {row} that was sent to it: run "
                "`clear-service index push` again"
            )


def _point_alias(client: Client, collection: str, options: MilvusOptions) -> None:
    from pymilvus.exceptions import MilvusException

    try:
        client.alter_alias(collection, options.prefix, timeout=options.timeout_seconds)
    except MilvusException:  # there is none yet
        _asked(options, client.create_alias, collection, options.prefix)


def _breadth(options: MilvusOptions, candidates: int) -> dict[str, int]:
    """Say how much a search looks at."""
    kind = options.index_type
    if "IVF" in kind or kind == "SCANN":
        return {"nprobe": min(candidates // 2, 4096)}
    if kind == "HNSW":
        return {"ef": candidates}
    return {}
