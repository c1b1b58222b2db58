"""Two Milvus servers: the lite one in this process, and the standalone one, slow to start."""

from collections.abc import Iterator

import pytest

from tests.support.milvus_server import milvus_server


@pytest.fixture(scope="session")
def milvus_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of Milvus Lite; pymilvus starts it on the first call."""
    pytest.importorskip("milvus_lite", reason="needs the extra dev")
    from milvus_lite.server_manager import server_manager_instance

    yield str(tmp_path_factory.mktemp("milvus") / "lite.db")
    server_manager_instance.release_all()


@pytest.fixture(scope="session")
def milvus_server_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a standalone Milvus server."""
    pytest.importorskip("pymilvus", reason="needs the extra milvus")
    with milvus_server(tmp_path_factory.mktemp("milvus-server")) as uri:
        yield uri
