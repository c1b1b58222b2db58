"""Whether the time to check a key tells how near it was to a right one: 10,000 tries a kind.

Run: python -m tests.bench.key_timing --tries 10000

Right keys (the first and the last of the ring), wrong ones that share all but the last character
with a right one, and wrong ones that share nothing, each in turn, in one process. Kinds are
compared by the medians and by a permutation test of the difference of trimmed means. A right key
takes some 10 ns longer (of 1,300: its account is found, not None), as its answer tells anyway; what
must not show is how near a wrong one was.
"""

import random
import tempfile
import time
from pathlib import Path

import numpy as np

from service.keyring import KeyRing
from service.keys import make_key, write_line
from service.settings import Settings
from tests.bench.options import parser, say
from tests.bench.record import write_result

NUM_KEYS = 20
NUM_PERMUTATIONS = 2000
TRIMMED = 0.1  # interrupts of the machine, at both ends


def presented() -> tuple[KeyRing, dict[str, bytes]]:
    """Make a ring, and what is shown to it."""
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
    """Try every kind in turn, in random order; nanoseconds a try."""
    ring, kinds = presented()
    rng = random.Random(0)
    spent: dict[str, list[int]] = {name: [] for name in kinds}
    names = list(kinds)
    for _ in range(tries):
        rng.shuffle(names)
        for name in names:
            key = bytes(bytearray(kinds[name]))  # anew, as a header comes: where it lies matters
            started = time.perf_counter_ns()
            ring.find(key)
            spent[name].append(time.perf_counter_ns() - started)
    return {name: np.asarray(values, float) for name, values in spent.items()}


def trimmed_mean(values: np.ndarray) -> float:
    """Average without the ends."""
    cut = int(len(values) * TRIMMED)
    return float(np.sort(values)[cut : len(values) - cut].mean())


def p_value(one: np.ndarray, other: np.ndarray) -> float:
    """Tell how often chance alone makes a difference as large (two-sided permutation test)."""
    rng = np.random.default_rng(0)
    both = np.stack([one, other])
    seen = abs(trimmed_mean(one) - trimmed_mean(other))
    as_large = 0
    for _ in range(NUM_PERMUTATIONS):
        swap = rng.random(both.shape[1]) < 0.5  # a try of each kind was made at the same moment
        left, right = np.where(swap, both[::-1], both)
        as_large += abs(trimmed_mean(left) - trimmed_mean(right)) >= seen
    return (as_large + 1) / (NUM_PERMUTATIONS + 1)


def main() -> None:
    """Measure and tell."""
    made = parser(__doc__)
    made.add_argument("--tries", type=int, default=10_000)
    options = made.parse_args()
    spent = measure(options.tries)
    facts = {
        name: {"median_ns": float(np.median(each)), "trimmed_mean_ns": round(trimmed_mean(each), 1)}
        for name, each in spent.items()
    }
    tests = {name: round(p_value(each, spent["wrong"]), 4) for name, each in spent.items()}
    tests.pop("wrong")
    say(f"nanoseconds: {facts}")
    say(f"p of the difference from a wrong key: {tests}")
    write_result("key_timing", options, {"kinds": facts, "p_against_wrong": tests})


if __name__ == "__main__":
    main()
