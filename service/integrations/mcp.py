"""An MCP server with which an assistant can search a running service (extra `mcp`)."""

from dataclasses import asdict
from typing import Annotated, Any

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel, Field

from service.client import AsyncClient, ClientError

INSTRUCTIONS = (
    "Search a collection of English passages by meaning. Questions may be in any language: pass "
    "them on unchanged. Cite passages by passage_id. Where `answered` is false, say that "
    "the collection probably does not answer the question."
)


class FoundPassage(BaseModel):
    """A passage that may answer the question."""

    passage_id: str
    score: Annotated[
        float, Field(description="Cosine similarity; comparable within one search only")
    ]
    relevance: Annotated[
        float | None,
        Field(description="Probability that the passage answers the question; null if unknown"),
    ]
    title: str
    text: str
    metadata: dict[str, Any]
    document_id: Annotated[
        str | None, Field(description="The longer document that the passage is a part of, if any")
    ] = None


class FoundPassages(BaseModel):
    """The passages found, best first."""

    language: Annotated[str, Field(description="Detected language of the question (BCP 47)")]
    answered: Annotated[
        bool | None,
        Field(
            description="False: the collection probably does not answer the question, and the "
            "passages are merely the nearest; null if unknown"
        ),
    ]
    passages: list[FoundPassage]


def create_server(client: AsyncClient, version: str) -> MCPServer:
    """Create an MCP server whose tools call the service."""
    server: MCPServer = MCPServer(
        "clear-search", instructions=INSTRUCTIONS, version=version, log_level="WARNING"
    )

    @server.tool()
    async def search(
        query: Annotated[str, Field(description="A question, in any language")],
        top_k: Annotated[int, Field(ge=1, le=50, description="Maximum number of passages")] = 5,
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
        return FoundPassages(language=found.language, answered=found.answered, passages=passages)

    @server.tool()
    async def describe_index() -> dict[str, Any]:
        """Return the number of passages and the fields by which they can be filtered."""
        try:
            index = (await client.info())["index"]
        except ClientError as error:
            raise ToolError(str(error)) from error
        return {name: index[name] for name in ("passages", "created", "fields")}

    return server
