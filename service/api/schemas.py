"""Request and response bodies of `/encode` and `/admin/reload`, and the types that routes share."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

MAX_CHARACTERS = 32_768
MAX_TEXTS = 256


def _check_text(text: str) -> str:
    if "\x00" in text:
        raise PydanticCustomError("nul", "must not hold a NUL character")
    if not text.strip():
        raise PydanticCustomError("blank", "must not be empty")
    return text


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


Text = Annotated[str, Field(min_length=1, max_length=MAX_CHARACTERS), AfterValidator(_check_text)]
Dimensions = Annotated[
    int | None, Field(ge=1, description="Keep only this many leading dimensions")
]
EncodingFormat = Annotated[
    Literal["float", "base64"], Field(description="base64 holds little-endian fp32")
]
Timeout = Annotated[
    int | None, Field(ge=1, description="Deadline of the request; a late request fails with 504")
]
StageTimes = Annotated[dict[str, float], Field(description="Milliseconds by stage")]


class Body(BaseModel):
    """A request body. Unknown fields are refused, and no value is converted."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class EncodeRequest(Body):
    """The texts to embed."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"texts": ["Nairobi"], "role": "passage"}]}
    )

    texts: Annotated[
        list[Text],
        Field(min_length=1, max_length=MAX_TEXTS),
        BeforeValidator(_as_list, json_schema_input_type=Text | list[Text]),
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
