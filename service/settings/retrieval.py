"""Settings of retrieval: encoder, index and Milvus."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, SecretStr

from service.retrieval.checkpoint.prompts.prompts import parse_prompt
from service.retrieval.defaults import BUNDLED, default_cache
from service.retrieval.index.options import Backend
from service.retrieval.remote.address import copy_folder, parse_place


def _parse_prompt(value: str | None) -> str | None:
    return None if value is None else parse_prompt(value)


class ArtifactSettings(BaseModel):
    """The encoder and the index, and the backend that searches it."""

    encoder: Annotated[
        str,
        Field(
            description="Encoder: `bundled`, `bundled-base`, a folder, or a Hub id (name@commit)"
        ),
    ] = BUNDLED
    query_prompt: Annotated[
        str | None,
        Field(
            description="Text before each query, by default the encoder's own; as it is, or as a "
            'JSON string: `"Query:\\n"`, and `""` for none'
        ),
        AfterValidator(_parse_prompt),
    ] = None
    passage_prompt: Annotated[
        str | None,
        Field(description="Text before each passage, likewise; the index must be built with it"),
        AfterValidator(_parse_prompt),
    ] = None
    index: Annotated[
        Path | str | None,
        Field(
            description="Index to search: a folder, or a URL that `index upload` wrote to, such as "
            "`s3://bucket/prefix`"
        ),
        BeforeValidator(parse_place),
    ] = None
    index_cache: Annotated[
        Path | None,
        Field(
            description="Folder of the local copy of an index at a URL; by default `indexes` in "
            "CLEAR_CACHE"
        ),
    ] = None
    cache: Annotated[
        Path, Field(description="Cache folder: converted encoders and the demo's index")
    ] = Field(default_factory=default_cache)
    factory: Annotated[
        str, Field(description="FAISS factory string of a new index, or `CAGRA64`")
    ] = "Flat"
    index_backend: Annotated[
        Backend,
        Field(description="Index backend; `auto` is `torch` for a flat index, else `faiss`"),
    ] = "auto"
    index_device: Annotated[
        str | None,
        Field(
            description="Device of the index, by default the encoder's; "
            "several GPUs separated by commas"
        ),
    ] = None

    @property
    def index_folder(self) -> Path | None:
        """Return the folder that the index is opened from: of a URL, that of its local copy."""
        if isinstance(self.index, str):
            return copy_folder(self.index, self.index_cache or self.cache / "indexes")
        return self.index


class MilvusSettings(BaseModel):
    """The Milvus server, for `CLEAR_INDEX_BACKEND=milvus`."""

    milvus_uri: Annotated[
        str | None,
        Field(description="Milvus, for `CLEAR_INDEX_BACKEND=milvus`; such as `https://host:19530`"),
    ] = None
    milvus_token: Annotated[
        SecretStr | None, Field(description="`user:password` or API key for Milvus; never shown")
    ] = None
    milvus_database: Annotated[str, Field(description="Milvus database")] = ""
    milvus_prefix: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$",
            description="Milvus alias, and prefix of the collection names; unique to an index",
        ),
    ] = "clear"
    milvus_index_type: Annotated[
        str, Field(pattern=r"^[A-Z][A-Z0-9_]*$", description="Milvus index type; `FLAT` is exact")
    ] = "HNSW"
    milvus_ca_file: Annotated[
        Path | None, Field(description="CA certificate that verifies Milvus (TLS)")
    ] = None
    milvus_client_certificate_file: Annotated[
        Path | None, Field(description="Client certificate for Milvus (mutual TLS)")
    ] = None
    milvus_client_key_file: Annotated[
        Path | None, Field(description="Private key of the client certificate")
    ] = None
    milvus_timeout_seconds: Annotated[
        float, Field(gt=0, description="Timeout of one call to Milvus")
    ] = 10.0


class ComputeSettings(BaseModel):
    """Speed and accuracy: of an approximate index, and of the encoder."""

    nprobe: Annotated[
        int | None,
        Field(ge=1, description="Lists of an IVF index that a search visits; by default 128"),
    ] = None
    ef_search: Annotated[
        int | None,
        Field(
            ge=1,
            description="Candidates of a search in a graph index (HNSW, CAGRA); by default 128",
        ),
    ] = None
    device: Annotated[
        str, Field(description="Device of the encoder: `auto`, `cpu`, `cuda` or `cuda:N`")
    ] = "auto"
    cpu_engine: Annotated[
        Literal["auto", "torch", "openvino"], Field(description="Inference engine on a CPU")
    ] = "auto"
    precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp16", "int8"],
        Field(description="Numeric precision of the encoder; engine and device must support it"),
    ] = "auto"
    pooling: Annotated[
        Literal["mean", "cls", "lasttoken"] | None,
        Field(
            description="Pooling of an encoder's folder without `modules.json`, as transformers "
            "saves it; by its author's word"
        ),
    ] = None
    max_tokens: Annotated[
        int | None,
        Field(ge=8, description="Truncate texts at this length; by default at the encoder's limit"),
    ] = None
