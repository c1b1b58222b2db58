"""What the bodies of all routes share, with their limits; problems, and the answer to a reload."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

MAX_CHARACTERS = 32_768


def _check_text(text: str) -> str:
    if "\x00" in text:
        raise PydanticCustomError("nul", "must not hold a NUL character")
    if not text.strip():
        raise PydanticCustomError("blank", "must not be empty")
    return text


Text = Annotated[str, Field(min_length=1, max_length=MAX_CHARACTERS), AfterValidator(_check_text)]
Dimensions = Annotated[int | None, Field(ge=1, description="Keep the first dimensions only")]
Timeout = Annotated[int | None, Field(ge=1, description="Answer by then or give up with 504")]
StageTimes = Annotated[dict[str, float], Field(description="Milliseconds by stage")]


class Body(BaseModel):
    """A request body: an unknown field is refused, never ignored; no value is converted."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class IndexInfo(BaseModel):
    """Which index answered."""

    generation: str
    passages: int


class ReloadResponse(BaseModel):
    """What a reload did."""

    result: Annotated[
        Literal["swapped", "unchanged"],
        Field(description="unchanged: the generation that CURRENT names was live already"),
    ]
    index: IndexInfo
    took_ms: float


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    field: Annotated[str | None, Field(description="Which field of the body is wrong")] = None
    request_id: Annotated[
        str | None, Field(description="As in the header X-Request-Id and in the service's log")
    ] = None
