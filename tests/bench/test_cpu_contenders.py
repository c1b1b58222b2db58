"""Which engines the benchmark of CPU engines leaves out."""

import pytest

from tests.bench import cpu_contenders
from tests.bench.cpu_contenders import NAMES, unrunnable


@pytest.fixture
def everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that runs every engine."""
    monkeypatch.setattr(cpu_contenders, "multiplies_bf16", lambda: True)
    monkeypatch.setattr(cpu_contenders, "find_spec", lambda name: name)
    monkeypatch.setattr("shutil.which", lambda name: name)


@pytest.mark.usefixtures("everything")
def test_a_complete_machine_runs_every_engine() -> None:
    assert {name for name in NAMES if unrunnable(name)} == set()


@pytest.mark.usefixtures("everything")
def test_engines_in_bf16_are_left_out_without_its_instructions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cpu_contenders, "multiplies_bf16", lambda: False)

    left_out = {name for name in NAMES if unrunnable(name)}

    assert left_out == {"torch-bf16", "compile-bf16", "openvino-bf16"}


@pytest.mark.usefixtures("everything")
@pytest.mark.parametrize(
    ("package", "expected"),
    [
        ("onnxruntime", {"onnx-fp32", "onnx-int8-dynamic", "onnx-int8-static"}),
        ("nncf", {"openvino-int8-static"}),
    ],
)
def test_engines_whose_package_is_missing_are_left_out(
    monkeypatch: pytest.MonkeyPatch, package: str, expected: set[str]
) -> None:
    monkeypatch.setattr(cpu_contenders, "find_spec", lambda name: None if name == package else name)

    assert {name for name in NAMES if package in unrunnable(name)} == expected


@pytest.mark.usefixtures("everything")
def test_compiled_engines_are_left_out_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)

    assert {name for name in NAMES if unrunnable(name)} == {"compile-fp32", "compile-bf16"}
