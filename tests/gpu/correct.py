"""Steps that compare the GPU with fp32 on the CPU."""

import subprocess
import sys
from typing import Any

import numpy as np

from service.retrieval.encoder.encoder import Encoder
from service.retrieval.generation.generation import open_current
from service.retrieval.index.options import IndexOptions
from service.retrieval.searcher import Searcher
from tests.bench.corpus import ROOT
from tests.gpu.indexes import has_gpu_faiss
from tests.gpu.material import encoder_of, ensure_index, texts
from tests.gpu.step import Machine, Result

TOP_K, TIE = 10, 1e-5
FAISS_TESTS = "tests/service/retrieval/index/faiss/test_gpu.py"


def gpu_tests(machine: Machine) -> Result:
    """Run the tests that need a GPU; without FAISS for GPUs, all but its own."""
    left_out = [] if has_gpu_faiss() else [FAISS_TESTS]
    files = sorted(
        str(path.relative_to(ROOT))
        for path in (ROOT / "tests").rglob("test_*.py")
        if "mark.gpu" in path.read_text(encoding="utf-8")
    )
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "--durations=5"]
    command += [path for path in files if path not in left_out]
    code = subprocess.run(
        [*command, *(["--collect-only"] if machine.is_dry else [])], cwd=ROOT, check=False
    ).returncode
    return {"left_out": left_out, "fails": [f"pytest: exit code {code}"] if code else []}


def embeddings(machine: Machine) -> Result:
    """Compare embeddings: fp32 each .9999; half precision each .999, and .9999 in the mean."""
    given = texts(machine.size(2000, 32))
    expected = _embed(
        encoder_of(machine, device="cpu", precision="fp32", cpu_engine="torch"), given
    )
    result: dict[str, Any] = {"texts": len(given)}
    fails = []
    for precision, least, mean in (("fp32", 0.9999, 0.9999), ("auto", 0.999, 0.9999)):
        encoder = encoder_of(machine, precision=precision, cpu_engine="torch")
        cosines = (_embed(encoder, given) * expected).sum(axis=1)
        found = {"least": float(cosines.min()), "mean": float(cosines.mean())}
        result[precision] = {**found, "runtime": encoder.runtime.name}
        if found["least"] < least or found["mean"] < mean:
            fails.append(f"{precision}: {found}")
    return {**result, "fails": fails}


def rankings(machine: Machine) -> Result:
    """Compare rankings: fp32 equal but for ties; half precision 99 % first hits, .98 of 10."""
    index, asked = ensure_index(machine), texts(machine.size(1000, 16))
    cpu = IndexOptions(device="cpu")
    own = IndexOptions(device=machine.device)
    reference = encoder_of(machine, device="cpu", precision="fp32", cpu_engine="torch")
    expected = _rank(Searcher(reference, open_current(index, cpu)), asked)
    exact = _rank(Searcher(encoder_of(machine, precision="fp32"), open_current(index, cpu)), asked)
    half = _rank(Searcher(encoder_of(machine), open_current(index, own)), asked)
    pairs = list(zip(expected, half, strict=True))
    found = {
        "questions": len(asked),
        "fp32_differs": sum(
            not _equal_but_for_ties(*pair) for pair in zip(expected, exact, strict=True)
        ),
        "half_first_equal": float(np.mean([a[0][0] == b[0][0] for a, b in pairs])),
        "half_overlap_at_10": float(
            np.mean([len(set(a[0]) & set(b[0])) / TOP_K for a, b in pairs])
        ),
    }
    fails = [
        *(["fp32: rankings differ"] if found["fp32_differs"] else []),
        *(["half: first hits"] if found["half_first_equal"] < 0.99 else []),
        *(["half: overlap"] if found["half_overlap_at_10"] < 0.98 else []),
    ]
    return {**found, "fails": fails}


def _embed(encoder: Encoder, given: list[str]) -> Any:
    return encoder.encode(given, "query").embeddings.astype(np.float64)


def _rank(searcher: Searcher, asked: list[str]) -> list[tuple[list[int], list[float]]]:
    found = searcher.rank(searcher.encoder.encode(asked, "query").embeddings, TOP_K)
    return [(ranking.rows.tolist(), ranking.scores.tolist()) for ranking in found]


def _equal_but_for_ties(
    expected: tuple[list[int], list[float]], found: tuple[list[int], list[float]]
) -> bool:
    """Return whether rows differ only where the scores of the same rank are nearly equal."""
    return all(
        row == other or abs(score - other_score) < TIE
        for row, score, other, other_score in zip(*expected, *found, strict=True)
    )
