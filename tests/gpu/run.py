"""All that a GPU must show, in one command of less than nine minutes.

Run: python -m tests.gpu.run --out DIR                    (with an NVIDIA GPU)
     python -m tests.gpu.run --out DIR --steps search flat --resume
     python -m tests.gpu.run --out DIR --dry-run          (on a CPU: the same path, small sizes)

Each step runs in a process of its own with its own time limit, so that a failure costs only itself.
`results.json` is written after each step, `log.txt` holds what the steps print. With `--resume`,
steps that succeeded before are not run again.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.corpus import ROOT
from tests.bench.options import say
from tests.bench.record import surroundings

TOTAL_SECONDS = 530.0
DRY_SLOWNESS = 10  # of a CPU, even with small sizes
SKIPPED = 77  # the exit code of a step that this machine cannot run


@dataclass(frozen=True)
class Step:
    """A step: what it shows, and the seconds that it may take."""

    shows: str
    seconds: float


# In the order of their importance: correct, fast, trained. Their times together fit into the total.
STEPS = {
    "limits": Step("matrix products and copies a second of the card itself", 20),
    "tests": Step("pytest -m gpu", 80),
    "embeddings": Step("2,000 texts in 16 scripts against fp32 on the CPU", 35),
    "search": Step("rankings of 9,037 passages against those of the CPU", 30),
    "swaps": Step("generations swapped under load", 20),
    "killed": Step("a killed context: liveness fails", 15),
    "queries": Step("questions a second in one process, by batch size", 20),
    "bulk": Step("tokens a second in bulk, and share of the card's matrix products", 20),
    "flat": Step("torch_flat at 1, 10 and 50 million vectors", 25),
    "http": Step("/search over HTTP: 1, 64 and 512 clients", 35),
    "million": Step("/search of 1,000,000 passages over HTTP", 75),
    "varlen": Step("padding-free attention against buckets and graphs", 20),
    "faiss": Step("FAISS Flat, IVF-PQ and CAGRA on the card", 30),
    "peers": Step("sentence-transformers and plain transformers on the same texts", 25),
    "plain": Step("a plain torch server over HTTP, loaded as ours", 25),
    "training": Step("rows a second of three objectives", 40),
    "profile": Step("torch.profiler of a question and of bulk", 15),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the steps; return 1 if one failed or none could be run in time."""
    made = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    made.add_argument("--out", type=Path, required=True, help="folder of results.json and log.txt")
    made.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS), metavar="STEP")
    made.add_argument("--resume", action="store_true", help="leave out what succeeded before")
    made.add_argument("--dry-run", action="store_true", help="on the CPU, with small sizes")
    made.add_argument("--seconds", type=float, default=TOTAL_SECONDS, help="for all steps")
    options = made.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "results.json"
    steps: dict[str, Any] = {}
    if options.resume and path.is_file():
        steps = json.loads(path.read_text())["steps"]
    slowness = DRY_SLOWNESS if options.dry_run else 1
    until = time.monotonic() + options.seconds * slowness
    for name in options.steps:
        if steps.get(name, {}).get("status") == "ok":
            continue
        left = until - time.monotonic()
        steps[name] = run_step(name, options, min(STEPS[name].seconds * slowness, left))
        say(f"{name}: {steps[name]['status']} after {steps[name]['seconds']} s")
        path.write_text(json.dumps({**surroundings(), "steps": steps}, indent=1) + "\n")
    ran = [steps[name]["status"] for name in options.steps]
    return 0 if set(ran) <= {"ok", "skipped"} else 1


def run_step(name: str, options: argparse.Namespace, limit: float) -> dict[str, Any]:
    """Run a step in a process of its own; return its status, its seconds and its result."""
    if limit <= 0:
        return {"status": "no time left", "seconds": 0.0}
    found = options.out / "step.json"
    found.unlink(missing_ok=True)
    command = [sys.executable, "-u", "-m", "tests.gpu.step", name, "--out", str(found)]
    started = time.monotonic()
    with (options.out / "log.txt").open("a", encoding="utf-8") as log:
        log.write(f"== {name}: {STEPS[name].shows}\n")
        log.flush()
        try:
            code = subprocess.run(
                [*command, *(["--dry-run"] if options.dry_run else [])],
                cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, timeout=limit, check=False,
            ).returncode  # fmt: skip
        except subprocess.TimeoutExpired:
            code = None
    result: Mapping[str, Any] = json.loads(found.read_text()) if found.is_file() else {}
    found.unlink(missing_ok=True)
    status = {None: f"stopped after {limit:.0f} s", 0: "ok", SKIPPED: "skipped"}
    seconds = round(time.monotonic() - started, 1)
    return {"status": status.get(code, f"exit code {code}"), "seconds": seconds, **result}


if __name__ == "__main__":
    raise SystemExit(main())
