"""Request and response bodies of `/encode` and `/admin/reload`, and the types that routes share."""

import difflib
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError

from service.retrieval.text import is_blank

MAX_CHARACTERS = 32_768
MAX_TEXTS = 256


def check_text(text: str) -> str:
    """Return a text that has a visible character and no NUL."""
    if "\x00" in text:
        raise PydanticCustomError("nul", "must not hold a NUL character")
    if is_blank(text):
        raise PydanticCustomError("blank", "must not be empty: no character is visible")
    return text


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _as_integer(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


# JSON has one type of numbers: 1.0 is the integer 1.
WholeNumber = BeforeValidator(_as_integer)
NULL = {"type": "null"}
ABOUT = ("title", "description", "default")
Text = Annotated[str, Field(min_length=1, max_length=MAX_CHARACTERS), AfterValidator(check_text)]
Texts = Annotated[list[Text], Field(min_length=1, max_length=MAX_TEXTS)]
Dimensions = Annotated[
    int | None,
    Field(ge=1, description="Keep only this many leading dimensions"),
    WholeNumber,
]
EncodingFormat = Annotated[
    Literal["float", "base64"], Field(description="base64 holds little-endian fp32")
]
Timeout = Annotated[
    int | None,
    Field(ge=1, description="Deadline of the request; a late request fails with 504"),
    WholeNumber,
]
StageTimes = Annotated[dict[str, float], Field(description="Milliseconds by stage")]


def _is_utf8(name: str) -> bool:
    return name == name.encode(errors="replace").decode()


def _unknown_field(name: str, known: list[str]) -> PydanticCustomError:
    close = difflib.get_close_matches(name, known, n=1)
    fix = f"did you mean {close[0]}?" if close else f"the fields are {', '.join(known)}"
    return PydanticCustomError(
        "unknown_field", "the field is unknown: {fix}", {"field": name, "fix": fix}
    )


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a field's schema that also allows null; title, description and default stay."""
    about = {name: schema.pop(name) for name in ABOUT if name in schema}
    return {"anyOf": [schema, NULL], **about}


class Body(BaseModel):
    """A request body.

    Unknown fields are refused, and no value is converted. Null stands for a field's default.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _leave_out_nulls(cls, content: object) -> object:
        if not isinstance(content, dict):
            return content
        optional = {name for name, field in cls.model_fields.items() if not field.is_required()}
        return {
            name: value
            for name, value in content.items()
            if value is not None or name not in optional
        }

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_fields(cls, content: object) -> object:
        if not isinstance(content, dict) or cls.model_config.get("extra") != "forbid":
            return content
        unknown = next((name for name in content if name not in cls.model_fields), None)
        # pydantic reports a name with half a surrogate pair as a malformed body.
        if unknown is not None and all(map(_is_utf8, content)):
            raise _unknown_field(unknown, list(cls.model_fields))
        return content

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Return the JSON schema, in which every optional field may be null."""
        schema = handler(core_schema)
        content = handler.resolve_ref_schema(schema)
        for name, field in content["properties"].items():
            if name not in content.get("required", ()) and NULL not in field.get("anyOf", ()):
                content["properties"][name] = _or_null(field)
        return schema


class EncodeRequest(Body):
    """The texts to embed."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"texts": ["Nairobi"], "role": "passage"}]}
    )

    texts: Annotated[
        Texts,
        BeforeValidator(_as_list, json_schema_input_type=Text | Texts),
        Field(description="One text or several"),
    ]
    role: Annotated[
        Literal["query", "passage"],
        Field(description="Selects the prompt and the side of the encoder"),
    ]
    dimensions: Dimensions = None
    encoding_format: EncodingFormat = "float"
    timeout_ms: Timeout = None


class Usage(BaseModel):
    """Tokens that a request used."""

    tokens: int
    truncated_texts: Annotated[
        int, Field(description="Number of texts truncated at the encoder's limit")
    ]


class EncodeResponse(BaseModel):
    """One unit-norm embedding for each text, in order."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "embeddings": [[0.6, 0.8]],
                    "dimension": 2,
                    "encoder": "bundled",
                    "usage": {"tokens": 6, "truncated_texts": 0},
                    "took_ms": {"tokenize": 0.1, "queue": 0.0, "encode": 8.9},
                }
            ]
        }
    )

    embeddings: list[list[float] | str]
    dimension: int
    encoder: str
    usage: Usage
    took_ms: StageTimes


class IndexInfo(BaseModel):
    """The index generation that answered."""

    generation: str
    passages: int
    documents: Annotated[
        int | None, Field(description="Present only if long documents were split into passages")
    ] = None


class ReloadResponse(BaseModel):
    """The result of a reload."""

    result: Annotated[
        Literal["swapped", "unchanged"],
        Field(description="unchanged: the generation that CURRENT names was already live"),
    ]
    index: IndexInfo
    took_ms: float


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    field: Annotated[str | None, Field(description="The invalid field of the body")] = None
    request_id: Annotated[
        str | None, Field(description="The request id, as in X-Request-Id and the service's log")
    ] = None
