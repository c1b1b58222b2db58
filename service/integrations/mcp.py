"""An MCP server: an assistant searches a running service, and may change it (extra `mcp`)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated, Any, Literal

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from pydantic import BaseModel, ConfigDict, Field

from service.client import AsyncClient, ClientError

INSTRUCTIONS = (
    "Search a collection of English passages by meaning. Questions may be in any language: pass "
    "them on unchanged. Cite passages by passage_id. Where `answered` is false, say that "
    "the collection probably does not answer the question. A passage with a document_id is a part "
    "of a document: read_document returns the whole."
)
TopK = Annotated[int, Field(ge=1, le=50, description="Maximum number of passages")]


class EvidencePart(BaseModel):
    """The part of a passage's text that answers best."""

    start: int
    end: int
    score: float


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
    matched: Annotated[
        list[str], Field(description="Rare codes, numbers and names of the question that it holds")
    ] = []
    title: str
    text: str
    metadata: dict[str, Any]
    document_id: Annotated[
        str | None, Field(description="The longer document that the passage is a part of, if any")
    ] = None
    evidence: Annotated[
        EvidencePart | None,
        Field(description="The characters of the text that answer best; null if none stand out"),
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


class WholeDocument(BaseModel):
    """A passage, or the whole document that it is a part of."""

    passage_id: str
    title: str
    text: str
    metadata: dict[str, Any]


class NewDocument(BaseModel):
    """A document to put in place of any with its id; further fields are its metadata."""

    model_config = ConfigDict(extra="allow")

    id: str
    text: str
    title: str = ""


class ChangeState(BaseModel):
    """What became of a change; a refused one has a reason, and none of it is taken."""

    number: int
    state: Literal["waiting", "applied", "refused"]
    reason: str | None


def create_server(client: AsyncClient, version: str, may_change: bool = False) -> MCPServer:
    """Create an MCP server whose tools call the service.

    Args:
        client: of the service.
        version: the server's.
        may_change: whether there are tools that put and delete documents.
    """
    server: MCPServer = MCPServer(
        "clear-search", instructions=INSTRUCTIONS, version=version, log_level="WARNING"
    )
    _add_reading(server, client)
    if may_change:
        _add_changing(server, client)
    return server


def _add_reading(server: MCPServer, client: AsyncClient) -> None:
    reads = ToolAnnotations(read_only_hint=True, idempotent_hint=True)

    @server.tool(annotations=reads)
    async def search(
        query: Annotated[str, Field(description="A question, in any language")],
        top_k: TopK = 5,
        filter: Annotated[
            dict[str, Any] | None,
            Field(
                description="Conditions on declared fields (see describe_index), such as "
                '{"country": ["Kenya", "Peru"], "year": {"gte": 2000}}'
            ),
        ] = None,
        offset: Annotated[
            int, Field(ge=0, le=900, description="Passages to leave out first, for the next page")
        ] = 0,
        fold_duplicates: Annotated[
            bool, Field(description="Leave out passages that nearly repeat a better one")
        ] = False,
    ) -> FoundPassages:
        """Find the English passages that answer a question."""
        fold: Literal["duplicates"] | None = "duplicates" if fold_duplicates else None
        with _told():
            found = await client.search(
                query, top_k=top_k, filter=filter, offset=offset, fold=fold, evidence=True
            )
        passages = [FoundPassage.model_validate(asdict(hit)) for hit in found.hits]
        return FoundPassages(language=found.language, answered=found.answered, passages=passages)

    @server.tool(annotations=reads)
    async def more_like(passage_id: str, top_k: TopK = 5) -> list[FoundPassage]:
        """Find the passages that are most like one that was found."""
        with _told():
            found = await client.more_like(passage_id, top_k=top_k)
        return [FoundPassage.model_validate(asdict(hit)) for hit in found.hits]

    @server.tool(annotations=reads)
    async def read_document(
        document_id: Annotated[str, Field(description="A document_id or a passage_id")],
    ) -> WholeDocument:
        """Return a whole document, or one passage."""
        with _told():
            return WholeDocument.model_validate(asdict(await client.passage(document_id)))

    @server.tool(annotations=reads)
    async def describe_index() -> dict[str, Any]:
        """Return the number of passages and the fields by which they can be filtered."""
        with _told():
            index = (await client.info())["index"]
        return {name: index[name] for name in ("passages", "created", "fields")}


def _add_changing(server: MCPServer, client: AsyncClient) -> None:
    reads = ToolAnnotations(read_only_hint=True, idempotent_hint=True)
    changes = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=True)

    @server.tool(annotations=changes)
    async def change_documents(
        put: Annotated[
            tuple[NewDocument, ...], Field(description="Documents to add or replace")
        ] = (),
        delete: Annotated[tuple[str, ...], Field(description="Ids of documents to delete")] = (),
    ) -> list[ChangeState]:
        """Put and delete documents; the answer comes when they can be searched, or refused."""
        with _told():
            documents = [each.model_dump() for each in put]
            made = await client.change_documents(documents, delete, wait=True)
        return [ChangeState.model_validate(asdict(change)) for change in made]

    @server.tool(annotations=reads)
    async def read_change(number: int) -> ChangeState:
        """Return what became of a change that was waiting."""
        with _told():
            return ChangeState.model_validate(asdict(await client.change(number)))


@contextmanager
def _told() -> Iterator[None]:
    """Tell the assistant what the service refused."""
    try:
        yield
    except ClientError as error:
        raise ToolError(str(error)) from error
