"""The retrievers against the real frameworks: their documents are the service's hits."""

import asyncio
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from service.client import Client, ProblemError
from service.retrieval.corpus.reader import Passage, read_passages
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.indexing.build import build_index
from service.settings.settings import Settings
from tests.support.serving import serving

QUERY = "Where does tea grow?"
TWO_SENTENCES = Passage(
    "tea", "Where does tea grow? Tea. It is grown for export and flowers.", metadata={"page": 2}
)


@pytest.fixture(scope="module")
def address(
    tmp_path_factory: pytest.TempPathFactory,
    service_settings: Settings,
    tiny_encoder: Encoder,
    passages_file: Path,
) -> Iterator[str]:
    """A service whose index declares a field."""
    index = tmp_path_factory.mktemp("filtered") / "index"
    corpus = [*read_passages(passages_file), ("two sentences", TWO_SENTENCES)]
    build_index(corpus, index, tiny_encoder, fields={"page": "number"}, evidence=True)
    with serving(service_settings.model_copy(update={"index": index})) as address:
        yield address


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[Client]:
    with Client(address) as client:
        yield client


def expected(client: Client, **options: Any) -> list[tuple[str, float, str | None, str, Any]]:
    return [
        (hit.passage_id, hit.score, hit.text, hit.title, hit.metadata.get("page"))
        for hit in client.search(QUERY, **options).hits
    ]


@pytest.fixture(autouse=True)
def no_least_lead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Show evidence however little it leads: the tiny encoder's cosines are close together."""
    monkeypatch.setattr("service.retrieval.evidence.table.LEAST_LEAD", 0.0)


def evidence(client: Client) -> list[dict[str, Any] | None]:
    hits = client.search(QUERY, top_k=3, filter={"page": 2}, evidence=True).hits
    found = [hit.evidence and asdict(hit.evidence) for hit in hits]
    assert any(found)
    return found


def test_langchain_s_documents_are_the_hits(client: Client) -> None:
    pytest.importorskip("langchain_core", reason="langchain-core is not installed")
    from service.integrations.langchain import ClearRetriever

    retriever = ClearRetriever(client=client, top_k=3, filter={"page": 2})

    for documents in (retriever.invoke(QUERY), asyncio.run(retriever.ainvoke(QUERY))):
        assert expected(client, top_k=3, filter={"page": 2}) == [
            (
                document.id,
                document.metadata["score"],
                document.page_content,
                document.metadata["title"],
                document.metadata.get("page"),
            )
            for document in documents
        ]
    assert len(retriever.batch([QUERY, "sun"])) == 2
    assert {each.metadata["relevance"] for each in retriever.invoke(QUERY)} == {None}
    assert all(each.metadata["matched"] == [] for each in retriever.invoke(QUERY))
    assert [each.metadata["evidence"] for each in retriever.invoke(QUERY)] == evidence(client)


def test_llama_index_s_nodes_are_the_hits(client: Client) -> None:
    pytest.importorskip("llama_index.core", reason="llama-index-core is not installed")
    from service.integrations.llama_index import ClearRetriever

    retriever = ClearRetriever(client, top_k=3, filter={"page": 2})

    for nodes in (retriever.retrieve(QUERY), asyncio.run(retriever.aretrieve(QUERY))):
        assert expected(client, top_k=3, filter={"page": 2}) == [
            (
                found.node.node_id,
                found.score,
                found.node.text,
                found.node.metadata["title"],
                found.node.metadata.get("page"),
            )
            for found in nodes
        ]
        assert [found.node.metadata["evidence"] for found in nodes] == evidence(client)


def test_mcp_s_passages_have_the_evidence_of_the_hits(client: Client, address: str) -> None:
    pytest.importorskip("mcp", reason="mcp is not installed")
    from tests.integrations.test_mcp import ask

    arguments = {"query": QUERY, "top_k": 3, "filter": {"page": 2}}
    result = ask(address, lambda assistant: assistant.call_tool("search", arguments))

    found = result.structured_content["passages"]
    assert [each["evidence"] for each in found] == evidence(client)


def test_haystack_s_documents_are_the_hits_also_after_yaml(client: Client, address: str) -> None:
    haystack = pytest.importorskip("haystack", reason="haystack-ai is not installed")
    from service.integrations.haystack import ClearRetriever

    pipeline = haystack.Pipeline()
    retriever = ClearRetriever(address, top_k=3, filters={"page": 2})
    pipeline.add_component("retriever", retriever)

    trusted = ["service.integrations.haystack"]  # Haystack reads no class of others' untold
    read_back = haystack.Pipeline.loads(pipeline.dumps(), allowed_modules=trusted)

    for each in (pipeline, read_back):
        documents = each.run({"retriever": {"query": QUERY}})["retriever"]["documents"]
        assert expected(client, top_k=3, filter={"page": 2}) == [
            (
                document.id,
                document.score,
                document.content,
                document.meta["title"],
                document.meta.get("page"),
            )
            for document in documents
        ]
        assert [document.meta["evidence"] for document in documents] == evidence(client)
    given = retriever.run(QUERY, top_k=1, filters={"page": 1})["documents"]
    assert [document.meta["page"] for document in given] == [1]


def test_haystack_writes_a_key_by_the_name_of_its_variable(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    haystack = pytest.importorskip("haystack", reason="haystack-ai is not installed")
    from service.integrations.haystack import ClearRetriever

    monkeypatch.setenv("SEARCH_KEY", "a-secret-key-of-ours")
    secret = haystack.utils.Secret.from_env_var("SEARCH_KEY")

    written = ClearRetriever(address, secret).to_dict()

    assert "SEARCH_KEY" in str(written) and "a-secret-key-of-ours" not in str(written)
    assert ClearRetriever.from_dict(written).api_key == secret


def test_a_refusal_is_the_client_s_error_in_every_framework(client: Client, address: str) -> None:
    pytest.importorskip("langchain_core", reason="langchain-core is not installed")
    from service.integrations.langchain import ClearRetriever

    with pytest.raises(ProblemError, match="422"):
        ClearRetriever(client=client, filter={"no_such_field": 1}).invoke(QUERY)
