"""The options that all benchmarks share, and where they write."""

import argparse
import os
import sys
from pathlib import Path

from service.retrieval.checkpoint.bundled import bundled_checkpoint
from service.settings.settings import load_settings
from tests.bench.corpus import ROOT, default_work

# Questions come again after 9,520: a cache would answer the second round.
DEFAULTS = {"CLEAR_QUERY_CACHE_ENTRIES": "0"}


def xquad() -> Path:
    """Return the folder of XQuAD's files: `xquad` in the folder that the variable DATA names."""
    return Path(os.environ.get("DATA", "data")) / "xquad"


def parser(docstring: str | None) -> argparse.ArgumentParser:
    """Make a command line with the options that every benchmark has."""
    made = argparse.ArgumentParser(description=(docstring or "").splitlines()[0])
    made.add_argument("--work", type=Path, default=default_work(), help="index, bodies and logs")
    made.add_argument("--data", type=Path, default=xquad(), help="XQuAD; by default $DATA/xquad")
    made.add_argument("--out", type=Path, default=ROOT / "tests" / "bench" / "results")
    made.add_argument("--port", type=int, default=8790)
    made.add_argument("--label", default="", help="a word for the result's file name")
    made.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="CLEAR_X=Y",
        help="a setting of the service; may be repeated; the query cache is off unless set here",
    )
    made.add_argument("--warm-up", type=float, default=5.0, metavar="SECONDS")
    return made


def environment_of(options: argparse.Namespace) -> dict[str, str]:
    """Turn `--env A=B` into a mapping."""
    pairs = [pair.partition("=") for pair in options.env]
    if wrong := [name for name, separator, _ in pairs if not separator]:
        raise SystemExit(f"--env {wrong[0]}: name and value, as in CLEAR_TIMEOUT_MS=2000")
    return {**DEFAULTS, **{name: value for name, _, value in pairs}}


def checkpoint_of(options: argparse.Namespace) -> Path:
    """Find the folder of the bundled encoder, for its tokenizer and for other servers."""
    cache = environment_of(options).get("CLEAR_CACHE")
    return bundled_checkpoint(Path(cache) if cache else load_settings().cache)


def say(text: str) -> None:
    """Write a line for the person who watches."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
