"""The connection to Milvus; its errors become ours, without the text of a query."""

import logging
import os
from collections.abc import Callable
from typing import Any

from service.retrieval.errors import DeviceError, GenerationError
from service.retrieval.index.options import MilvusOptions

Client = Any

# Milvus Lite closes a connection that pings more often than every five minutes, which pymilvus
# does (every ten seconds); the next call then fails. It runs in this process and needs no pings.
LITE_GRPC_OPTIONS = {"grpc.keepalive_time_ms": 2**31 - 1}


def connect(options: MilvusOptions | None) -> Client:
    """Connect to Milvus; the client reconnects by itself.

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
    return call_milvus(
        options,
        client_class,
        options.uri,
        token=options.token,
        db_name=options.database,
        **tls,
        **({"grpc_options": LITE_GRPC_OPTIONS} if options.uri.endswith(".db") else {}),
    )


def call_milvus(
    options: MilvusOptions, function: Callable[..., Any], *arguments: Any, **named: Any
) -> Any:
    """Call a function of pymilvus and convert its errors.

    Raises:
        GenerationError: Milvus refuses or fails. Its message is left out for a search, because it
            may repeat the filter.
        DeviceError: Milvus cannot be reached.
    """
    from pymilvus.exceptions import MilvusException

    try:
        return function(*arguments, **{"timeout": options.timeout_seconds, **named})
    except MilvusException as error:
        action = getattr(function, "__name__", "connect")
        if action == "MilvusClient":
            raise DeviceError(
                "Milvus cannot be reached at CLEAR_MILVUS_URI, or refuses CLEAR_MILVUS_TOKEN "
                f"(code {error.code}): check that it runs, and check address, TLS and token"
            ) from None
        reason = " ".join(str(error.message).split())[:200] if action != "search" else ""
        raise GenerationError(f"Milvus failed to {action} (code {error.code}) {reason}") from None


def _client_class() -> Any:
    """Import pymilvus, without the `.env` file that it would read from a parent folder."""
    before = os.environ.get("PYTHON_DOTENV_DISABLED")
    os.environ["PYTHON_DOTENV_DISABLED"] = "1"
    try:
        from pymilvus import MilvusClient
    finally:
        if before is None:
            del os.environ["PYTHON_DOTENV_DISABLED"]
        else:
            os.environ["PYTHON_DOTENV_DISABLED"] = before
    # pymilvus logs the arguments of failed calls, among them a user's filter.
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
    return MilvusClient
