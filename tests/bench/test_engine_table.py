"""What the benchmarks write into the table from which `auto` chooses."""

import argparse
import json
import multiprocessing
from pathlib import Path
from types import SimpleNamespace

import pytest

from service.retrieval.encoder.runtime.memory import TextCost
from service.retrieval.errors import CheckpointError
from tests.bench import cpu_engines, precision_gate
from tests.bench.cpu_engines import _Worker, write_row
from tests.bench.precision_gate import gate_of, write_gates
from tests.bench.product import operations_of

SPEEDS = {"openvino-bf16": {"per_second_1": 3.0, "per_second_8": 2.0, "per_second_32": 1.0}}


def table(tmp_path: Path, *flags: list[str]) -> Path:
    rows = [{"flags": each, "per_second": {}} for each in flags]
    path = tmp_path / "speeds.json"
    path.write_text(json.dumps({"processors": rows, "quality": []}))
    return path


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["b"], [["a", "b"], ["b"], []]),
        ([], [["a", "b"], ["b"], []]),
        (["c"], [["a", "b"], ["b"], ["c"], []]),
        (["a", "c"], [["a", "b"], ["a", "c"], ["b"], []]),
    ],
)
def test_a_row_replaces_that_of_its_flags_or_goes_before_those_with_fewer(
    tmp_path: Path, flags: list[str], expected: list[list[str]]
) -> None:
    path = table(tmp_path, ["a", "b"], ["b"], [])

    write_row(path, flags, SPEEDS, "result.json", "AVX2")

    rows = json.loads(path.read_text())["processors"]
    assert [row["flags"] for row in rows] == expected
    [row] = [row for row in rows if row["flags"] == flags]
    assert row["per_second"] == {"openvino-ir-bf16": [3.0, 2.0, 1.0]}
    assert row["source"] == "result.json" and row["cpu"].endswith("limited to AVX2")


def test_the_row_of_an_engine_that_fails_says_why_and_the_table_has_none(tmp_path: Path) -> None:
    class Died(_Worker):
        def __init__(self, exit_code: int) -> None:
            ours, theirs = multiprocessing.Pipe()
            theirs.close()
            self.name, self.row, self._connection = "openvino-int8", {}, ours
            self._process = SimpleNamespace(join=lambda: None, exitcode=exit_code)

    killed, failed = Died(-4), Died(1)

    assert killed.ask(8) == failed.ask("facts") == killed.ask("facts") == {}
    killed.end()
    assert "ended by SIGILL, an instruction that this machine lacks" in killed.row["failed"]
    assert "ended with exit status 1: its error is printed above" in failed.row["failed"]
    path = table(tmp_path, [])
    write_row(path, ["a"], {**SPEEDS, "openvino-int8": killed.row}, "result.json", "AVX2")
    [row, _] = json.loads(path.read_text())["processors"]
    assert row["per_second"] == {"openvino-ir-bf16": [3.0, 2.0, 1.0]}


def test_an_engine_that_cannot_be_loaded_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object) -> None:
        raise CheckpointError("openvino does not compute the graph")

    monkeypatch.setattr(cpu_engines, "load", load)
    worker = _Worker("openvino-int8", argparse.Namespace(work=Path(), calibration=None), [])
    ours, theirs = multiprocessing.Pipe()
    worker._connection = ours

    cpu_engines._work("openvino-int8", theirs, Path(), [], None)

    assert worker._receive() == {}
    assert worker.row == {"failed": "openvino does not compute the graph"}


@pytest.mark.parametrize(("worst", "passes"), [(0.895, True), (0.894, False)])
def test_a_precision_passes_if_no_language_loses_more_than_the_limit(
    tmp_path: Path,
    tuned_checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    worst: float,
    passes: bool,
) -> None:
    monkeypatch.setattr(precision_gate, "default_cache", lambda: tmp_path)
    gate = gate_of(str(tuned_checkpoint), "int8", {"de": 0.9, "ar": 0.8}, {"de": worst, "ar": 0.81})
    path = table(tmp_path, [])
    for _ in range(2):
        write_gates(path, [gate], "result.json")

    [written] = json.loads(path.read_text())["quality"]
    assert written["passes"] == passes
    assert (written["worst_language"], written["changes"]["ar"]) == ("de", 0.01)
    assert len(written["fingerprints"]) == 2  # the query side's and the passage side's


def test_operations_count_both_sides_of_a_multiplication() -> None:
    cost = TextCost(2, 4, 3, 1)
    matrices = 4 * 2 * 2 + 2 * 2 * 4

    assert operations_of(cost, [1]) == 2 * 3 * (matrices + 2 * 2)
    assert operations_of(cost, [5, 5]) == 2 * operations_of(cost, [5])
