"""Request and response bodies of OpenAI's embeddings API, with their limits."""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from service.api.schemas import Body, Dimensions, EncodingFormat, Text

MAX_INPUTS = 2048
Inputs = Annotated[list[Text], Field(min_length=1, max_length=MAX_INPUTS)]


def _as_texts(content: object) -> object:
    if isinstance(content, str):
        return [content]
    if isinstance(content, list) and any(isinstance(each, int | list) for each in content):
        raise PydanticCustomError(
            "tokens",
            "must be texts: token ids of another tokenizer mean nothing to this encoder "
            "(in LangChain: check_embedding_ctx_length=False)",
        )
    return content


class EmbeddingsRequest(Body):
    """The texts to embed. Unknown fields, which clients of other servers send, are ignored."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={"examples": [{"model": "bundled:query", "input": ["Nairobi"]}]},
    )

    model: Annotated[
        str,
        Field(
            max_length=1024,
            description="A name of `/v1/models`; `:query` and `:passage` select the prompt",
        ),
    ]
    input: Annotated[
        Inputs,
        BeforeValidator(_as_texts, json_schema_input_type=Text | Inputs),
        Field(description="One text or several; no token ids"),
    ]
    encoding_format: EncodingFormat = "float"
    dimensions: Dimensions = None
    user: Annotated[str | None, Field(max_length=1024, description="Ignored and not stored")] = None


class Embedding(BaseModel):
    """The unit-norm embedding of one text."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingsUsage(BaseModel):
    """Tokens that a request used."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsResponse(BaseModel):
    """One embedding for each text, in order."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingsUsage


class Model(BaseModel):
    """A name that `model` accepts."""

    id: str
    object: Literal["model"] = "model"
    created: Annotated[int, Field(description="Creation time of the live index, in Unix seconds")]
    owned_by: Literal["clear-search"] = "clear-search"


class Models(BaseModel):
    """All names that `model` accepts."""

    object: Literal["list"] = "list"
    data: list[Model]
