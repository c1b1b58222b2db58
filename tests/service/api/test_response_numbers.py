import json
import math

import numpy as np
import pytest

from service.api.response import json_response, naming_text, truncate_embeddings
from service.errors import InvalidEmbeddingError


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_json_never_holds_nan_or_infinity(value: float) -> None:
    response = json_response({"score": value, "scores": [1.0, value]}, {})

    def refuse(name: str) -> None:
        raise AssertionError(name)

    found = json.loads(bytes(response.body), parse_constant=refuse)
    assert found == {"score": None, "scores": [1.0, None]}


def test_an_embedding_whose_first_dimensions_are_zero_is_refused_by_its_position() -> None:
    embeddings = np.array([[0.6, 0.0, 0.8], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]], np.float32)

    assert truncate_embeddings(embeddings, 3).tolist() == embeddings.tolist()
    with pytest.raises(InvalidEmbeddingError) as caught:
        truncate_embeddings(embeddings, 2)

    assert caught.value.position == 1


@pytest.mark.parametrize(("is_list", "field"), [(True, "queries[4]"), (False, "queries")])
def test_an_invalid_embedding_is_named_by_its_field(is_list: bool, field: str) -> None:
    with pytest.raises(InvalidEmbeddingError) as caught, naming_text("queries", is_list=is_list):
        raise InvalidEmbeddingError(4)

    assert (caught.value.field, caught.value.position) == (field, 4)
    assert str(caught.value).startswith(f"{field}: the encoder gives NaN, infinity or zero")
