"""Settings of what is searched and how: encoder, index, Milvus."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, SecretStr

from service.retrieval.defaults import BUNDLED, default_cache
from service.retrieval.index.options import Backend


class ArtifactSettings(BaseModel):
    """Which encoder and index are used, and how the index is searched."""

    encoder: Annotated[
        str, Field(description="`bundled`, `bundled-base`, a folder, or a Hub id (name@commit)")
    ] = BUNDLED
    index: Annotated[Path | None, Field(description="The index folder to search")] = None
    cache: Annotated[Path, Field(description="Folder for what is made once and kept")] = Field(
        default_factory=default_cache
    )
    factory: Annotated[
        str, Field(description="FAISS factory string of a new index, or CAGRA64")
    ] = "Flat"
    index_backend: Annotated[
        Backend,
        Field(description="What searches: `auto` is `torch` for a flat index, else `faiss`"),
    ] = "auto"
    index_device: Annotated[
        str | None,
        Field(
            description="Where it searches, by default beside the encoder; several GPUs with commas"
        ),
    ] = None


class MilvusSettings(BaseModel):
    """The Milvus server, for `CLEAR_INDEX_BACKEND=milvus`."""

    milvus_uri: Annotated[
        str | None,
        Field(description="Milvus, for `CLEAR_INDEX_BACKEND=milvus`: `https://host:19530`"),
    ] = None
    milvus_token: Annotated[
        SecretStr | None, Field(description="`user:password` or an API key; never shown")
    ] = None
    milvus_database: Annotated[str, Field(description="Database in Milvus")] = ""
    milvus_prefix: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$",
            description="Alias in Milvus, and how its collections' names begin; one an index",
        ),
    ] = "clear"
    milvus_index_type: Annotated[
        str, Field(pattern=r"^[A-Z][A-Z0-9_]*$", description="`FLAT` is exact; Milvus has others")
    ] = "HNSW"
    milvus_ca_file: Annotated[
        Path | None, Field(description="Certificate that Milvus' own is checked against (TLS)")
    ] = None
    milvus_client_certificate_file: Annotated[
        Path | None, Field(description="Our certificate, where Milvus asks for one (mutual TLS)")
    ] = None
    milvus_client_key_file: Annotated[
        Path | None, Field(description="The key of that certificate")
    ] = None
    milvus_timeout_seconds: Annotated[
        float, Field(gt=0, description="Patience with one call of Milvus")
    ] = 10.0


class ComputeSettings(BaseModel):
    """Accuracy against time: of an approximate index, and of the encoder."""

    nprobe: Annotated[
        int | None, Field(ge=1, description="Lists of an IVF index that a search looks at; 128")
    ] = None
    ef_search: Annotated[
        int | None,
        Field(ge=1, description="Candidates that a search of a graph (HNSW, CAGRA) keeps; 128"),
    ] = None
    device: Annotated[str, Field(description="`auto`, `cpu`, `cuda` or `cuda:N`")] = "auto"
    cpu_engine: Annotated[
        Literal["auto", "torch", "openvino"], Field(description="What computes on a CPU")
    ] = "auto"
    precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp16", "int8"],
        Field(description="Of the encoder's numbers, as far as engine and device have it"),
    ] = "auto"
    max_tokens: Annotated[
        int | None, Field(ge=8, description="Cut texts here; by default at the encoder's limit")
    ] = None
