"""What `clear-service doctor` says of each engine and of the longest text."""

from pathlib import Path

import pytest

from service.cli.doctor import engines as doctor_engines
from service.cli.doctor.engines import examine_engines, examine_longest_text
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.errors import CheckpointError
from service.settings.settings import Settings


@pytest.fixture
def auto(tiny_checkpoint: Path, tmp_path: Path) -> Settings:
    return Settings(encoder=str(tiny_checkpoint), cache=tmp_path, device="cpu", cpu_engine="auto")


def test_each_engine_embeds_a_text_and_the_one_that_is_used_comes_first(
    auto: Settings, tiny_encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def load(settings: Settings) -> Encoder:
        tried.append(settings.cpu_engine)
        return tiny_encoder

    monkeypatch.setattr(doctor_engines, "load_encoder_of", load)
    found = dict(examine_engines(auto, tiny_encoder))

    assert list(found) == ["torch", "openvino"]
    assert tried == ["openvino"]
    assert found["torch"].startswith("torch-fp32: a text of ")
    assert "used: CLEAR_CPU_ENGINE=auto falls back to it where openvino" in found["torch"]
    assert found["openvino"].endswith("cosine 1.00000 to torch-fp32, not used")


def test_an_engine_that_cannot_encode_says_why(
    auto: Settings, tiny_encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(settings: Settings) -> Encoder:
        raise CheckpointError("no graph")

    monkeypatch.setattr(doctor_engines, "load_encoder_of", load)

    assert dict(examine_engines(auto, tiny_encoder))["openvino"] == "cannot encode: no graph"


def test_an_engine_that_the_settings_exclude_is_not_tried(
    auto: Settings, tiny_encoder: Encoder
) -> None:
    settings = auto.model_copy(update={"cpu_engine": "torch"})

    found = dict(examine_engines(settings, tiny_encoder))

    assert found["torch"].endswith("used: CLEAR_CPU_ENGINE=torch")
    assert found["openvino"] == "not tried, as CLEAR_CPU_ENGINE=torch"


def test_the_longest_text_is_reported_with_memory_and_seconds(
    auto: Settings, tiny_encoder: Encoder
) -> None:
    found = examine_longest_text(auto, tiny_encoder)

    # 64 tokens of 12 * 32 + 4 * 64 values of 4 bytes, and 5 bytes a pair of tokens: 184,320 bytes
    assert found.startswith("64 tokens take about ")
    assert found.endswith(" s, and at most 1 MB beside the weights")
