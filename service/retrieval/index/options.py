"""Which backend searches an index, and how: what the settings say of it."""

from dataclasses import dataclass, field
from typing import Literal

Backend = Literal["auto", "faiss", "torch", "milvus"]


@dataclass(frozen=True, slots=True)
class MilvusOptions:
    """How a Milvus server is reached and which index it makes; secrets are never shown."""

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
    """How an index is opened.

    `auto` searches a flat index by torch, any other by FAISS. `device` may name several GPUs,
    with commas: a flat index is split among them.
    """

    device: str = "cpu"
    backend: Backend = "auto"
    nprobe: int | None = None
    ef_search: int | None = None
    milvus: MilvusOptions | None = None
