"""The start of the service: the first answer, readiness, and the slowest /livez until then.

Run: python -m tests.bench.starting --starts 3

The port refuses connections until it listens; then /livez answers while the encoder and the index
load. A call that holds the interpreter's lock shows as a slow /livez.
"""

import argparse
import time
from pathlib import Path

from tests.bench.corpus import ensure_index
from tests.bench.meter import MEBIBYTE
from tests.bench.options import environment_of, parser, say
from tests.bench.probes import probing
from tests.bench.record import write_result
from tests.bench.servers import cpu_seconds, our_service, rss_bytes, served


def main() -> None:
    """Start the service several times, write the result."""
    made = parser(__doc__)
    made.add_argument("--starts", type=int, default=3)
    options = made.parse_args()
    index = ensure_index(options.work)
    starts = [start(index, options) for _ in range(options.starts)]
    write_result("starting", options, {"starts": starts})


def start(index: Path, options: argparse.Namespace) -> dict[str, object]:
    """Start the service once and stop it; ask /livez all the time."""
    log, started = options.work / "logs" / "starting.log", time.monotonic()
    with (
        probing(options.port, "/livez") as probes,
        our_service(index, options.port, environment_of(options), log) as server,
    ):
        seconds = time.monotonic() - started
        probes.ask()
        processor_seconds = cpu_seconds(server.process_id)
        rss_mib = round(rss_bytes(server.process_id) / MEBIBYTE, 1)
        facts, summary = served(server), probes.summary()
    found = {
        "served": facts,
        "first_answer_seconds": probes.first_answer_seconds,
        "ready_seconds": round(seconds, 2),
        "processor_seconds": round(processor_seconds, 2),
        "rss_mib": rss_mib,
        "livez": summary,
    }
    say(f"{found}")
    return found


if __name__ == "__main__":
    main()
