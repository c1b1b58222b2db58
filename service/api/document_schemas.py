"""Request and response bodies of `/documents` and `/changes`."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from service.api.schemas import MAX_CHARACTERS, Body, IndexInfo, Text, Timeout, check_text

MAX_DOCUMENTS = 1000
DocumentText = Annotated[str, Field(min_length=1), AfterValidator(check_text)]


def _as_text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


# A whole number is taken as its digits, as in files.
Id = Annotated[Text, BeforeValidator(_as_text, json_schema_input_type=Text | int)]


class Document(Body):
    """A document to put; all further fields are its metadata."""

    model_config = ConfigDict(extra="allow")

    id: Id
    text: Annotated[DocumentText, Field(description="Of any length that the body may have")]
    title: Annotated[str, Field(max_length=MAX_CHARACTERS)] = ""


class DocumentsRequest(Body):
    """Documents to put in place of any with their ids, and ids of documents to delete."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "put": [{"id": "nairobi", "text": "Nairobi is the capital.", "year": 2026}],
                    "delete": ["old"],
                }
            ]
        }
    )

    put: Annotated[list[Document], Field(max_length=MAX_DOCUMENTS)] = []
    delete: Annotated[list[Id], Field(max_length=MAX_DOCUMENTS)] = []
    wait: Annotated[
        bool, Field(description="Answer when the change is live, or the deadline has passed")
    ] = False
    timeout_ms: Timeout = None

    @model_validator(mode="after")
    def _check_ids(self) -> Self:
        for position, document in enumerate(self.put):
            if (document.model_extra or {}).get("delete") is True:
                raise PydanticCustomError(
                    "deletes",
                    "a document that is put is not deleted: to delete it, move its id into "
                    "`delete` of the request, beside `put`",
                    {"field": f"put[{position}].delete"},
                )
        ids = [*(document.id for document in self.put), *self.delete]
        if not 1 <= len(ids) <= MAX_DOCUMENTS:
            raise PydanticCustomError(
                "size",
                "put and delete must hold 1 to {most} documents together",
                {"field": "put", "most": MAX_DOCUMENTS},
            )
        seen: set[str] = set()
        for position, document_id in enumerate(ids):
            if document_id in seen:
                at = position - len(self.put)
                field = f"put[{position}].id" if at < 0 else f"delete[{at}]"
                raise PydanticCustomError(
                    "repeated",
                    "the id is that of another document of the request: send one change of it",
                    {"field": field},
                )
            seen.add(document_id)
        return self


class ChangeResponse(BaseModel):
    """The state of a change."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"change": 17, "state": "waiting", "generation": None, "reason": None}]
        }
    )

    change: Annotated[int, Field(description="The number of the change, for `/changes/{number}`")]
    state: Literal["waiting", "applied", "refused"]
    generation: Annotated[
        str | None, Field(description="The first generation that has the change, if applied")
    ]
    reason: Annotated[
        str | None,
        Field(
            description="Why the change was refused; of an applied one, why its generation is not "
            "served"
        ),
    ]


class LiveDocument(BaseModel):
    """A document as the live generation has it."""

    id: str
    title: str
    text: str
    metadata: dict[str, Any]


class WaitingChange(BaseModel):
    """The last change of a document that waits to be applied."""

    change: int
    deletes: bool


class DocumentResponse(BaseModel):
    """A document of the live generation, and the change of it that waits."""

    document: Annotated[LiveDocument | None, Field(description="null: it is not live yet")]
    waiting: Annotated[
        WaitingChange | None, Field(description="Only where this instance is the writer")
    ]
    index: IndexInfo
