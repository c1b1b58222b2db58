"""Settings of an index backend; imports no backend, so that settings and commands load fast."""

from dataclasses import dataclass, field
from typing import Literal

Backend = Literal["auto", "faiss", "torch", "milvus"]


@dataclass(frozen=True, slots=True)
class MilvusOptions:
    """A Milvus server, and the index that it creates; the token is never shown.

    `prefix` is the alias, and begins the names of collections. `timeout_seconds` limits one call,
    `load_seconds` loading and indexing a whole collection.
    """

    uri: str
    token: str = field(default="", repr=False)
    database: str = ""
    index_type: str = "HNSW"
    prefix: str = "clear"
    ca_file: str = ""
    client_certificate_file: str = ""
    client_key_file: str = ""
    timeout_seconds: float = 10.0
    load_seconds: float = 3600.0


@dataclass(frozen=True, slots=True)
class IndexOptions:
    """The backend of an index, its device and its search settings.

    `auto` searches a flat index by torch, any other by FAISS. `device` may name several GPUs,
    separated by commas: a flat index is split among them. `nprobe` (IVF) and `ef_search` (graphs)
    are FAISS's search settings; None means the default. `is_mapped` leaves the vectors of a flat
    index in their file, for a few searches by torch on the CPU.
    """

    device: str = "cpu"
    backend: Backend = "auto"
    nprobe: int | None = None
    ef_search: int | None = None
    milvus: MilvusOptions | None = None
    is_mapped: bool = False
