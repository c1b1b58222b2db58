"""The connection to Milvus."""

from typing import Any

import pytest

from service.retrieval.index.milvus import connection
from service.retrieval.index.milvus.connection import connect
from service.retrieval.index.options import MilvusOptions

pytest.importorskip("pymilvus", reason="needs the extra milvus")


@pytest.mark.parametrize(
    ("uri", "pings"),
    [("/data/lite.db", 2**31 - 1), ("http://milvus:19530", None)],
)
def test_an_idle_connection_to_milvus_lite_is_not_pinged(
    uri: str, pings: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}

    class MilvusClient:
        def __init__(self, uri: str, **named: Any) -> None:
            given.update(named)

    monkeypatch.setattr(connection, "_client_class", lambda: MilvusClient)
    connect(MilvusOptions(uri))

    assert given.get("grpc_options", {}).get("grpc.keepalive_time_ms") == pings
