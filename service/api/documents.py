"""The routes `/documents`, changes in and documents out, and `/changes/{number}`."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from service.api.document_schemas import (
    ChangeResponse,
    Document,
    DocumentResponse,
    DocumentsRequest,
)
from service.api.openapi import GET_RESPONSES, POST_RESPONSES, PROBLEM_RESPONSES
from service.api.response import (
    deadline_of,
    engine_of,
    index_info,
    invalid_field,
    seconds_left,
    state_of,
)
from service.changes.ledger import Result
from service.changes.writer import ChangeWriter
from service.document_errors import UnknownDocumentError
from service.errors import ForbiddenError
from service.http.disconnect import cancel_on_disconnect
from service.http.json_route import JsonRoute
from service.retrieval.corpus.columns import Columns
from service.retrieval.corpus.fields import Fields
from service.retrieval.corpus.reader import Passage, passage_of
from service.retrieval.errors import PassageError
from service.retrieval.indexing.sources import with_checked_values

router = APIRouter(route_class=JsonRoute)
POST_CHANGE_RESPONSES = {
    **POST_RESPONSES,
    202: {"model": ChangeResponse, "description": "The change is on the disk, and not live yet"},
    409: PROBLEM_RESPONSES[409],
    507: PROBLEM_RESPONSES[507],
}


@router.post(
    "/documents",
    summary="Put and delete documents",
    response_model=ChangeResponse,
    responses=POST_CHANGE_RESPONSES,
    tags=["documents"],
)
async def change_documents(body: DocumentsRequest, request: Request) -> Response:
    """Put and delete documents. 202: the change is on the disk; 200: it is live, or refused."""
    changes = _changes_of(request)
    deadline = deadline_of(request, body.timeout_ms)
    fields = engine_of(request).searcher.generation.manifest.fields
    put = [_passage(position, document, fields) for position, document in enumerate(body.put)]
    number = await changes.submit(put, body.delete)
    result = Result("waiting")
    if body.wait:
        waiting = changes.result_of(number, seconds_left(deadline))
        result = await cancel_on_disconnect(request, waiting)
    is_unserved = result.state == "applied" and result.reason is not None
    status = 202 if result.state == "waiting" or is_unserved else 200
    return JSONResponse(_describe(number, result), status_code=status)


@router.get(
    "/documents/{document_id:path}",
    summary="Read a document",
    response_model=DocumentResponse,
    response_model_exclude_unset=True,
    responses={**GET_RESPONSES, 404: PROBLEM_RESPONSES[404], 422: PROBLEM_RESPONSES[422]},
    tags=["documents"],
)
async def document(document_id: str, request: Request) -> dict[str, object]:
    """Return a document as the live generation has it, and whether a change of it waits."""
    generation = engine_of(request).searcher.generation
    changes = state_of(request).changes
    waiting = changes.ledger.waiting_change_of(document_id) if changes else None
    found = generation.passages.document(document_id)
    if found is None and waiting is None:
        raise UnknownDocumentError(
            "the live index has no document of this id, and no change of it waits here"
        )
    return {
        "document": found
        and {
            "id": found.passage_id,
            "title": found.title,
            "text": found.text,
            "metadata": dict(found.metadata),
        },
        "waiting": waiting and {"change": waiting[0], "deletes": waiting[1]},
        "index": index_info(generation),
    }


@router.get(
    "/changes/{number}",
    summary="Read the state of a change",
    response_model=ChangeResponse,
    responses={
        **GET_RESPONSES,
        404: PROBLEM_RESPONSES[404],
        409: PROBLEM_RESPONSES[409],
        422: PROBLEM_RESPONSES[422],
    },
    tags=["documents"],
)
async def change(number: int, request: Request) -> dict[str, object]:
    """Return whether a change waits, in which generation it was applied, or why it was refused."""
    return _describe(number, await _changes_of(request).result_of(number))


def _changes_of(request: Request) -> ChangeWriter:
    changes = state_of(request).changes
    if changes is None:
        raise ForbiddenError(
            "documents cannot be changed here: give the service keys (CLEAR_KEYS_FILE), one with "
            "the scope write, or set CLEAR_DOCUMENTS=open"
        )
    return changes


def _passage(position: int, document: Document, fields: Fields) -> Passage:
    """Return a document as a passages file would hold it.

    Raises:
        RequestValidationError: a value of its metadata cannot be used.
    """
    origin = f"put[{position}]"
    try:
        passage = passage_of(origin, document.model_dump(), Columns("id", "text", "title"))
        return with_checked_values(origin, passage, fields)
    except PassageError as error:
        reason = str(error).removeprefix(origin).strip()
        raise invalid_field(_place(origin, document, error.field), reason) from None


def _place(origin: str, document: Document, field: str) -> str:
    """Return the name of a document's field, such as `put[3].year`, or `put[3]` without one."""
    nested = (document.model_extra or {}).get("metadata")
    if isinstance(nested, dict) and field in nested:
        field = f"metadata.{field}"
    return f"{origin}.{field}" if field else origin


def _describe(number: int, result: Result) -> dict[str, object]:
    return {
        "change": number,
        "state": result.state,
        "generation": result.generation,
        "reason": result.reason,
    }
