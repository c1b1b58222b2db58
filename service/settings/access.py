"""Settings of access: address, keys, and who may use which route."""

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field, SecretStr

# It is written into the pages of the API, so that it must hold nothing that HTML or a URL reserves.
ROOT_PATH = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+")

# A web page's, or an app's whose pages have a scheme of their own (`app://obsidian.md`).
ORIGIN = r"[a-z][a-z0-9+.-]*://[^\s,/*]+"


def _check_host(host: str) -> str:
    """Return the address without the brackets of a URL; refuse an empty one."""
    address = host.strip()
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    if not address:  # a socket would listen on every address
        raise ValueError("is empty: name an address, such as 127.0.0.1, or 0.0.0.0 for every one")
    return address


def _check_root_path(path: str) -> str:
    """Return the prefix without slashes at its end, and with one at its start."""
    path = path.strip("/")
    if path and not ROOT_PATH.fullmatch(f"/{path}"):
        raise ValueError("is not a path such as /clear, of letters, digits, '.', '_', '~' and '-'")
    return f"/{path}" if path else ""


def _check_proxies(proxies: str) -> str:
    """Return the addresses and networks without spaces."""
    found = [each.strip() for each in proxies.split(",") if each.strip()]
    for each in found:
        try:
            ip_network(each)
        except ValueError as error:
            raise ValueError(f"{error}: write addresses or networks, such as 10.0.0.0/8") from None
    return ",".join(found)


class AccessSettings(BaseModel):
    """The address, the keys, and the routes that are closed or need a key."""

    host: Annotated[
        str, Field(description="Address to listen on, IPv4 or IPv6"), AfterValidator(_check_host)
    ] = "127.0.0.1"
    port: Annotated[
        int, Field(ge=0, le=65535, description="Port to listen on; 0 picks a free one")
    ] = 8000
    api_key: Annotated[
        SecretStr | None,
        Field(
            min_length=16,
            description="Key with all scopes, sent as `Authorization: Bearer <key>`; no key: open",
        ),
    ] = None
    keys_file: Annotated[
        Path | None,
        Field(
            description="File of keys: one line for each, with digest, scopes and limits, from "
            "`clear-service key new`; read again when it changes"
        ),
    ] = None
    keys: Annotated[
        SecretStr | None, Field(description="The lines of a keys file, as a variable")
    ] = None
    require_keys: Annotated[bool, Field(description="Refuse to start without a key")] = False
    metrics: Annotated[
        Literal["open", "key", "closed"],
        Field(description="Who may read `/metrics`; `key`: keys with the scope `admin`"),
    ] = "open"
    docs: Annotated[
        Literal["open", "key", "closed"], Field(description="Who may read `/docs`; `key`: any key")
    ] = "open"
    operations_port: Annotated[
        int | None,
        Field(
            ge=1,
            le=65535,
            description="Second port, which alone serves `/metrics`, `/docs` and `/admin`",
        ),
    ] = None
    root_path: Annotated[
        str,
        Field(description="Prefix of the paths at a proxy in front, such as `/clear`"),
        AfterValidator(_check_root_path),
    ] = ""
    trusted_proxies: Annotated[
        str,
        Field(
            description="Addresses and networks of proxies, separated by commas, whose headers "
            "`X-Forwarded-Prefix`, `-Proto` and `-Host` are believed"
        ),
        AfterValidator(_check_proxies),
    ] = ""
    cors_origins: Annotated[
        str,
        Field(
            pattern=rf"^(\*|{ORIGIN}(,{ORIGIN})*|)$",
            description="Origins allowed by CORS, separated by commas; `*` allows any",
        ),
    ] = ""

    @property
    def is_local(self) -> bool:
        """Return whether only this machine can reach the service."""
        return self.host in ("localhost", "::1") or self.host.startswith("127.")

    @property
    def has_keys(self) -> bool:
        """Return whether the service requires a key."""
        return any((self.api_key, self.keys, self.keys_file))
