"""Documents put, read and deleted by the real frameworks, in a service that takes changes."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.client import AsyncClient, Client, ClientError, ProblemError
from service.retrieval.corpus.reader import Passage
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.indexing.build import build_index
from service.settings.settings import Settings
from tests.support.serving import serving

PAGE = Path(__file__).parents[2] / "docs" / "documents.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
LIBRARIES = {"haystack", "langchain", "llama_index"}


@pytest.fixture(scope="module")
def address(
    tmp_path_factory: pytest.TempPathFactory, service_settings: Settings, tiny_encoder: Encoder
) -> Iterator[str]:
    index = tmp_path_factory.mktemp("changing") / "index"
    build_index([("f", Passage("kept", "the sun"))], index, tiny_encoder)
    changes = {"index": index, "documents": "open", "apply_seconds": 0.01}
    with serving(service_settings.model_copy(update=changes)) as address:
        yield address


@pytest.fixture
def client(address: str) -> Iterator[Client]:
    with Client(address) as client:
        yield client
        client.change_documents(delete=["a", "b"], wait=True)


def test_langchain_s_store_adds_reads_searches_and_deletes(client: Client) -> None:
    library = pytest.importorskip("langchain_core.documents", reason="is not installed")
    from service.integrations.langchain import ClearVectorStore

    store = ClearVectorStore(client)
    document = library.Document(
        id="a", page_content="tea of Kenya", metadata={"title": "Tea", "year": 1963}
    )

    assert store.add_documents([document]) == ["a"]

    found = store.similarity_search_with_score("tea", k=2)
    assert document in [each for each, _ in found] == store.similarity_search("tea", k=2)
    assert [score for _, score in found] == [hit.score for hit in client.search("tea").hits]
    assert store.get_by_ids(["a", "nothing"]) == [document]
    assert [each.id for each in store.as_retriever(search_kwargs={"k": 2}).invoke("sun")]
    assert store.delete(["a"]) is True
    assert store.get_by_ids(["a"]) == []


def test_langchain_s_store_gives_ids_and_deletes_nothing_unnamed(client: Client) -> None:
    pytest.importorskip("langchain_core", reason="langchain-core is not installed")
    from service.integrations.langchain import ClearVectorStore

    [first, second] = ClearVectorStore(client).add_texts(["one", "two"])
    store = ClearVectorStore.from_texts(["three"], ids=["b"], client=client)

    assert len({first, second}) == 2
    assert [each.page_content for each in store.get_by_ids([second, "b"])] == ["two", "three"]
    with pytest.raises(ValueError, match="name the documents"):
        store.delete()
    assert store.delete([first, second]) is True


def test_llama_index_s_index_inserts_updates_and_deletes(client: Client) -> None:
    library = pytest.importorskip("llama_index.core.schema", reason="is not installed")
    from service.integrations.llama_index import ClearIndex

    index = ClearIndex(client)
    index.insert(library.Document(id_="a", text="tea", metadata={"title": "Tea", "page": 2}))
    index.insert_nodes([library.TextNode(id_="b", text="coffee")])
    index.update_ref_doc(library.Document(id_="b", text="cocoa"))

    document = client.document("a").document
    assert document == {"id": "a", "text": "tea", "title": "Tea", "metadata": {"page": 2}}
    found = index.as_retriever(top_k=9, search_options={"fold": "duplicates"}).retrieve("cocoa")
    assert {each.node.text for each in found} == {"the sun", "tea", "cocoa"}
    index.delete_ref_doc("a")
    with pytest.raises(ProblemError, match="404"):
        client.document("a")


def test_haystack_s_writer_puts_documents_also_after_yaml(client: Client, address: str) -> None:
    haystack = pytest.importorskip("haystack", reason="haystack-ai is not installed")
    from service.integrations.haystack import ClearRetriever, ClearWriter

    pipeline = haystack.Pipeline()
    pipeline.add_component("writer", ClearWriter(address))
    trusted = ["service.integrations.haystack"]
    read_back = haystack.Pipeline.loads(pipeline.dumps(), allowed_modules=trusted)
    documents = [
        haystack.Document(id="a", content="tea", meta={"title": "Tea", "page": 2}),
        haystack.Document(id="b", content="tea", meta={}),
    ]

    assert read_back.run({"writer": {"documents": documents}})["writer"] == {"documents_written": 2}

    document = client.document("a").document
    assert document == {"id": "a", "text": "tea", "title": "Tea", "metadata": {"page": 2}}
    retriever = ClearRetriever(address, options={"fold": "duplicates"})
    assert ClearRetriever.from_dict(retriever.to_dict()).options == {"fold": "duplicates"}
    assert len(retriever.run("tea")["documents"]) == 2  # two of three have one text


def test_a_refusal_is_the_client_s_error(client: Client) -> None:
    pytest.importorskip("langchain_core", reason="langchain-core is not installed")
    from service.integrations.langchain import ClearVectorStore

    with pytest.raises(ProblemError, match=r"put\[0\].text"):
        ClearVectorStore(client).add_texts([" "])
    with pytest.raises(ClientError, match="no document would be left"):
        ClearVectorStore(client).delete(["kept"])


def test_an_assistant_changes_documents_only_where_it_may(address: str) -> None:
    mcp = pytest.importorskip("mcp", reason="mcp is not installed")
    from service.integrations.mcp import create_server

    async def talk() -> list[Any]:
        async with AsyncClient(address) as client:
            async with mcp.Client(create_server(client, "1")) as assistant:
                read_only = await assistant.list_tools()
            async with mcp.Client(create_server(client, "1", may_change=True)) as assistant:
                change = {"put": [{"id": "a", "text": "tea", "year": 1963}], "delete": ["b"]}
                return [
                    {tool.name for tool in read_only.tools},
                    {each.name: each.annotations for each in (await assistant.list_tools()).tools},
                    await assistant.call_tool("change_documents", change),
                    await assistant.call_tool("read_document", {"document_id": "a"}),
                    await assistant.call_tool("read_change", {"number": 1}),
                    await assistant.call_tool("read_change", {"number": 10**6}),
                ]

    read_only, tools, changed, document, first, unknown = asyncio.run(talk())

    assert set(tools) - read_only == {"change_documents", "read_change"}
    assert tools["change_documents"].destructive_hint
    assert all(tools[name].read_only_hint for name in read_only | {"read_change"})
    [state] = changed.structured_content["result"]
    assert (state["state"], state["reason"]) == ("applied", None)
    assert document.structured_content == {
        "passage_id": "a", "title": "", "text": "tea", "metadata": {"year": 1963}
    }  # fmt: skip
    assert first.structured_content["number"] == 1
    assert unknown.is_error and "there is no change" in unknown.content[0].text


@pytest.mark.slow
@pytest.mark.parametrize("example", [each for each in EXAMPLES if "service." in each])
def test_the_manual_s_examples_run(
    example: str, address: str, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in re.findall(r"service\.integrations\.(\w+)", example):
        pytest.importorskip({"langchain": "langchain_core"}.get(module, module), reason="missing")
    example = example.replace("http://127.0.0.1:8000", address)

    exec(compile(example, "documents.md", "exec"), {"KEY": "any"})

    assert capsys.readouterr().out.strip()


def test_the_manual_has_an_example_for_each_framework() -> None:
    assert set(re.findall(r"service\.integrations\.(\w+)", "".join(EXAMPLES))) == LIBRARIES
