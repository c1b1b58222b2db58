"""Comparison of CPU engines on the same texts: speed, start-up, memory, distance from fp32.

Run: python -m tests.bench.cpu_engines --calibration DATA/ntrex

Each engine has its own process. They run in turns (A B C A B C), so that other load on the machine
affects all of them. Graphs are built before the measurement.
"""

import argparse
import multiprocessing
import statistics
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench.cpu_contenders import NAMES, load, unrunnable
from tests.bench.options import parser, say
from tests.bench.record import surroundings, write_result
from tests.bench.texts import questions

BATCHES = (1, 8, 32)


def main() -> None:
    """Measure every engine; print a table and write a JSON file."""
    made = parser(__doc__)
    made.add_argument("--calibration", type=Path, help="a folder of .txt files, one text per line")
    made.add_argument("--engines", nargs="+", choices=NAMES, help="default: all that run here")
    made.add_argument("--texts", type=int, default=192, help="questions per measurement")
    made.add_argument("--repeats", type=int, default=5)
    options = made.parse_args()
    texts = [each.text for each in questions(options.data)][: options.texts]
    options.engines = options.engines or _runnable()
    workers = {name: _Worker(name, options, texts) for name in options.engines}
    rows = {name: worker.start() for name, worker in workers.items()}
    for size in BATCHES:
        seconds: dict[str, list[float]] = {name: [] for name in workers}
        for _ in range(options.repeats):
            for name, worker in workers.items():
                seconds[name].append(worker.ask(size))
        for name in workers:
            rate = len(texts) / statistics.median(seconds[name])
            spread = [round(len(texts) / each, 1) for each in sorted(seconds[name])]
            rows[name] |= {f"per_second_{size}": round(rate, 1), f"all_{size}": spread}
    for name, worker in workers.items():
        rows[name] |= worker.ask("facts")
        worker.ask(None)
    _compare(rows)
    _print(rows)
    write_result("cpu_engines", options, {"num_texts": len(texts), "engines": rows})


def _runnable() -> list[str]:
    """Return the engines that this machine can run; say why it cannot run the others."""
    reasons = {name: unrunnable(name) for name in NAMES}
    for name, reason in reasons.items():
        if reason:
            say(f"{name}: left out, {reason}")
    return [name for name, reason in reasons.items() if not reason]


class _Worker:
    """The process of one engine."""

    def __init__(self, name: str, options: argparse.Namespace, texts: list[str]) -> None:
        ours, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        arguments = (name, theirs, options.work / "cache", texts, options.calibration)
        self._connection = ours
        self._process = context.Process(target=_work, args=arguments, daemon=True)
        self._name = name

    def start(self) -> dict[str, Any]:
        say(f"{self._name}: loading")
        self._process.start()
        return dict(self._connection.recv())

    def ask(self, question: int | str | None) -> Any:
        self._connection.send(question)
        return self._connection.recv() if question is not None else None


def _work(
    name: str, connection: Connection, cache: Path, texts: list[str], calibration: Path | None
) -> None:
    for_calibration = _calibration_texts(calibration)
    load(name, cache, for_calibration)  # builds the files that are built only once
    started = time.monotonic()
    encoder = load(name, cache, for_calibration)
    facts: dict[str, Any] = {"load_seconds": round(time.monotonic() - started, 2)}
    tokenized = encoder.tokenize(texts, "query")
    for size in BATCHES:  # warm-up: engines compile a shape when they first see it
        _embed(encoder, tokenized, size)
    connection.send(facts)
    while (question := connection.recv()) is not None:
        if question == "facts":
            embeddings = np.concatenate(_embed(encoder, tokenized, 8))
            connection.send({"rss_mb": _rss_mb(), "embeddings": embeddings})
            continue
        begun = time.perf_counter()
        _embed(encoder, tokenized, question)
        connection.send(time.perf_counter() - begun)


def _embed(encoder: Any, tokenized: Any, size: int) -> list[Any]:
    return [
        encoder.embed(encoder.pad(tokenized[start : start + size])).numpy()
        for start in range(0, len(tokenized), size)
    ]


def _calibration_texts(folder: Path | None) -> list[str]:
    """Return lines of all files in turn: the same share of each language, none of the questions."""
    files = (
        [path.read_text().splitlines() for path in sorted(folder.glob("*.txt"))] if folder else []
    )
    return [line for lines in zip(*files, strict=False) for line in lines]


def _rss_mb() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) // 1024


def _compare(rows: dict[str, dict[str, Any]]) -> None:
    reference = rows.get("torch-fp32", next(iter(rows.values())))["embeddings"]
    for row in rows.values():
        row["min_cosine"] = round(float((row["embeddings"] * reference).sum(axis=1).min()), 6)
    for row in rows.values():
        del row["embeddings"]


def _print(rows: dict[str, dict[str, Any]]) -> None:
    facts = surroundings()
    say(f"{facts['cpu']}, {facts['cores']} cores, load {facts['load_average']}, {facts['commit']}")
    columns = [*(f"per_second_{size}" for size in BATCHES), "load_seconds", "rss_mb", "min_cosine"]
    say(f"| engine | {' | '.join(columns)} |")
    say("|---" * (len(columns) + 1) + "|")
    for name, row in rows.items():
        say(f"| {name} | {' | '.join(str(row[column]) for column in columns)} |")


if __name__ == "__main__":
    main()
