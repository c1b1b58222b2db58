"""Settings of where the service listens and who may use it."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, SecretStr


class AccessSettings(BaseModel):
    """Address, keys, and routes that are closed or need a key."""

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

    @property
    def is_local(self) -> bool:
        """Tell whether only this machine can reach the service."""
        return self.host in ("localhost", "::1") or self.host.startswith("127.")

    @property
    def has_keys(self) -> bool:
        """Tell whether the service asks for a key."""
        return any((self.api_key, self.keys, self.keys_file))
