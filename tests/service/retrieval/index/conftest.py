"""Two Milvus: one in this process, and the real standalone server, which is slow to start."""

from collections.abc import Iterator

import pytest

from tests.support.milvus_server import milvus_server


@pytest.fixture(scope="session")
def milvus_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The lite Milvus; pymilvus starts it when it is first asked."""
    pytest.importorskip("milvus_lite", reason="needs the extra dev")
    from milvus_lite.server_manager import server_manager_instance

    yield str(tmp_path_factory.mktemp("milvus") / "lite.db")
    server_manager_instance.release_all()


@pytest.fixture(scope="session")
def milvus_server_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The real Milvus standalone."""
    pytest.importorskip("pymilvus", reason="needs the extra milvus")
    with milvus_server(tmp_path_factory.mktemp("milvus-server")) as uri:
        yield uri
