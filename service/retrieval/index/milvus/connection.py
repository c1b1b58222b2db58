"""The connection to Milvus: its errors are ours, without what was asked."""

import logging
import os
from collections.abc import Callable
from typing import Any

from service.retrieval.errors import DeviceError, GenerationError
from service.retrieval.index.options import MilvusOptions

Client = Any


def connect(options: MilvusOptions | None) -> Client:
    """Connect to Milvus; the client keeps the connection up.

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
    return ask(
        options,
        client_class,
        options.uri,
        token=options.token,
        db_name=options.database,
        **tls,
    )


def ask(options: MilvusOptions, call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Call Milvus.

    Raises:
        GenerationError: it refuses, or fails; a search is not repeated in the message.
        DeviceError: it cannot be reached.
    """
    from pymilvus.exceptions import MilvusException

    try:
        return call(*arguments, **{"timeout": options.timeout_seconds, **named})
    except MilvusException as error:
        action = getattr(call, "__name__", "connect")
        if action == "MilvusClient":
            raise DeviceError(
                "Milvus cannot be reached at CLEAR_MILVUS_URI, or refuses CLEAR_MILVUS_TOKEN "
                f"(code {error.code}): see that it runs, and that address, TLS and token are right"
            ) from None
        reason = " ".join(str(error.message).split())[:200] if action != "search" else ""
        raise GenerationError(f"Milvus fails to {action} (code {error.code}) {reason}") from None


def _client_class() -> Any:
    """Import pymilvus, which otherwise reads a `.env` file that it finds above itself."""
    before = os.environ.get("PYTHON_DOTENV_DISABLED")
    os.environ["PYTHON_DOTENV_DISABLED"] = "1"
    try:
        from pymilvus import MilvusClient
    finally:
        if before is None:
            del os.environ["PYTHON_DOTENV_DISABLED"]
        else:
            os.environ["PYTHON_DOTENV_DISABLED"] = before
    # It logs each failed call with what was asked, a user's filter among it.
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
    return MilvusClient
