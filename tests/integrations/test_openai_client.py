"""OpenAI's official clients, LangChain's and LlamaIndex's, against the service."""

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from service.retrieval.encoder.encoder import Encoder

openai = pytest.importorskip("openai", reason="openai is not installed")
NAME = "tiny-mean-0"
TEXTS = ["Nairobi", "Where does tea grow in Kenya?", "肯尼亚的首都", "سؤال"]


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
        yield client


# Where none is named, the client asks for base64 and decodes it.
@pytest.mark.parametrize("options", [{}, {"encoding_format": "float"}], ids=["base64", "float"])
@pytest.mark.parametrize("role", ["query", "passage"])
def test_openai_gets_the_encoder_s_embeddings(
    client: Any, tiny_encoder: Encoder, role: Any, options: dict[str, str]
) -> None:
    answer = client.embeddings.create(model=f"{NAME}:{role}", input=TEXTS, **options)

    expected = tiny_encoder.encode(TEXTS, role)
    rows = np.array([each.embedding for each in answer.data])
    np.testing.assert_allclose(rows, expected.embeddings, atol=1e-6)
    assert [each.index for each in answer.data] == [0, 1, 2, 3]
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == expected.num_tokens


def test_openai_gets_fewer_dimensions(client: Any) -> None:
    answer = client.embeddings.create(model=NAME, input="tea", dimensions=8)

    assert np.linalg.norm(answer.data[0].embedding) == pytest.approx(1)
    assert len(answer.data[0].embedding) == 8


def test_openai_lists_and_retrieves_models(client: Any) -> None:
    listed = [model.id for model in client.models.list()]

    assert listed == [NAME, f"{NAME}:query", f"{NAME}:passage"]
    assert [client.models.retrieve(name).id for name in listed] == listed


def test_openai_s_errors_are_the_service_s(client: Any) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        client.embeddings.create(model="text-embedding-3-small", input="tea")
    with pytest.raises(openai.UnprocessableEntityError) as tokens:
        client.embeddings.create(model=NAME, input=[[1, 2, 3]])

    assert unknown.value.code == "unknown-model"
    assert (tokens.value.param, tokens.value.type) == ("input", "invalid_request_error")
    assert "must be texts" in tokens.value.message
    assert tokens.value.request_id


def test_openai_s_asyncio_client_gets_the_same(address: str, tiny_encoder: Encoder) -> None:
    async def ask() -> Any:
        async with openai.AsyncOpenAI(base_url=f"{address}/v1", api_key="none") as client:
            return await client.embeddings.create(model=NAME, input=TEXTS)

    rows = [each.embedding for each in asyncio.run(ask()).data]

    expected = tiny_encoder.encode(TEXTS, "passage").embeddings
    np.testing.assert_allclose(np.array(rows), expected, atol=1e-6)


def test_langchain_s_embeddings_are_the_encoder_s(address: str, tiny_encoder: Encoder) -> None:
    library = pytest.importorskip("langchain_openai", reason="langchain-openai is not installed")
    embeddings = library.OpenAIEmbeddings(
        model=f"{NAME}:passage",
        base_url=f"{address}/v1",
        api_key="none",
        check_embedding_ctx_length=False,
    )
    texts = [f"text {number}" for number in range(300)]

    rows = embeddings.embed_documents(texts)

    expected = tiny_encoder.encode(texts, "passage").embeddings
    np.testing.assert_allclose(np.array(rows), expected, atol=1e-5)


def test_llama_index_s_embeddings_are_the_encoder_s(address: str, tiny_encoder: Encoder) -> None:
    library = pytest.importorskip("llama_index.embeddings.openai", reason="is not installed")
    embedding = library.OpenAIEmbedding(
        model_name=f"{NAME}:query", api_base=f"{address}/v1", api_key="none"
    )

    rows = embedding.get_text_embedding_batch(TEXTS)

    expected = tiny_encoder.encode(TEXTS, "query").embeddings
    np.testing.assert_allclose(np.array(rows), expected, atol=1e-6)
