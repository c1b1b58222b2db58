"""The collection of one generation in Milvus: made, loaded, counted, under the alias."""

import time
from dataclasses import dataclass
from typing import Any

from service.retrieval.corpus.fields import Fields
from service.retrieval.errors import GenerationError
from service.retrieval.index.milvus.connection import Client, ask, connect
from service.retrieval.index.milvus.filter import ROW, columns
from service.retrieval.index.options import MilvusOptions

# Seconds-old data is enough: a collection is complete before it is searched. Strong takes 50 times
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
    """A collection by its name, whether it is there or not; errors are those of `ask`."""

    client: Client
    name: str
    options: MilvusOptions

    def ask(self, call: str, *arguments: Any, **named: Any) -> Any:
        """Call a method of the client that takes a collection first."""
        return ask(self.options, getattr(self.client, call), self.name, *arguments, **named)

    @property
    def is_there(self) -> bool:
        """Tell whether Milvus has it."""
        return bool(self.ask("has_collection"))

    def is_complete(self, count: int) -> bool:
        """Tell whether it is there and holds so many vectors; loads it."""
        if not self.is_there:
            return False
        try:
            self.load(count)
        except GenerationError:
            return False
        return True

    def create(self, embedding_dim: int, fields: Fields) -> None:
        """Make it, empty.

        Raises:
            GenerationError: Milvus makes an index of another type than it was asked for.
        """
        self.ask(
            "create_collection",
            schema=self._schema(embedding_dim, fields),
            index_params=self._index_parameters(),
            consistency_level=CONSISTENCY,
        )
        made = self.ask("describe_index", "vector")
        asked = self.options.index_type
        if made.get("index_type") != asked or made.get("metric_type") != "IP":
            raise GenerationError(
                f"Milvus made an index of {made.get('index_type')} and {made.get('metric_type')}, "
                f"not of {asked} and IP: set CLEAR_MILVUS_INDEX_TYPE to one that it has"
            )

    def load(self, count: int) -> None:
        """Load it into the servers' memory, and see that it is: a wrong index type may fail here.

        Raises:
            GenerationError: it cannot be loaded, or holds another number of vectors.
        """
        self.ask("load_collection", timeout=self.options.load_seconds)
        state = self.ask("get_load_state")["state"]
        if getattr(state, "name", str(state)) != "Loaded":
            raise GenerationError(f"Milvus has not loaded {self.name}: {state}")
        self._wait_until_indexed()
        self._check_count(count)

    def take_alias(self) -> None:
        """Set the alias on it."""
        from pymilvus.exceptions import MilvusException

        alias, timeout = self.options.prefix, self.options.timeout_seconds
        try:
            self.client.alter_alias(self.name, alias, timeout=timeout)
        except MilvusException:  # there is none yet
            self.ask("create_alias", alias)

    def _schema(self, embedding_dim: int, fields: Fields) -> Any:
        from pymilvus import DataType

        schema = self.client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field(ROW, DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=embedding_dim)
        for column, facts in columns(fields):
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
        """Wait for the index of what was sent; until then Milvus looks at every vector."""
        deadline = time.monotonic() + self.options.load_seconds
        while True:
            index = self.ask("describe_index", "vector")
            if not int(index.get("pending_index_rows", 0)):
                return
            if index.get("state") == "Failed" or time.monotonic() > deadline:
                raise GenerationError(
                    f"Milvus fails to index {self.name} as {self.options.index_type} "
                    f"({index['pending_index_rows']} vectors are missing): set "
                    "CLEAR_MILVUS_INDEX_TYPE to a type that this Milvus has"
                )
            time.sleep(POLL_SECONDS)

    def _check_count(self, count: int) -> None:
        found = self.ask("query", output_fields=["count(*)"], consistency_level="Strong")[0]
        if found["count(*)"] != count:
            raise GenerationError(
                f"Milvus holds {found['count(*)']} vectors in {self.name}, the generation has "
                f"{count}: run `clear-service index push` again"
            )


def collection_of(name: str, options: MilvusOptions | None) -> Collection:
    """Connect to Milvus for the collection of a generation.

    Args:
        name: the generation's.
        options: which Milvus.

    Raises:
        DeviceError: as `connect` raises it.
    """
    client = connect(options)
    assert options is not None
    return Collection(client, f"{options.prefix}_{name}", options)
