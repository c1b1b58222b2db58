"""What the settings leave open, the table of measured speeds decides."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.retrieval.encoder.runtime import cpu
from service.retrieval.encoder.runtime.cpu import (
    Choice,
    choice_of,
    choices,
    choose_cpu,
    passes_int8,
    read_table,
)
from service.retrieval.errors import DeviceError

AMX, BF16, VNNI, AVX2 = {"amx_bf16"}, {"avx512_bf16", "avx512_vnni"}, {"avx512_vnni"}, {"avx2"}
BUNDLED = "34b87bcd7e556484c80bbce1bbf6ebb9c037fdc5b8a2d31b5ce54dfe2520de1f"
SPEEDS = {
    "openvino-ir-fp32": [10, 10, 10],
    "openvino-ir-bf16": [11, 11, 11],
    "openvino-ir-int8": [40, 10, 5],
    "torch-fp32": [10, 10, 10.1],
}


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """A table of two processors, which a test changes before it is read."""
    content: dict[str, Any] = {
        "processors": [
            {"flags": ["avx512_vnni"], "per_second": dict(SPEEDS)},
            {"flags": [], "per_second": {"openvino-ir-fp32": [10, 10, 10]}},
        ],
        "quality": [],
    }
    monkeypatch.setattr(cpu, "read_table", lambda: content)
    yield content


def choose(flags: set[str], **options: bool) -> Choice:
    return choose_cpu("auto", "auto", flags=flags, **{"has_openvino": True, **options})


@pytest.mark.parametrize(
    ("cpu_engine", "precision", "flags", "has_openvino", "expected"),
    [
        ("auto", "auto", AMX, True, Choice("openvino", "bf16")),
        ("auto", "auto", BF16, True, Choice("openvino", "bf16")),
        ("auto", "auto", VNNI, True, Choice("openvino", "fp32")),
        ("auto", "auto", AVX2, True, Choice("openvino", "fp32")),
        ("auto", "auto", set(), True, Choice("openvino", "fp32")),
        ("auto", "auto", BF16, False, Choice("torch", "bf16")),
        ("auto", "auto", AVX2, False, Choice("torch", "fp32")),
        ("auto", "fp32", BF16, True, Choice("openvino", "fp32")),
        ("torch", "fp32", BF16, True, Choice("torch", "fp32")),
        ("torch", "auto", BF16, True, Choice("torch", "bf16")),
        ("openvino", "auto", AVX2, True, Choice("openvino", "fp32")),
        ("openvino", "bf16", BF16, True, Choice("openvino", "bf16")),
        ("auto", "int8", BF16, True, Choice("openvino", "int8")),
        ("auto", "int8", AVX2, True, Choice("openvino", "int8")),
    ],
)
def test_settings_and_machine_choose(
    cpu_engine: str, precision: str, flags: set[str], has_openvino: bool, expected: Choice
) -> None:
    assert choose_cpu(cpu_engine, precision, flags=flags, has_openvino=has_openvino) == expected


@pytest.mark.parametrize("row", read_table()["processors"], ids=lambda row: "-".join(row["flags"]))
def test_each_row_of_the_table_says_where_its_figures_come_from(row: dict[str, Any]) -> None:
    assert row["date"] and row["source"]
    assert {"openvino-ir-fp32", "torch-fp32"} <= set(row["per_second"])
    assert all(len(speeds) == 3 and min(speeds) > 0 for speeds in row["per_second"].values())


@pytest.mark.parametrize("bf16_flag", ["amx_bf16", "avx512_bf16"])
def test_vnni_means_int8_for_the_bundled_encoder_where_there_is_no_bf16(bf16_flag: str) -> None:
    assert choose(VNNI, passes_int8=passes_int8(BUNDLED)) == Choice("openvino", "int8")
    assert choose(VNNI, passes_int8=passes_int8("another encoder")).precision == "fp32"
    assert choose({*VNNI, bf16_flag}, passes_int8=passes_int8(BUNDLED)).precision == "bf16"
    assert choose(AVX2, passes_int8=passes_int8(BUNDLED)).precision == "fp32"


def test_the_last_row_fits_any_processor() -> None:
    assert read_table()["processors"][-1]["flags"] == []


def test_int8_is_chosen_only_for_an_encoder_that_passed_the_gate(table: dict[str, Any]) -> None:
    table["quality"] = [
        {"precision": "int8", "passes": True, "fingerprints": ["good"]},
        {"precision": "int8", "passes": False, "fingerprints": ["bad"]},
        {"precision": "bf16", "passes": True, "fingerprints": ["bad"]},
    ]

    assert [passes_int8(name) for name in ("good", "bad", "unknown")] == [True, False, False]
    assert choose(VNNI, passes_int8=True) == Choice("openvino", "int8")
    assert choose(VNNI, passes_int8=False).precision == "fp32"


def test_a_processor_gets_the_first_row_whose_instructions_it_has(table: dict[str, Any]) -> None:
    assert choose(AVX2, passes_int8=True) == Choice("openvino", "fp32")


def test_the_mean_over_the_batch_sizes_is_geometric(table: dict[str, Any]) -> None:
    table["processors"][0]["per_second"]["openvino-ir-int8"] = [40, 10, 4]  # 11.7; at 5 it is 12.6

    assert choose(VNNI, passes_int8=True) == Choice("openvino", "int8")
    table["processors"][0]["per_second"]["openvino-ir-int8"] = [30, 10, 5]  # 11.4 of 10.03

    assert choose(VNNI, passes_int8=True) == Choice("torch", "fp32")


def test_a_less_exact_precision_needs_a_clear_gain(table: dict[str, Any]) -> None:
    flags = {"avx512_vnni", "avx512_bf16"}

    assert choose(flags).precision == "fp32"  # 11 is less than 1.15 times 10
    table["processors"][0]["per_second"]["openvino-ir-bf16"] = [12, 12, 12]

    assert choose(flags) == Choice("openvino", "bf16")


@pytest.mark.parametrize(
    ("cpu_engine", "precision", "reason"),
    [
        ("onnx", "auto", "CLEAR_CPU_ENGINE=onnx is unknown: set auto, torch or openvino"),
        ("torch", "int8", "CLEAR_PRECISION=int8 .* CLEAR_CPU_ENGINE=torch: .* auto, fp32, bf16"),
        ("auto", "fp16", "CLEAR_PRECISION=fp16 .* CLEAR_CPU_ENGINE=auto: .* auto, fp32, bf16"),
        (
            "torch",
            "bf16",
            r"CLEAR_PRECISION=bf16 needs a CPU .* \(amx_bf16, avx512_bf16\).*=auto or fp32",
        ),
        ("openvino", "fp32", r"CLEAR_CPU_ENGINE=openvino needs .* 'clear-search\[cpu\]'"),
    ],
)
def test_a_contradiction_names_the_settings_and_the_fix(
    cpu_engine: str, precision: str, reason: str
) -> None:
    with pytest.raises(DeviceError, match=reason) as caught:
        choose_cpu(cpu_engine, precision, flags=AVX2, has_openvino=False)

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("choice", choices())
def test_a_choice_is_found_by_the_name_of_its_runtime(choice: Choice) -> None:
    assert choice_of(choice.name) == choice


@pytest.mark.parametrize("name", ["openvino-bf16", "published-fp16", "cuda-fp16", "fake", ""])
def test_a_runtime_that_no_setting_selects_is_no_choice(name: str) -> None:
    assert choice_of(name) is None
