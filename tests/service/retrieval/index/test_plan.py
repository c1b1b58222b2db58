import json

import pytest
from typer.testing import CliRunner

from service.cli.main import app
from service.retrieval.index import plan as plan_module
from service.retrieval.index.faiss.index import EF_SEARCH, NPROBE
from service.retrieval.index.plan import plan


@pytest.mark.parametrize(
    ("num_passages", "memory", "on_gpu", "backend", "factory"),
    [
        (1, 8, False, "torch", "Flat"),
        (1_000_000, 8, False, "torch", "Flat"),
        (1_000_000, 1, False, "faiss", "SQ8"),
        (5_000_000, 16, False, "faiss", "HNSW32"),
        (5_000_000, 4, False, "faiss", "IVF8192,SQ8"),
        (5_000_000, 1, False, "faiss", "IVF8192,PQ96"),
        (1_000_000_000, 64, False, "milvus", "Flat"),
        (50_000_000, 80, True, "torch", "Flat"),
        (200_000_000, 80, True, "faiss", "IVF65536,SQ8"),
    ],
)
def test_the_most_exact_option_that_is_fast_enough_and_fits_is_recommended(
    num_passages: int, memory: float, on_gpu: bool, backend: str, factory: str
) -> None:
    plans = plan(num_passages, 384, memory, on_gpu)

    (advised,) = [each for each in plans if each.is_advised]
    assert (advised.backend, advised.factory) == (backend, factory)
    assert advised.backend == "milvus" or advised.gibibytes <= memory


def test_sizes_are_those_of_the_vectors() -> None:
    flat = plan(1_000_000, 384, 8)[0]

    assert flat.gibibytes == pytest.approx(1e6 * 384 * 4 / 2**30, abs=1e-3)
    assert plan(1_000_000, 384, 8, on_gpu=True)[0].gibibytes == pytest.approx(
        flat.gibibytes / 2, abs=1e-3
    )


@pytest.mark.parametrize(
    ("num_passages", "size", "recalls"),
    [
        (1000, 100_000, {"Flat": 1.0, "HNSW32": 0.959, "SQ8": 0.983}),
        (300_000, 100_000, {"HNSW32": 0.959, "IVF2048,SQ8": 0.766, "IVF2048,PQ96": 0.574}),
        (350_000, 1_000_000, {"HNSW32": 0.773, "SQ8": 0.975}),
        (1_000_000, 1_000_000, {"Flat": 1.0, "IVF4096,SQ8": 0.574, "IVF4096,PQ96": 0.397}),
    ],
)
def test_recall_is_that_of_the_nearer_measured_size(
    num_passages: int, size: int, recalls: dict[str, float]
) -> None:
    plans = {each.factory: each for each in plan(num_passages, 384, 8) if each.backend != "milvus"}

    assert {factory: plans[factory].recall_at_10 for factory in recalls} == recalls
    assert {each.recall_size for each in plans.values()} == {size}


def test_the_settings_at_which_recall_was_measured_are_the_defaults() -> None:
    assert f"CLEAR_NPROBE={NPROBE}" == plan_module.NPROBE
    assert f"CLEAR_EF_SEARCH={EF_SEARCH}" == plan_module.EF_SEARCH


def test_the_command_says_where_recall_was_measured() -> None:
    command = ["index", "plan", "--passages", "1000000"]

    table = CliRunner().invoke(app, command, env={"COLUMNS": "120"}).stdout

    assert next(line for line in table.splitlines() if "HNSW32" in line).count("0.773") == 1
    assert (
        "recall@10: measured at 1,000,000 vectors of 384 dimensions, with CLEAR_EF_SEARCH=128 and "
        "CLEAR_NPROBE=128\n"
    ) in table


def test_a_graph_on_a_gpu_is_listed_as_not_measured() -> None:
    command = ["index", "plan", "--passages", "100000", "--gpu"]

    table = CliRunner().invoke(app, command, env={"COLUMNS": "120"}).stdout
    (graph,) = [each for each in plan(100_000, 384, 8, on_gpu=True) if each.factory == "CAGRA64"]

    assert graph.recall_at_10 is None
    assert graph.gibibytes == pytest.approx(100_000 * (384 * 2 + 64 * 4) / 2**30, abs=1e-3)
    assert next(line for line in table.splitlines() if "CAGRA64" in line).count("not measured") == 2


def test_the_command_prints_a_table_or_json() -> None:
    words = ["index", "plan", "--passages", "100000"]

    table, listed = (CliRunner().invoke(app, [*words, *more]) for more in ([], ["--json"]))

    assert "HNSW32" in table.stdout
    assert [each["factory"] for each in json.loads(listed.stdout) if each["is_advised"]] == ["Flat"]
