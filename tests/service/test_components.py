"""Which runtime encodes what is added to an index: the one that embedded it."""

from pathlib import Path

import pytest

from service import components
from service.components import load_encoder_of, settings_for_update
from service.retrieval.encoder import loader
from service.retrieval.encoder.bulk import EncoderIdentity
from service.retrieval.encoder.runtime.choice import Choice, RuntimeOptions
from service.retrieval.errors import DeviceError
from service.settings.settings import Settings
from tests.support.fake_runtime import FakeRuntime


def settings(**named: str) -> Settings:
    return Settings(**{"device": "cpu", "cpu_engine": "auto", "precision": "auto", **named})  # type: ignore[arg-type]


def chosen(found: Settings) -> tuple[str, str]:
    return found.cpu_engine, found.precision


@pytest.mark.parametrize(
    ("runtime", "expected"),
    [
        ("torch-fp32", ("torch", "fp32")),
        ("openvino-ir-fp32", ("openvino", "fp32")),
        ("openvino-ir-int8", ("openvino", "int8")),
        ("openvino-ir-int8-fixed", ("openvino", "int8")),
        ("published-fp16", ("auto", "auto")),
        ("cuda-fp16", ("auto", "auto")),
        (None, ("auto", "auto")),
    ],
)
def test_an_update_encodes_by_the_runtime_that_embedded_the_index(
    runtime: str | None, expected: tuple[str, str]
) -> None:
    pytest.importorskip("openvino")

    assert chosen(settings_for_update(settings(), runtime)) == expected


def test_a_setting_of_another_engine_or_precision_counts_more_than_the_index() -> None:
    named = settings(precision="fp32")

    assert chosen(settings_for_update(named, "openvino-ir-int8")) == ("auto", "fp32")
    assert chosen(settings_for_update(named, "torch-fp32")) == ("torch", "fp32")
    assert settings_for_update(settings(cpu_engine="torch"), "openvino-ir-fp32").precision == "auto"


def test_a_runtime_that_does_not_run_here_is_refused_with_both_ways_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(cpu_engine: str, precision: str) -> Choice:
        raise DeviceError(f"no {precision} here")

    monkeypatch.setattr(components, "choose_here", refuse)

    with pytest.raises(DeviceError) as caught:
        settings_for_update(settings(), "torch-bf16")

    assert str(caught.value) == (
        "the index was embedded by torch-bf16, which does not run here: no bf16 here; or set "
        "CLEAR_CPU_ENGINE and CLEAR_PRECISION to what does, to embed every passage again"
    )


@pytest.mark.parametrize(
    ("runs_here", "expected"),
    [(True, [("auto", "auto"), ("torch", "fp32")]), (False, [("auto", "auto")] * 2)],
)
def test_a_passage_side_of_its_own_is_loaded_by_the_runtime_of_the_index_if_that_runs_here(
    tuned_checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    runs_here: bool,
    expected: list[tuple[str, str]],
) -> None:
    loaded = []

    def load(layout: object, name: str, options: RuntimeOptions, **_: object) -> FakeRuntime:
        loaded.append((options.cpu_engine, options.precision))
        return FakeRuntime(16)

    def choose_here(cpu_engine: str, precision: str) -> Choice:
        if not runs_here:
            raise DeviceError("not here")
        return Choice(cpu_engine, precision)

    monkeypatch.setattr(loader, "load_runtime", load)
    monkeypatch.setattr(components, "choose_here", choose_here)
    encoder = load_encoder_of(settings(encoder=str(tuned_checkpoint)), "torch-fp32")
    EncoderIdentity.of(encoder)

    assert loaded == expected
