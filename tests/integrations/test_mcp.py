"""The MCP server, asked by the official client: in the process, and as the command that is run."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from pydantic import SecretStr

from service.client import AsyncClient, Client
from service.settings.settings import Settings
from tests.support.serving import serving

mcp = pytest.importorskip("mcp", reason="mcp is not installed")
QUERY = "Je, mji mkuu wa Kenya ni upi?"


def ask(address: str, talk: Callable[[Any], Coroutine[Any, Any, Any]]) -> Any:
    from service.integrations.mcp import create_server

    async def run() -> Any:
        async with (
            AsyncClient(address, max_retries=0) as client,
            mcp.Client(create_server(client, "1")) as assistant,
        ):
            return await talk(assistant)

    return asyncio.run(run())


def test_the_tools_describe_themselves(address: str) -> None:
    tools = ask(address, lambda assistant: assistant.list_tools()).tools

    described = {tool.name: tool for tool in tools}
    assert set(described) == {"search", "more_like", "read_document", "describe_index"}
    assert described["search"].input_schema["required"] == ["query"]
    options = {"query", "top_k", "filter", "offset", "fold_duplicates"}
    assert set(described["search"].input_schema["properties"]) == options
    assert all(tool.description and tool.output_schema for tool in tools)


def test_search_finds_what_the_service_finds(address: str) -> None:
    arguments = {"query": QUERY, "top_k": 3}

    result = ask(address, lambda assistant: assistant.call_tool("search", arguments))

    with Client(address) as client:
        hits = client.search(QUERY, top_k=3).hits
    assert not result.is_error
    found = result.structured_content["passages"]
    assert [each["passage_id"] for each in found] == [hit.passage_id for hit in hits]
    assert [each["text"] for each in found] == [hit.text for hit in hits]
    assert {each["relevance"] for each in found} == {None}
    assert all(each["matched"] == [] for each in found)
    assert result.structured_content["answered"] is None
    assert [each["score"] for each in found] == pytest.approx([hit.score for hit in hits])


def test_pages_join_and_a_passage_is_read_and_leads_to_others(address: str) -> None:
    async def talk(assistant: Any) -> list[Any]:
        page = {"query": QUERY, "top_k": 2, "offset": 2, "fold_duplicates": True}
        return [
            await assistant.call_tool("search", page),
            await assistant.call_tool("more_like", {"passage_id": "kenya.1", "top_k": 3}),
            await assistant.call_tool("read_document", {"document_id": "kenya.1"}),
            await assistant.call_tool("read_document", {"document_id": "nothing"}),
        ]

    page, others, passage, unknown = ask(address, talk)

    with Client(address) as client:
        ids = [hit.passage_id for hit in client.search(QUERY, top_k=4, fold="duplicates").hits]
        like = [hit.passage_id for hit in client.more_like("kenya.1", top_k=3).hits]
        text = client.passage("kenya.1").text
    assert [each["passage_id"] for each in page.structured_content["passages"]] == ids[2:]
    assert [each["passage_id"] for each in others.structured_content["result"]] == like
    assert passage.structured_content["text"] == text
    assert unknown.is_error and "no passage of this id" in unknown.content[0].text


def test_describe_index_tells_size_and_fields(address: str) -> None:
    result = ask(address, lambda assistant: assistant.call_tool("describe_index", {}))

    told = result.structured_content
    assert (told["passages"], told["fields"]) == (12, {})


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            {"query": QUERY, "filter": {"country": "Kenya"}},
            "filter.country: this index declares no such field",
        ),
        ({"query": " "}, "must not be empty"),
        ({"query": QUERY, "top_k": 1000}, "less than or equal to 50"),
    ],
)
def test_a_refusal_is_told_to_the_assistant(
    address: str, arguments: dict[str, Any], told: str
) -> None:
    result = ask(address, lambda assistant: assistant.call_tool("search", arguments))

    assert result.is_error
    assert told in result.content[0].text


def test_a_service_that_is_gone_is_told(unused_address: str = "http://127.0.0.1:9") -> None:
    result = ask(unused_address, lambda assistant: assistant.call_tool("search", {"query": "tea"}))

    assert result.is_error
    assert "no answer from http://127.0.0.1:9/search" in result.content[0].text


def ask_command(address: str, variables: dict[str, str]) -> Any:
    command = mcp.StdioServerParameters(
        command=sys.executable, args=["-m", "service", "mcp", "--url", address], env=variables
    )

    async def run() -> Any:
        async with mcp.Client(command) as assistant:
            return await assistant.call_tool("search", {"query": QUERY, "top_k": 2})

    return asyncio.run(run())


def test_the_command_speaks_mcp_on_stdin_and_stdout(address: str) -> None:
    assert len(ask_command(address, {}).structured_content["passages"]) == 2


@pytest.mark.slow
def test_the_command_sends_the_key_of_its_environment(service_settings: Settings) -> None:
    key = "a" * 32
    settings = service_settings.model_copy(update={"api_key": SecretStr(key)})

    with serving(settings) as address:
        allowed = ask_command(address, {"CLEAR_API_KEY": key})
        refused = ask_command(address, {})

    assert len(allowed.structured_content["passages"]) == 2
    assert refused.is_error and "401 Unauthorized" in refused.content[0].text
