"""Comparison of CPU engines on the same texts: speed, start-up, memory, distance from fp32.

Run: python -m tests.bench.cpu_engines --calibration DATA/ntrex
     python -m tests.bench.cpu_engines --flags avx512_bf16 --table   (a row for `auto`)
     python -m tests.bench.cpu_engines --limit AVX2 --engines torch-fp32 openvino-fp32 --table

Each engine has its own process. They run in turns (A B C A B C), so that other load on the machine
affects all of them. Graphs are built before the measurement. Each is given texts and returns
vectors, so that libraries that tokenize themselves can take part.

`--table` writes the medians as a row of the table from which `auto` chooses. `--limit` lets oneDNN
and PyTorch use no better instructions than those named, as on a lesser processor. An engine that
cannot be loaded, or whose process dies, is left out: its row says why.
"""

import argparse
import json
import math
import multiprocessing
import os
import signal
import statistics
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from service.retrieval.encoder.runtime.cpu import TABLE, choices
from service.retrieval.errors import RetrievalError
from tests.bench.cpu_contenders import NAMES, load, unrunnable
from tests.bench.options import parser, say
from tests.bench.record import surroundings, write_result
from tests.bench.texts import questions

BATCHES = (1, 8, 32)
RUNTIMES = {f"{each.engine}-{each.precision}": each.name for each in choices()}
LIMITS = {
    isa: {"ONEDNN_MAX_CPU_ISA": isa, "ATEN_CPU_CAPABILITY": capability}
    for isa, capability in {
        "AVX2": "avx2",
        "AVX2_VNNI": "avx2",
        "AVX512_CORE": "avx512",
        "AVX512_CORE_VNNI": "avx512",
    }.items()
}


def main() -> None:
    """Measure every engine; print a table and write a JSON file."""
    made = parser(__doc__)
    made.add_argument("--calibration", type=Path, help="a folder of .txt files, one text per line")
    made.add_argument("--engines", nargs="+", choices=NAMES, help="default: all that run here")
    made.add_argument("--texts", type=int, default=192, help="questions per measurement")
    made.add_argument("--repeats", type=int, default=5)
    made.add_argument("--limit", choices=list(LIMITS), help="instructions to use at most")
    made.add_argument("--flags", nargs="*", default=[], help="of the row of `--table`")
    made.add_argument("--table", action="store_true", help="write a row of the table of `auto`")
    options = made.parse_args()
    for name, value in LIMITS.get(options.limit, {}).items():
        os.environ[name] = value  # the engines' processes inherit it
    texts = [each.text for each in questions(options.data)][: options.texts]
    options.engines = options.engines or _runnable()
    rows = measure(options, texts)
    _compare(rows)
    _print(rows)
    path = write_result("cpu_engines", options, {"num_texts": len(texts), "engines": rows})
    if options.table:
        write_row(TABLE, options.flags, rows, path.name, options.limit)


def measure(options: argparse.Namespace, texts: list[str]) -> dict[str, dict[str, Any]]:
    """Measure every engine in turns; return its figures, or `failed` with the reason."""
    workers = [_Worker(name, options, texts) for name in options.engines]
    for worker in workers:
        worker.start()
    for size in BATCHES:
        seconds: dict[str, list[float]] = {worker.name: [] for worker in workers}
        for _ in range(options.repeats):
            for worker in workers:
                if not worker.has_failed:
                    seconds[worker.name].append(worker.ask(size).get("seconds", math.nan))
        for worker in workers:
            if not worker.has_failed:
                rates = sorted(len(texts) / each for each in seconds[worker.name])
                rate = {f"per_second_{size}": round(statistics.median(rates), 1)}
                worker.row |= rate | {f"all_{size}": [round(each, 1) for each in rates]}
    for worker in workers:
        worker.row |= worker.ask("facts")
        worker.end()
    return {worker.name: worker.row for worker in workers}


def write_row(
    table: Path, flags: list[str], rows: dict[str, dict[str, Any]], source: str, limit: str | None
) -> None:
    """Put the speeds of engines into the table, in place of those with the same flags.

    The first row that fits a processor counts: a new one goes before those with fewer flags.
    """
    content = json.loads(table.read_text())
    facts = surroundings()
    row = {
        "flags": flags,
        "cpu": f"{facts['cpu']}, {facts['cores']} cores{f', limited to {limit}' if limit else ''}",
        "date": str(facts["date"])[:10],
        "source": source,
        "per_second": {
            RUNTIMES.get(name, name): [row[f"per_second_{size}"] for size in BATCHES]
            for name, row in rows.items()
            if "failed" not in row
        },
    }
    old = content["processors"]
    places = [place for place, each in enumerate(old) if len(each["flags"]) < len(flags)]
    same = [place for place, each in enumerate(old) if each["flags"] == flags]
    place = (same or [*places, len(old)])[0]
    content["processors"] = [*old[:place], row, *old[place + len(same) :]]
    write_table(table, content)


def write_table(path: Path, content: dict[str, Any]) -> None:
    """Write the table of `auto` with one row a line."""
    parts = [
        f'"{name}": [\n' + ",\n".join(json.dumps(row) for row in rows) + "\n]"
        for name, rows in content.items()
    ]
    path.write_text("{" + ",\n".join(parts) + "}\n")


def _runnable() -> list[str]:
    """Return the engines that this machine can run; say why it cannot run the others."""
    reasons = {name: unrunnable(name) for name in NAMES}
    for name, reason in reasons.items():
        if reason:
            say(f"{name}: left out, {reason}")
    return [name for name, reason in reasons.items() if not reason]


class _Worker:
    """The process of one engine, and the row of its figures."""

    def __init__(self, name: str, options: argparse.Namespace, texts: list[str]) -> None:
        ours, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        arguments = (name, theirs, options.work / "cache", texts, options.calibration)
        self._connection = ours
        self._process = context.Process(target=_work, args=arguments, daemon=True)
        self.name = name
        self.row: dict[str, Any] = {}

    @property
    def has_failed(self) -> bool:
        """Return whether the engine could not be loaded, or its process has died."""
        return "failed" in self.row

    def start(self) -> None:
        """Start the process, and wait until the engine is loaded."""
        say(f"{self.name}: loading")
        self._process.start()
        self.row |= self._receive()

    def ask(self, question: int | str) -> dict[str, Any]:
        """Return the answer; nothing, with the reason in the row, if the engine has failed."""
        if self.has_failed:
            return {}
        with suppress(BrokenPipeError):
            self._connection.send(question)
        return self._receive()

    def end(self) -> None:
        """Let the process end."""
        if not self.has_failed:
            self._connection.send(None)

    def _receive(self) -> dict[str, Any]:
        try:
            answer = dict(self._connection.recv())
        except (EOFError, ConnectionResetError):
            self._process.join()
            answer = {"failed": describe_end(self._process.exitcode)}
        if "failed" not in answer:
            return answer
        self.row = answer
        say(f"{self.name}: failed, {self.row['failed']}")
        return {}


def describe_end(exit_code: int | None) -> str:
    """Return in words how a process ended.

    >>> describe_end(-4)
    'its process was ended by SIGILL, an instruction that this machine lacks'
    """
    if exit_code is None or exit_code >= 0:
        return f"its process ended with exit status {exit_code}: its error is printed above"
    reasons = {
        signal.SIGILL: ", an instruction that this machine lacks",
        signal.SIGKILL: ", perhaps for lack of memory",
    }
    number = signal.Signals(-exit_code)
    return f"its process was ended by {number.name}{reasons.get(number, '')}"


def _work(
    name: str, connection: Connection, cache: Path, texts: list[str], calibration: Path | None
) -> None:
    for_calibration = _calibration_texts(calibration)
    try:
        load(name, cache, for_calibration)  # builds the files that are built only once
    except RetrievalError as error:
        connection.send({"failed": str(error)})
        return
    started = time.monotonic()
    encoder = load(name, cache, for_calibration)
    facts: dict[str, Any] = {"load_seconds": round(time.monotonic() - started, 2)}
    for size in BATCHES:  # warm-up: engines compile a shape when they first see it
        _embed(encoder, texts, size)
    connection.send(facts)
    while (question := connection.recv()) is not None:
        if question == "facts":
            embeddings = np.concatenate(_embed(encoder, texts, 8))
            connection.send({"rss_mb": _rss_mb(), "embeddings": embeddings})
            continue
        begun = time.perf_counter()
        _embed(encoder, texts, question)
        connection.send({"seconds": time.perf_counter() - begun})


def _embed(encoder: Any, texts: list[str], size: int) -> list[Any]:
    return [
        encoder.encode(texts[start : start + size], "query").embeddings
        for start in range(0, len(texts), size)
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
    """Put the lowest cosine to torch in fp32 into each row, in place of the embeddings."""
    found = {name: row.pop("embeddings") for name, row in rows.items() if "embeddings" in row}
    if not found:
        return
    reference = found.get("torch-fp32", next(iter(found.values())))
    for name, embeddings in found.items():
        rows[name]["min_cosine"] = round(float((embeddings * reference).sum(axis=1).min()), 6)


def _print(rows: dict[str, dict[str, Any]]) -> None:
    facts = surroundings()
    say(f"{facts['cpu']}, {facts['cores']} cores, load {facts['load_average']}, {facts['commit']}")
    columns = [*(f"per_second_{size}" for size in BATCHES), "load_seconds", "rss_mb", "min_cosine"]
    say(f"| engine | {' | '.join(columns)} |")
    say("|---" * (len(columns) + 1) + "|")
    for name, row in rows.items():
        cells = [row["failed"]] if "failed" in row else [str(row[column]) for column in columns]
        say(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
