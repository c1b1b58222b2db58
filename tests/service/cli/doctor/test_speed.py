"""What `clear-service bench` measures, and the settings that it names."""

from dataclasses import replace
from pathlib import Path

import pytest

from service.cli.doctor import speed
from service.cli.doctor.speed import Speed, advice, measure_all
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.errors import DeviceError
from service.settings.settings import Settings

USED = Speed("openvino-ir-fp32", {}, 2.0, 700.0, 10.0, 100.0, 1000.0)


def with_speed(questions: float) -> Speed:
    settings = {"cpu_engine": "openvino", "precision": "int8"}
    return replace(
        USED, runtime="openvino-ir-int8", settings=settings, questions_per_second=questions
    )


def test_a_setting_that_is_clearly_faster_is_named_with_its_gain() -> None:
    [line] = advice([USED, with_speed(150)])

    assert line.startswith("CLEAR_CPU_ENGINE=openvino CLEAR_PRECISION=int8: 1.50 times")


def test_a_difference_that_may_be_noise_is_no_advice() -> None:
    [line] = advice([USED, with_speed(110)])

    assert line == (
        "no other runtime here answers 1.15 times the questions a second of openvino-ir-fp32 "
        "(measured beside: openvino-ir-int8)"
    )


def test_what_is_used_comes_first_each_runtime_once_and_what_cannot_load_is_left_out(
    tiny_checkpoint: Path, tiny_encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def load(settings: Settings) -> Encoder:
        tried.append((settings.cpu_engine, settings.precision))
        if settings.cpu_engine == "openvino":
            raise DeviceError("not installed")
        return tiny_encoder

    monkeypatch.setattr(speed, "load_encoder_of", load)
    monkeypatch.setattr(speed, "multiplies_bf16", lambda: False)
    monkeypatch.setattr(speed, "STEP_SECONDS", 0.0)
    settings = Settings(encoder=str(tiny_checkpoint), cache=tmp_path, device="cpu")
    [found] = measure_all(settings)

    assert tried[1:] == [("openvino", "fp32"), ("openvino", "int8"), ("torch", "fp32")]
    assert (found.runtime, found.settings) == ("torch-fp32", {})
    assert found.memory_mib and found.questions_per_second > 0 and found.passages_per_minute > 0


def test_nothing_further_is_loaded_after_the_time_is_up(
    tiny_checkpoint: Path, tiny_encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "load_encoder_of", lambda settings: tiny_encoder)
    monkeypatch.setattr(speed, "STEP_SECONDS", 0.0)
    monkeypatch.setattr(speed, "LIMIT_SECONDS", 0.0)

    speeds = measure_all(Settings(encoder=str(tiny_checkpoint), cache=tmp_path))

    assert len(speeds) == 1
    assert advice(speeds)[0].startswith("no other runtime was measured")
