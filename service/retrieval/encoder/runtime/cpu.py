"""The CPU engines, and the choice among them: what the settings leave open, a table decides.

The table, `speeds.json`, holds questions a second by instructions of the CPU, and the encoders that
passed the quality gate in int8. `python -m tests.bench.cpu_engines --table` and
`python -m tests.bench.precision_gate --table` write it.
"""

import json
import math
from collections.abc import Mapping, Sequence, Set
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from service.retrieval.errors import DeviceError
from service.retrieval.hardware import BF16_FLAGS

# Precisions of each engine, the exact one first.
CPU_ENGINES = {"torch": ("fp32", "bf16"), "openvino": ("fp32", "bf16", "int8")}
# As manifests of indexes record them; `openvino-*` without `ir` had other graphs.
RUNTIME_NAMES = {"torch": "torch", "openvino": "openvino-ir"}
# Ends the name in a manifest where the passages had fixed shapes (`Runtime.passage_shape`). Older
# vectors of such a runtime rounded by what was embedded with them: they are not mixed.
FIXED = "-fixed"
TABLE = Path(__file__).parent / "speeds.json"
# A less exact precision must be this many times as fast.
MIN_GAIN = 1.15


class Choice(NamedTuple):
    """A CPU engine and its precision, such as `openvino` and `bf16`."""

    engine: str
    precision: str

    @property
    def name(self) -> str:
        """Return the name of the runtime."""
        return f"{RUNTIME_NAMES[self.engine]}-{self.precision}"


@cache
def choices() -> tuple[Choice, ...]:
    """Return each engine in each precision, the most exact first, OpenVINO before torch."""
    return tuple(
        Choice(engine, precision)
        for precision in CPU_ENGINES["openvino"]
        for engine in ("openvino", "torch")
        if precision in CPU_ENGINES[engine]
    )


def choose_cpu(
    cpu_engine: str,
    precision: str,
    *,
    flags: Set[str],
    has_openvino: bool,
    passes_int8: bool = False,
) -> Choice:
    """Choose what the settings name, and where they say `auto`, what is fastest on such a CPU.

    Nothing else counts, so that replicas on machines with the same instructions agree.

    Args:
        cpu_engine: `auto`, `torch` or `openvino`.
        precision: `auto`, `fp32`, `bf16` or `int8`.
        flags: instructions of the CPU.
        has_openvino: OpenVINO is installed.
        passes_int8: the encoder passed the quality gate in int8, without which `auto` avoids it.

    Raises:
        DeviceError: the settings contradict each other, or the machine does not support them.
    """
    has_bf16 = not BF16_FLAGS.isdisjoint(flags)
    engines = [cpu_engine]
    if cpu_engine == "auto":
        engines = [name for name in CPU_ENGINES if has_openvino or name != "openvino"]
    elif cpu_engine not in CPU_ENGINES:
        raise DeviceError(
            f"CLEAR_CPU_ENGINE={cpu_engine} is unknown: set auto, {' or '.join(CPU_ENGINES)}"
        )
    precisions = CPU_ENGINES[engines[-1]]  # the last engine has those of all
    if precision not in ("auto", *precisions):
        raise DeviceError(
            f"CLEAR_PRECISION={precision} is not supported by CLEAR_CPU_ENGINE={cpu_engine}: "
            f"set CLEAR_PRECISION to one of auto, {', '.join(precisions)}"
        )
    if cpu_engine == "openvino" and not has_openvino:
        raise DeviceError(
            "CLEAR_CPU_ENGINE=openvino needs its packages: pip install 'clear-search[cpu]', "
            "or set CLEAR_CPU_ENGINE=auto"
        )
    if precision == "bf16" and not has_bf16:
        raise DeviceError(
            "CLEAR_PRECISION=bf16 needs a CPU with bf16 instructions (amx_bf16, avx512_bf16), "
            "without which it is slower than fp32: set CLEAR_PRECISION=auto or fp32"
        )
    may_be_chosen = {"fp32": True, "bf16": has_bf16, "int8": passes_int8}
    allowed = {name for name, may_be in may_be_chosen.items() if may_be}
    if precision != "auto":
        allowed = {precision}
    found = [each for each in choices() if each.engine in engines and each.precision in allowed]
    return fastest(found, flags)


def fastest(choices: Sequence[Choice], flags: Set[str]) -> Choice:
    """Return the fastest choice on such a CPU; a less exact one only if it gains `MIN_GAIN`.

    Args:
        choices: the most exact ones first; one that was not measured is the slowest.
        flags: instructions of the CPU.
    """
    measured = speeds_on(flags)
    best, best_speed = choices[0], measured.get(choices[0].name, 0.0)
    for choice in choices[1:]:
        speed = measured.get(choice.name, 0.0)
        least = best_speed if choice.precision == best.precision else MIN_GAIN * best_speed
        if speed > least:
            best, best_speed = choice, speed
    return best


def speeds_on(flags: Set[str]) -> Mapping[str, float]:
    """Return questions a second by runtime, of the first row of the table that fits a CPU.

    A row has the speeds in batches of 1, 8 and 32; the result is their geometric mean.
    """
    row = next(row for row in read_table()["processors"] if flags >= set(row["flags"]))
    return {
        name: math.prod(speeds) ** (1 / len(speeds)) for name, speeds in row["per_second"].items()
    }


def passes_int8(fingerprint: str) -> bool:
    """Return whether the table says that a transformer passed the quality gate in int8."""
    return any(
        gate["passes"] and gate["precision"] == "int8" and fingerprint in gate["fingerprints"]
        for gate in read_table()["quality"]
    )


def choice_of(runtime: str) -> Choice | None:
    """Return the choice that a runtime's name in a manifest stands for; None if a GPU computed."""
    name = runtime.removesuffix(FIXED)
    return next((choice for choice in choices() if choice.name == name), None)


@cache
def read_table() -> dict[str, Any]:
    """Read the table, which the package holds."""
    table: dict[str, Any] = json.loads(TABLE.read_bytes())
    return table
