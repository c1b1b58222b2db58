"""Bodies of the routes that speak OpenAI's language, with their limits."""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from service.api.schemas import Body, Dimensions, Text

MAX_INPUTS = 2048


def _as_texts(content: object) -> object:
    if isinstance(content, str):
        return [content]
    if isinstance(content, list) and any(isinstance(each, int | list) for each in content):
        raise PydanticCustomError(
            "tokens",
            "must be texts: ids of another tokenizer's tokens mean nothing to this encoder "
            "(in LangChain: check_embedding_ctx_length=False)",
        )
    return content


class EmbeddingsRequest(Body):
    """What to embed."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"model": "bundled:query", "input": ["Nairobi"]}]}
    )

    model: Annotated[
        str,
        Field(
            max_length=1024,
            description="A name of `/v1/models`; `:query` and `:passage` choose the prompt",
        ),
    ]
    input: Annotated[
        list[Text],
        Field(min_length=1, max_length=MAX_INPUTS),
        BeforeValidator(_as_texts, json_schema_input_type=Text | list[Text]),
        Field(description="One text or several; no token ids"),
    ]
    encoding_format: Annotated[
        Literal["float", "base64"], Field(description="base64 holds little-endian fp32")
    ] = "float"
    dimensions: Dimensions = None
    user: Annotated[str | None, Field(max_length=1024, description="Not used and not kept")] = None


class Embedding(BaseModel):
    """One text's unit-norm embedding."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingsUsage(BaseModel):
    """What a request cost."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsResponse(BaseModel):
    """One embedding a text, in order."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingsUsage


class Model(BaseModel):
    """A name that `model` may have."""

    id: str
    object: Literal["model"] = "model"
    created: Annotated[int, Field(description="When the live index was made, Unix seconds")]
    owned_by: Literal["clear-search"] = "clear-search"


class Models(BaseModel):
    """All of them."""

    object: Literal["list"] = "list"
    data: list[Model]
