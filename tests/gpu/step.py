"""One step of `tests.gpu.run`, in a process of its own; it writes its result as JSON.

A step that returns `fails` has found that a claim does not hold; its figures are kept.
"""

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.options import say
from tests.gpu.run import SKIPPED, STEPS


class Skip(Exception):
    """This machine lacks what the step needs."""


@dataclass(frozen=True)
class Machine:
    """Where a step runs, and how large it is."""

    is_dry: bool
    work: Path
    out: Path

    @property
    def device(self) -> str:
        """Return the device that is measured."""
        return "cpu" if self.is_dry else "cuda"

    def size(self, real: int, dry: int) -> int:
        """Return a size: the real one, or the small one of a dry run."""
        return dry if self.is_dry else real

    def keep(self, result: "Result") -> None:
        """Write what is known so far: it stays if the step is stopped."""
        part = self.out.with_suffix(".part")
        part.write_text(json.dumps(dict(result)))
        part.replace(self.out)

    def synchronize(self) -> None:
        """Wait until the device has done all its work."""
        import torch

        if not self.is_dry:
            torch.cuda.synchronize()


Result = Mapping[str, Any]


def steps() -> dict[str, Callable[[Machine], Result]]:
    """Return what each step runs."""
    from tests.gpu import correct, fast, indexes, others, serving
    from tests.gpu.varlen import varlen

    return {
        "limits": fast.limits,
        "tests": correct.gpu_tests,
        "embeddings": correct.embeddings,
        "search": correct.rankings,
        "queries": fast.queries,
        "bulk": fast.bulk,
        "flat": indexes.flat,
        "http": serving.http_load,
        "million": serving.million,
        "swaps": serving.swaps,
        "killed": serving.killed_context,
        "varlen": varlen,
        "faiss": indexes.faiss,
        "peers": others.peers,
        "plain": serving.plain_server,
        "training": others.training,
        "profile": others.profile,
    }


def main() -> None:
    """Run a step."""
    made = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    made.add_argument("step", choices=STEPS)
    made.add_argument("--out", type=Path, required=True)
    made.add_argument("--dry-run", action="store_true")
    options = made.parse_args()
    machine = Machine(options.dry_run, options.out.parent / "work", options.out)
    machine.work.mkdir(exist_ok=True)
    try:
        result = dict(steps()[options.step](machine))
    except Skip as reason:
        options.out.write_text(json.dumps({"reason": str(reason)}))
        say(f"skipped: {reason}")
        raise SystemExit(SKIPPED) from None
    say(json.dumps(result))
    options.out.write_text(json.dumps(result))
    if result.get("fails"):
        raise SystemExit(2)


if __name__ == "__main__":
    main()
