"""1,000,000 short passages: build, apply, serve; seconds, processor time and memory of each.

Beside them stands what the machine itself does: write and sync a file of 1 GiB, and hash it.

Run: python -m tests.bench.million                     (ten minutes, 10 GB of disk)
     python -m tests.bench.million --steps build       (in parts)
     python -m tests.bench.million --steps apply serve
     python -m tests.bench.million --encoder bundled --passages 100000 --steps build

The encoder is a table of random vectors of 384 dimensions, so that next to nothing is spent on it,
unless another is named; that one reads twelve words of XQuAD's questions a passage, in eight
languages. `own_mib` is a process's own memory, apart from the pages of files that the system can
take back; `peak_mib` has both, as the kernel counts them (`ru_maxrss`).
"""

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from service.retrieval.storage.checksums import sha256_of
from tests.bench.closed_loop import measure
from tests.bench.corpus import ROOT
from tests.bench.meter import MEBIBYTE
from tests.bench.options import environment_of, parser, say
from tests.bench.record import write_result
from tests.bench.servers import memory_bytes, our_service, served
from tests.bench.texts import questions, search_bodies, write_bodies
from tests.bench.wrk import find_wrk
from tests.support.layouts import static

STEPS = ("machine", "build", "apply", "serve")
MACHINE_BLOCKS, BLOCK_BYTES = 128, 8 * MEBIBYTE  # 1 GiB
CHANGES = (1, 1000)
WORDS = 12
DIMENSIONS = 384


def measured(arguments: list[str]) -> dict[str, float]:
    """Run a command of the service; return its costs."""
    command = [sys.executable, "-m", "service", *arguments]
    started, own, files = time.monotonic(), 0, 0
    process = subprocess.Popen(command, cwd=ROOT)
    while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
        now = memory_bytes(process.pid)
        own, files = max(own, now[0]), max(files, now[1])
        time.sleep(0.1)
    _, status, usage = ended
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with code {process.returncode}")
    return {
        "seconds": round(time.monotonic() - started, 1),
        "processor_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "own_mib": round(own / MEBIBYTE),
        "files_mib": round(files / MEBIBYTE),
        "peak_mib": round(usage.ru_maxrss / 1024),
    }


def machine(folder: Path) -> dict[str, float]:
    """Write and sync a file, then hash it: what a copy of an index costs at least."""
    path, block = folder / "written", os.urandom(BLOCK_BYTES)
    started = time.monotonic()
    with path.open("wb") as file:
        for _ in range(MACHINE_BLOCKS):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    written, busy = time.monotonic() - started, time.process_time()
    sha256_of(path)
    busy = time.process_time() - busy
    path.unlink()
    megabytes = MACHINE_BLOCKS * BLOCK_BYTES / 1e6
    return {
        "written_mb_second": round(megabytes / written),
        "hashed_mb_processor_second": round(megabytes / busy),
    }


def texts(options: argparse.Namespace) -> Iterator[str]:
    """Yield the passages' texts; the encoder of next to no cost has few tokens."""
    if not options.encoder:
        yield from (f"passage {number} of tea and salt" for number in range(options.passages))
        return
    words = [word for each in questions(options.data) for word in each.text.split()]
    rng = random.Random(0)
    for _ in range(options.passages):
        yield " ".join(rng.choices(words, k=WORDS))


def build(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """Write the passages, and build their index."""
    passages = folder / "passages.jsonl"
    with passages.open("w", encoding="utf-8") as file:
        for number, text in enumerate(texts(options)):
            file.write(json.dumps({"id": f"{number:07}", "text": text}) + "\n")
    return measured(["index", "build", str(passages), *_chosen(folder, options)])


def apply(folder: Path, count: int, options: argparse.Namespace) -> dict[str, float]:
    """Put new texts for some passages, spread evenly."""
    changes = folder / "changes.jsonl"
    with changes.open("w", encoding="utf-8") as file:
        for number in range(count):
            row = number * options.passages // count
            change = {"id": f"{row:07}", "text": f"new {time.time_ns()} of tea"}
            file.write(json.dumps(change) + "\n")
    return measured(["index", "apply", str(changes), *_chosen(folder, options)])


def serve(folder: Path, options: argparse.Namespace) -> dict[str, object]:
    """Start the service, and search by 1 and by 32 clients."""
    bodies = write_bodies(search_bodies(questions(options.data)), folder / "bodies.jsonl")
    encoder = options.encoder or str(folder / "encoder")
    environment = {**environment_of(options), "CLEAR_ENCODER": encoder}
    started = time.monotonic()
    log = folder / "service.log"
    with our_service(folder / "index", options.port, environment, log) as server:
        ready = round(time.monotonic() - started, 1)
        runs = [
            measure(server, "search", bodies, clients, options.seconds, options.warm_up)
            for clients in (1, 32)
        ]
        own, files = (round(each / MEBIBYTE) for each in memory_bytes(server.process_id))
        facts = served(server)
    memory = {"ready_seconds": ready, "own_mib": own, "files_mib": files}
    return {**memory, "served": facts, "runs": runs}


def main() -> None:
    """Run the steps, and record them."""
    made = parser(__doc__)
    made.add_argument("--passages", type=int, default=1_000_000)
    made.add_argument("--encoder", default="", help="instead of a table of random vectors")
    made.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS))
    made.add_argument("--seconds", type=float, default=10)
    options = made.parse_args()
    if "serve" in options.steps:
        find_wrk()
    os.environ.update(environment_of(options))
    folder: Path = options.work / "million" / options.encoder
    folder.mkdir(parents=True, exist_ok=True)
    if not options.encoder and not (folder / "encoder").exists():
        static(potion=False, dim=DIMENSIONS)(folder / "encoder")
    found: dict[str, object] = {"passages": options.passages, "encoder": options.encoder}
    if "machine" in options.steps:
        found["machine"] = machine(folder)
    if "build" in options.steps:
        found["build"] = build(folder, options)
    if "apply" in options.steps:
        found["apply"] = {str(count): apply(folder, count, options) for count in CHANGES}
    if "serve" in options.steps:
        found["serve"] = serve(folder, options)
    say(json.dumps(found))
    write_result(f"million-{'-'.join(options.steps)}", options, found)


def _chosen(folder: Path, options: argparse.Namespace) -> list[str]:
    encoder = options.encoder or str(folder / "encoder")
    return ["--index", str(folder / "index"), "--encoder", encoder]


if __name__ == "__main__":
    main()
