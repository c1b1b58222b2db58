"""Timing of the key check: does it reveal how similar a wrong key is to a valid one?

Run: python -m tests.bench.key_timing --tries 10000

Valid keys (the first and the last of the ring), wrong keys that differ from a valid one only in the
last character, and unrelated wrong keys are checked in turn, in 40 processes with separate rings.
The kinds are compared by a permutation test on the medians of the processes.
"""

import multiprocessing
import random
import tempfile
import time
from pathlib import Path

import numpy as np

from service.auth.keyring import KeyRing
from service.auth.keys import make_key, write_line
from service.settings.settings import Settings
from tests.bench.options import parser, say
from tests.bench.record import write_result

NUM_KEYS = 20
BLOCK = 250  # checks per process
WARM_UP = 50
NUM_PERMUTATIONS = 10_000


def make_keys() -> tuple[KeyRing, dict[str, bytes]]:
    """Return a key ring, and the keys to check against it."""
    made = [make_key(["search"]) for _ in range(NUM_KEYS)]
    lines = [write_line(f"key-{number}", key) for number, (_, key) in enumerate(made)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "keys.toml"
        path.write_text("\n".join(lines))
        ring = KeyRing(Settings(keys_file=path))
    first, last = made[0][0].encode(), made[-1][0].encode()
    stranger = make_key(["search"])[0].encode()
    near = first[:-1] + (b"A" if first[-1:] != b"A" else b"B")
    return ring, {"right, first": first, "right, last": last, "near": near, "wrong": stranger}


def measure(tries: int) -> dict[str, np.ndarray]:
    """Check every kind in random order; return nanoseconds, one row of `BLOCK` checks per process.

    Each process has its own ring and keys, because the memory addresses of a key, which stay the
    same in a process, affect the time more than the comparison does.
    """
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        blocks = pool.map(_block, range(tries // BLOCK), chunksize=1)
    return {name: np.asarray([block[name] for block in blocks], float) for name in blocks[0]}


def _block(seed: int) -> dict[str, list[int]]:
    rng = random.Random(seed)
    ring, kinds = make_keys()
    names = list(kinds)
    rng.shuffle(names)
    spent: dict[str, list[int]] = {name: [] for name in names}
    for _ in range(WARM_UP + BLOCK):
        for name in rng.sample(names, len(names)):
            key = bytes(bytearray(kinds[name]))  # a new object, as for each header
            started = time.perf_counter_ns()
            ring.find(key)
            spent[name].append(time.perf_counter_ns() - started)
    return {name: values[WARM_UP:] for name, values in spent.items()}


def p_value(one: np.ndarray, other: np.ndarray) -> float:
    """Return the p value of the difference of two kinds (two-sided permutation test)."""
    rng = np.random.default_rng(0)
    differences = np.median(one, axis=1) - np.median(other, axis=1)
    signs = rng.choice([-1, 1], (NUM_PERMUTATIONS, len(differences)))
    as_large = np.abs((signs * differences).mean(axis=1)) >= abs(differences.mean())
    return float((as_large.sum() + 1) / (NUM_PERMUTATIONS + 1))


def _mean_of_medians(spent: np.ndarray) -> float:
    return round(float(np.median(spent, axis=1).mean()), 1)


def main() -> None:
    """Measure, print and write the result."""
    made = parser(__doc__)
    made.add_argument("--tries", type=int, default=10_000)
    options = made.parse_args()
    spent = measure(options.tries)
    facts = {
        name: {"median_ns": float(np.median(each)), "mean_of_medians_ns": _mean_of_medians(each)}
        for name, each in spent.items()
    }
    tests = {name: round(p_value(each, spent["wrong"]), 4) for name, each in spent.items()}
    tests.pop("wrong")
    say(f"nanoseconds: {facts}")
    say(f"p value of the difference from a wrong key: {tests}")
    write_result("key_timing", options, {"kinds": facts, "p_against_wrong": tests})


if __name__ == "__main__":
    main()
