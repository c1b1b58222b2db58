"""All settings of the service: `CLEAR_*` variables, frozen, refused at start where they clash."""

import difflib
import os
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.errors import SettingsError
from service.retrieval.defaults import BUNDLED, default_cache
from service.retrieval.index.options import Backend

PREFIX = "CLEAR_"
TRAINER_PREFIX = "CLEAR_TRAINER_"
# Flags of single commands that have a variable, too.
COMMAND_VARIABLES = {
    *("CLEAR_JSON", "CLEAR_SKIP_INVALID", "CLEAR_TOP_K", "CLEAR_BUILD_ONLY"),
    *("CLEAR_WORKERS", "CLEAR_RAY", "CLEAR_FIELD", "CLEAR_FILTER", "CLEAR_URL"),
}


class Settings(BaseSettings):
    """One field a variable; the unit is in the name."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="forbid"
    )

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
    host: Annotated[str, Field(description="Address to listen on")] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535, description="Port to listen on; 0 finds one")] = 8000
    api_key: Annotated[
        SecretStr | None,
        Field(
            min_length=16,
            description="A key with all scopes, for `Authorization: Bearer <key>`; else open",
        ),
    ] = None
    keys_file: Annotated[
        Path | None,
        Field(
            description="Digests of more keys, with scopes and limits, a line a key; read again "
            "when it changes; `clear-service key new` makes lines"
        ),
    ] = None
    keys: Annotated[SecretStr | None, Field(description="The same lines in a variable")] = None
    require_keys: Annotated[bool, Field(description="Refuse to start without a key")] = False
    metrics: Annotated[
        Literal["open", "key", "closed"],
        Field(description="Who may read `/metrics`; `key`: one with the scope `admin`"),
    ] = "open"
    docs: Annotated[
        Literal["open", "key", "closed"], Field(description="Who may read `/docs`; `key`: any key")
    ] = "open"
    operations_port: Annotated[
        int | None,
        Field(
            ge=1,
            le=65535,
            description="A second port that alone answers `/metrics`, `/docs` and `/admin`",
        ),
    ] = None
    cors_origins: Annotated[
        str,
        Field(
            pattern=r"^(\*|https?://[^\s,/*]+(,https?://[^\s,/*]+)*|)$",
            description="Origins whose pages may ask, with commas; `*` is any",
        ),
    ] = ""
    max_body_bytes: Annotated[
        int, Field(ge=1024, description="A larger request body is refused with 413")
    ] = 2_097_152
    max_head_bytes: Annotated[
        int, Field(ge=1024, description="Longer request lines with headers are refused with 431")
    ] = 32_768
    max_connections: Annotated[
        int, Field(ge=1, description="Connections at a time; more are refused with 503")
    ] = 1000
    read_seconds: Annotated[
        float, Field(gt=0, description="Time for a client to send a request; then 408")
    ] = 30.0
    write_seconds: Annotated[
        float, Field(gt=0, description="Time for a client to take an answer; then it is cut off")
    ] = 60.0
    keep_alive_seconds: Annotated[
        float,
        Field(gt=0, description="Idle connections are kept; longer than a proxy in front does"),
    ] = 75.0
    gzip_min_bytes: Annotated[
        int, Field(ge=0, description="Larger answers are compressed if asked; 0 never")
    ] = 16_384
    max_batch_tokens: Annotated[
        int | None,
        Field(ge=16, description="Padded tokens of a batch at the most; 1536, on a GPU 16384"),
    ] = None
    max_bulk_batch_tokens: Annotated[
        int | None,
        Field(
            ge=16,
            description="The same for `/encode`, for which a query may wait; 512, on a GPU 4096",
        ),
    ] = None
    bulk_share: Annotated[
        float, Field(gt=0, lt=1, description="Share of `/encode` in the device while both wait")
    ] = 0.25
    query_cache_entries: Annotated[
        int, Field(ge=0, description="Embeddings of queries kept; 0 switches the cache off")
    ] = 10_000
    watch_seconds: Annotated[
        float,
        Field(
            ge=0, description="How often to look whether CURRENT names another generation; 0 never"
        ),
    ] = 5.0
    admin: Annotated[
        Literal["auto", "open", "closed"],
        Field(
            description="Whether `/admin` answers (to keys of scope `admin`); `auto`: with keys, "
            "or on a loopback address"
        ),
    ] = "auto"
    stuck_seconds: Annotated[
        float, Field(gt=0, description="A batch that runs for longer fails `/livez`")
    ] = 60.0
    max_waiting_tokens: Annotated[
        int, Field(ge=16, description="Tokens that may wait; more are refused with 429")
    ] = 65_536
    timeout_ms: Annotated[int, Field(ge=1, description="Deadline of a request that names none")] = (
        10_000
    )
    max_timeout_ms: Annotated[
        int, Field(ge=1, description="Longest deadline that a request may ask for")
    ] = 60_000
    drain_seconds: Annotated[
        float, Field(ge=0, description="After SIGTERM: time not ready, but still answering")
    ] = 0.0
    shutdown_seconds: Annotated[
        float, Field(ge=0, description="Then: time for requests in flight to finish")
    ] = 30.0
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Field(description="Least level logged")
    ] = "info"
    log_format: Annotated[
        Literal["text", "json"], Field(description="Lines for people, or a JSON object a line")
    ] = "text"
    access_log_level: Annotated[
        Literal["debug", "info", "off"],
        Field(description="Level at which each request is logged, never what it asks"),
    ] = "debug"
    traces_endpoint: Annotated[
        str | None,
        Field(
            pattern="^https?://",
            description="Send spans there by OTLP, such as `http://collector:4318/v1/traces`",
        ),
    ] = None

    @property
    def is_local(self) -> bool:
        """Tell whether only this machine can reach the service."""
        return self.host in ("localhost", "::1") or self.host.startswith("127.")

    @property
    def has_keys(self) -> bool:
        """Tell whether the service asks for a key."""
        return any((self.api_key, self.keys, self.keys_file))

    @property
    def is_admin_open(self) -> bool:
        """Tell whether `/admin` answers whoever may ask at all: with keys, their scope decides."""
        is_guarded = self.is_local or self.has_keys
        return self.admin == "open" or (self.admin == "auto" and is_guarded)

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> Self:
        for smaller, larger in (
            ("timeout_ms", "max_timeout_ms"),
            ("max_bulk_batch_tokens", "max_batch_tokens"),
            ("max_batch_tokens", "max_waiting_tokens"),
        ):
            values = getattr(self, smaller), getattr(self, larger)
            if None not in values and values[0] > values[1]:
                raise ValueError(
                    f"{variable(smaller)}={values[0]} is above {variable(larger)}={values[1]}: "
                    "lower one or raise the other"
                )
        if self.index_backend == "milvus" and not self.milvus_uri:
            raise ValueError("CLEAR_INDEX_BACKEND=milvus needs CLEAR_MILVUS_URI: name the server")
        if bool(self.milvus_client_certificate_file) != bool(self.milvus_client_key_file):
            raise ValueError(
                "CLEAR_MILVUS_CLIENT_CERTIFICATE_FILE and CLEAR_MILVUS_CLIENT_KEY_FILE "
                "go together: set both or neither"
            )
        for name, value in (
            ("require_keys", self.require_keys),
            ("metrics", self.metrics == "key"),
            ("docs", self.docs == "key"),
        ):
            if value and not self.has_keys:
                raise ValueError(
                    f"{variable(name)}={str(getattr(self, name)).lower()} and there is no key: set "
                    "CLEAR_KEYS_FILE (clear-service key new makes its lines) or CLEAR_API_KEY"
                )
        if self.operations_port is not None and self.operations_port == self.port:
            raise ValueError(
                f"CLEAR_OPERATIONS_PORT and CLEAR_PORT are both {self.port}: choose another"
            )
        is_plain = self.milvus_uri is not None and not self.milvus_uri.startswith("https://")
        if is_plain and (self.milvus_ca_file or self.milvus_client_key_file):
            raise ValueError(
                "CLEAR_MILVUS_URI is without TLS and CLEAR_MILVUS_CA_FILE or "
                "CLEAR_MILVUS_CLIENT_KEY_FILE is set: write https://..., or leave them out"
            )
        return self


def variable(field: str) -> str:
    """Name a field's environment variable."""
    return PREFIX + field.upper()


def load_settings(**overrides: object) -> Settings:
    """Read the environment; what the command line gives comes first.

    Args:
        overrides: fields by name; None leaves the variable or the default.

    Raises:
        SettingsError: a variable is unknown, has a wrong value, or contradicts another.
    """
    known = {variable(name) for name in Settings.model_fields} | COMMAND_VARIABLES
    for name in sorted(map(str.upper, os.environ)):
        if name.startswith(PREFIX) and not name.startswith(TRAINER_PREFIX) and name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            mend = f"did you mean {close[0]}?" if close else f"known: {', '.join(sorted(known))}"
            raise SettingsError(f"the setting {name} is unknown: {mend}")
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings.model_validate(Settings(**given))  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        reason = first["msg"].removeprefix("Value error, ")
        where = f"{variable(str(first['loc'][0]))}: " if first["loc"] else ""
        raise SettingsError(f"{where}{reason}") from None
