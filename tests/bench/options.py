"""The command-line options that all benchmarks share."""

import argparse
import sys
from pathlib import Path

from service.retrieval.checkpoint.bundled import bundled_checkpoint
from service.settings.settings import load_settings
from tests.bench.corpus import ROOT, default_work
from tests.bench.texts import xquad_folder

# Questions repeat after 9,520: with a cache, later rounds would not be measured.
DEFAULTS = {"CLEAR_QUERY_CACHE_ENTRIES": "0"}


def parser(docstring: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options of every benchmark."""
    made = argparse.ArgumentParser(description=(docstring or "").splitlines()[0])
    made.add_argument("--work", type=Path, default=default_work(), help="index, bodies and logs")
    made.add_argument(
        "--data", type=Path, default=xquad_folder(), help="XQuAD's files; default: $DATA/xquad"
    )
    made.add_argument("--out", type=Path, default=ROOT / "tests" / "bench" / "results")
    made.add_argument("--port", type=int, default=8790)
    made.add_argument("--label", default="", help="a word for the result's file name")
    made.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="CLEAR_X=Y",
        help="a setting of the service; repeat for more; the query cache is off by default",
    )
    made.add_argument("--warm-up", type=float, default=5.0, metavar="SECONDS")
    return made


def environment_of(options: argparse.Namespace) -> dict[str, str]:
    """Return the settings of `--env A=B` as a mapping."""
    pairs = [pair.partition("=") for pair in options.env]
    if wrong := [name for name, separator, _ in pairs if not separator]:
        raise SystemExit(f"--env {wrong[0]}: give name and value, as in CLEAR_TIMEOUT_MS=2000")
    return {**DEFAULTS, **{name: value for name, _, value in pairs}}


def checkpoint_of(options: argparse.Namespace) -> Path:
    """Return the folder of the bundled encoder, for its tokenizer and for other servers."""
    cache = environment_of(options).get("CLEAR_CACHE")
    return bundled_checkpoint(Path(cache) if cache else load_settings().cache)


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
