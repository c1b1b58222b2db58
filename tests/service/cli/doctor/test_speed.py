"""What `clear-service bench` measures, and the settings that it names."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.cli.doctor import speed
from service.cli.doctor.speed import PASSAGES, QUESTIONS, Speed, advice, measure_all
from service.cli.main import app
from service.retrieval.encoder.encoder import Encoder
from service.retrieval.errors import DeviceError
from service.retrieval.hardware import Contention
from service.settings.settings import Settings
from tests.support.fake_runtime import FakeRuntime

USED = Speed("openvino-ir-fp32", {}, 2.0, 700.0, 10.0, 100.0, 1000.0)


def int8(question_ms: float, questions: float, passages: float) -> Speed:
    settings = {"cpu_engine": "openvino", "precision": "int8"}
    return Speed("openvino-ir-int8", settings, 2.0, None, question_ms, questions, passages)


@pytest.mark.parametrize(
    ("other", "differences"),
    [
        (int8(10.0, 150.0, 1000.0), "1.50 times the questions a second"),
        (int8(8.0, 100.0, 1000.0), "1.25 times the speed of one question"),
        (
            int8(20.0, 100.0, 2000.0),
            "0.50 times the speed of one question, 2.00 times the passages a minute",
        ),
        (
            int8(8.0, 150.0, float("nan")),
            "1.25 times the speed of one question, 1.50 times the questions a second",
        ),
    ],
)
def test_settings_that_are_clearly_faster_are_named_with_what_they_gain_and_lose(
    other: Speed, differences: str
) -> None:
    [line] = advice([USED, other])

    assert line == (
        f"CLEAR_CPU_ENGINE=openvino CLEAR_PRECISION=int8: {differences}, compared with "
        "openvino-ir-fp32; an index keeps the vectors of the runtime that built it, so build it "
        "again with these"
    )


@pytest.mark.parametrize("other", [int8(9.0, 110.0, 1100.0), int8(30.0, 10.0, 1000.0)])
def test_a_difference_that_may_be_noise_or_a_slower_runtime_is_no_advice(other: Speed) -> None:
    [line] = advice([USED, other])

    assert line == (
        "no other runtime here is 1.15 times as fast as openvino-ir-fp32 for one question, many, "
        "or passages (measured beside: openvino-ir-int8)"
    )


def test_passages_are_measured_by_the_side_that_encodes_them(
    tuned_encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes = {"query": FakeRuntime(16), "passage": FakeRuntime(16)}
    encoder = tuned_encoder.with_runtimes(lambda runtime, side: fakes[side])
    monkeypatch.setattr(speed, "load_encoder_of", lambda settings: encoder)
    monkeypatch.setattr(speed, "STEP_SECONDS", 0.0)
    speed.measure(Settings(cache=tmp_path), {})

    assert set(fakes["query"].batch_sizes) == {1, QUESTIONS}
    assert set(fakes["passage"].batch_sizes) == {PASSAGES}


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


def test_on_a_busy_machine_bench_says_so_and_recommends_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(speed, "measure_all", lambda settings: [USED, int8(1.0, 900.0, 9000.0)])
    monkeypatch.setattr(Contention, "warning", lambda self: "others took 1.3 cores")

    result = CliRunner().invoke(app, ["bench", "--json"])

    assert json.loads(result.stdout)["advice"] == ["others took 1.3 cores"]
