"""The Milvus collection of one generation: create, load, count, set the alias."""

import time
from dataclasses import dataclass
from typing import Any

from service.retrieval.corpus.fields import Fields
from service.retrieval.errors import GenerationError
from service.retrieval.index.milvus.connection import Client, call_milvus, connect
from service.retrieval.index.milvus.filter import ROW, field_columns
from service.retrieval.index.options import MilvusOptions

# A collection is complete before it is searched, so data may be seconds old; Strong takes 50 times
# as long.
CONSISTENCY = "Bounded"
POLL_SECONDS = 0.2
BUILD_PARAMETERS: dict[str, dict[str, int]] = {
    "HNSW": {"M": 32, "efConstruction": 200},
    "IVF_FLAT": {"nlist": 4096},
    "IVF_SQ8": {"nlist": 4096},
    "GPU_IVF_FLAT": {"nlist": 4096},
    "GPU_CAGRA": {"intermediate_graph_degree": 64, "graph_degree": 32},
}


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection by its name, which may not exist yet; errors as `call_milvus` raises them."""

    client: Client
    name: str
    options: MilvusOptions

    def call(self, method: str, *arguments: Any, **named: Any) -> Any:
        """Call a method of the client whose first argument is a collection."""
        return call_milvus(
            self.options, getattr(self.client, method), self.name, *arguments, **named
        )

    @property
    def exists(self) -> bool:
        """Return whether Milvus has the collection."""
        return bool(self.call("has_collection"))

    def is_complete(self, count: int) -> bool:
        """Load the collection; return whether it exists and holds `count` vectors."""
        if not self.exists:
            return False
        try:
            self.load(count)
        except GenerationError:
            return False
        return True

    def create(self, embedding_dim: int, fields: Fields) -> None:
        """Create the collection, empty.

        Raises:
            GenerationError: Milvus creates an index of another type than the settings name.
        """
        self.call(
            "create_collection",
            schema=self._schema(embedding_dim, fields),
            index_params=self._index_parameters(),
            consistency_level=CONSISTENCY,
        )
        created = self.call("describe_index", "vector")
        wanted = self.options.index_type
        if created.get("index_type") != wanted or created.get("metric_type") != "IP":
            raise GenerationError(
                f"Milvus created an index of type {created.get('index_type')} and metric "
                f"{created.get('metric_type')}, not of {wanted} and IP: set "
                "CLEAR_MILVUS_INDEX_TYPE to a type that this Milvus has"
            )

    def load(self, count: int) -> None:
        """Load the collection into the servers' memory, and check that this succeeded.

        Some Milvus versions refuse an unknown index type only here.

        Raises:
            GenerationError: it cannot be loaded, or holds another number of vectors.
        """
        self.call("load_collection", timeout=self.options.load_seconds)
        state = self.call("get_load_state")["state"]
        if getattr(state, "name", str(state)) != "Loaded":
            raise GenerationError(
                f"Milvus has not loaded {self.name} ({state}): give its query nodes more "
                "memory, or choose a smaller CLEAR_MILVUS_INDEX_TYPE, such as IVF_SQ8"
            )
        self._wait_until_indexed()
        self._check_count(count)

    def set_alias(self) -> None:
        """Point the alias at the collection."""
        from pymilvus.exceptions import MilvusException

        alias, timeout = self.options.prefix, self.options.timeout_seconds
        try:
            self.client.alter_alias(self.name, alias, timeout=timeout)
        except MilvusException:  # no such alias yet
            self.call("create_alias", alias)

    def _schema(self, embedding_dim: int, fields: Fields) -> Any:
        from pymilvus import DataType

        schema = self.client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field(ROW, DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=embedding_dim)
        for column, facts in field_columns(fields):
            kinds = {key: getattr(DataType, value) for key, value in facts.items() if "type" in key}
            schema.add_field(column, **{**facts, **kinds})
        return schema

    def _index_parameters(self) -> Any:
        indexes = self.client.prepare_index_params()
        indexes.add_index(
            "vector",
            index_type=self.options.index_type,
            metric_type="IP",
            params=BUILD_PARAMETERS.get(self.options.index_type, {}),
        )
        return indexes

    def _wait_until_indexed(self) -> None:
        """Wait until all vectors are indexed; until then Milvus scores every vector."""
        deadline = time.monotonic() + self.options.load_seconds
        while True:
            index = self.call("describe_index", "vector")
            if not int(index.get("pending_index_rows", 0)):
                return
            if index.get("state") == "Failed" or time.monotonic() > deadline:
                raise GenerationError(
                    f"Milvus failed to index {self.name} as {self.options.index_type} "
                    f"({index['pending_index_rows']} vectors are not indexed): set "
                    "CLEAR_MILVUS_INDEX_TYPE to a type that this Milvus has"
                )
            time.sleep(POLL_SECONDS)

    def _check_count(self, count: int) -> None:
        found = self.call("query", output_fields=["count(*)"], consistency_level="Strong")[0]
        if found["count(*)"] != count:
            raise GenerationError(
                f"Milvus holds {found['count(*)']} vectors in {self.name}, the generation has "
                f"{count}: run `clear-service index push` again"
            )


def open_collection(name: str, options: MilvusOptions | None) -> Collection:
    """Connect to Milvus and return the collection of a generation, which may not exist yet.

    Args:
        name: the generation's.
        options: the Milvus server.

    Raises:
        DeviceError: pymilvus is not installed, no server is named, or it cannot be reached.
    """
    client = connect(options)
    assert options is not None
    return Collection(client, f"{options.prefix}_{name}", options)
