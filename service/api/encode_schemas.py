"""Request and response bodies of `/encode`, with their limits."""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from service.api.schemas import Body, Dimensions, StageTimes, Text, Timeout

MAX_TEXTS = 256


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


class EncodeRequest(Body):
    """What to embed."""

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
        Literal["query", "passage"], Field(description="Which prompt and which side of the encoder")
    ]
    dimensions: Dimensions = None
    encoding_format: Annotated[
        Literal["float", "base64"], Field(description="base64 holds little-endian fp32")
    ] = "float"
    timeout_ms: Timeout = None


class Usage(BaseModel):
    """What a request cost."""

    tokens: int
    truncated_texts: Annotated[int, Field(description="Texts cut at the encoder's limit")]


class EncodeResponse(BaseModel):
    """One unit-norm embedding a text, in order."""

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
