from typing import Any

import pytest
from transformers import PreTrainedModel

from service.retrieval.encoder.runtime import weights

load_model = weights.load_model


@pytest.fixture
def loaded_models(monkeypatch: pytest.MonkeyPatch) -> list[PreTrainedModel]:
    """The transformers that the test loads: of an encoder of two sides, first the passage side."""
    models: list[PreTrainedModel] = []

    def load_and_keep(*arguments: Any) -> PreTrainedModel:
        models.append(load_model(*arguments))
        return models[-1]

    monkeypatch.setattr(weights, "load_model", load_and_keep)
    return models
