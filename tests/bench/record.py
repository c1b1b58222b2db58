"""The result file of a benchmark, with the machine, the code and the packages."""

import argparse
import json
import os
import platform
import shutil
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tests.bench.corpus import ROOT
from tests.bench.options import say

PACKAGES = (
    "clear-search", "torch", "transformers", "tokenizers", "onnxruntime", "openvino", "faiss-cpu",
    "faiss-gpu-cuvs", "numpy", "fastapi", "starlette", "uvicorn", "uvloop", "httptools",
)  # fmt: skip
# These decide which precision is fast.
CPU_FLAGS = (
    "avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16",
)  # fmt: skip
OPTIONS_LEFT_OUT = {"work", "data", "out"}


def surroundings() -> dict[str, object]:
    """Return a description of the machine, the code and the packages."""
    cpu = _first_processor()
    flags = set(cpu.get("flags", "").split())
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "cpu": cpu.get("model name", platform.machine()),
        "cores": os.cpu_count(),
        "cpu_flags": [flag for flag in CPU_FLAGS if flag in flags],
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "load_average": round(os.getloadavg()[0], 2),
        "gpu": _gpu(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
    }


def commit() -> str:
    """Return the commit; `+` means that the source differs from it."""
    name = _git("rev-parse", "--short=10", "HEAD") or "unknown"
    is_changed = bool(_git("status", "--porcelain", "--", "service", "pyproject.toml"))
    return name + "+" * is_changed


def write_result(benchmark: str, options: argparse.Namespace, result: dict[str, object]) -> Path:
    """Write a result with its surroundings and options as one line of JSON; return the file."""
    name = "-".join(filter(None, (benchmark, options.label, commit())))
    path: Path = options.out / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    given = {key: value for key, value in vars(options).items() if key not in OPTIONS_LEFT_OUT}
    content = {"benchmark": benchmark, "options": given, **surroundings(), **result}
    path.write_text(json.dumps(content, separators=(",", ":"), default=str) + "\n")
    say(f"written to {path}")
    return path


def _first_processor() -> dict[str, str]:
    lines = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
    pairs = (line.partition(":") for line in lines)
    return {key.strip(): value.strip() for key, _, value in pairs}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _gpu() -> str | None:
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
