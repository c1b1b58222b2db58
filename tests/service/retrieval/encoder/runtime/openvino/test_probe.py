"""The probe's check of a runtime, by a runtime without weights: no graph is made."""

import logging
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import Tensor

from service.retrieval.encoder.runtime.openvino.probe import TEXTS, check_runtime, write_probe
from service.retrieval.errors import CheckpointError
from tests.conftest import tiny_tokenizer
from tests.support.fake_runtime import FakeRuntime

MAX_TOKENS = 64


class SpoilingRuntime(FakeRuntime):
    """Spoils the embeddings of some rows of each batch of several texts, or of every batch."""

    def __init__(self, rows: slice, value: float = np.nan, spoils_lone: bool = False) -> None:
        super().__init__(32)
        self._rows, self._value, self._spoils_lone = rows, value, spoils_lone

    def embed(self, token_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> Tensor:
        embeddings = super().embed(token_ids, attention_mask)
        if len(embeddings) > 1 or self._spoils_lone:
            embeddings[self._rows] = self._value
        return embeddings


def probe(directory: Path, reference: FakeRuntime) -> Path:
    write_probe(directory, reference, tiny_tokenizer(), MAX_TOKENS, pad_id=1)
    return directory


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_a_reference_without_a_unit_vector_blames_the_encoder_and_no_runtime(
    tmp_path: Path, value: float
) -> None:
    spoiled = SpoilingRuntime(slice(None), value, spoils_lone=True)

    with pytest.raises(CheckpointError, match="also by torch in fp32: its weights") as caught:
        check_runtime(FakeRuntime(32), probe(tmp_path, spoiled), "fp32")

    assert "runtime" not in str(caught.value)


def test_a_text_without_a_reference_is_not_compared_and_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = probe(tmp_path, SpoilingRuntime(slice(1, 3)))

    with caplog.at_level(logging.WARNING):
        check_runtime(FakeRuntime(32), directory, "fp32")

    assert f"zero for 2 of {len(TEXTS) + 1} probe texts, also by torch in fp32" in caplog.text


@pytest.mark.parametrize("value", [np.nan, 0.0])
def test_a_runtime_that_spoils_a_text_with_a_reference_is_wrong(
    tmp_path: Path, value: float
) -> None:
    directory = probe(tmp_path, FakeRuntime(32))

    with pytest.raises(CheckpointError, match="the runtime fake is wrong on this machine"):
        check_runtime(SpoilingRuntime(slice(4, 5), value), directory, "int8")
