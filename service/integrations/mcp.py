"""An MCP server over a running service, so that an assistant can search (extra `mcp`)."""

from dataclasses import asdict
from typing import Annotated, Any

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel, Field

from service.client import AsyncClient, ClientError

INSTRUCTIONS = (
    "Search a collection of English passages by meaning. Questions may be in any language: pass "
    "them on as they were asked. Cite passages by passage_id."
)


class FoundPassage(BaseModel):
    """A passage that may answer the question."""

    passage_id: str
    score: Annotated[float, Field(description="Cosine; compare within one search only")]
    title: str
    text: str
    metadata: dict[str, Any]


class FoundPassages(BaseModel):
    """The best first."""

    language: Annotated[str, Field(description="The question's, as detected (BCP 47)")]
    passages: list[FoundPassage]


def create_server(client: AsyncClient, version: str) -> MCPServer:
    """Make a server whose tools ask a service."""
    server: MCPServer = MCPServer(
        "clear-search", instructions=INSTRUCTIONS, version=version, log_level="WARNING"
    )

    @server.tool()
    async def search(
        query: Annotated[str, Field(description="A question, in any language")],
        top_k: Annotated[int, Field(ge=1, le=50, description="Passages at the most")] = 5,
        filter: Annotated[
            dict[str, Any] | None,
            Field(
                description="Conditions on declared fields (see describe_index), such as "
                '{"country": ["Kenya", "Peru"], "year": {"gte": 2000}}'
            ),
        ] = None,
    ) -> FoundPassages:
        """Find the English passages that answer a question."""
        try:
            found = await client.search(query, top_k=top_k, filter=filter)
        except ClientError as error:
            raise ToolError(str(error)) from error
        passages = [FoundPassage.model_validate(asdict(hit)) for hit in found.hits]
        return FoundPassages(language=found.language, passages=passages)

    @server.tool()
    async def describe_index() -> dict[str, Any]:
        """Tell how many passages there are, and by which fields they can be filtered."""
        try:
            index = (await client.info())["index"]
        except ClientError as error:
            raise ToolError(str(error)) from error
        return {name: index[name] for name in ("passages", "created", "fields")}

    return server
