"""The start of the service: the first answer, readiness, and the slowest /livez until then.

Run: python -m tests.bench.starting --starts 3
     python -m tests.bench.starting --demo --cold

`--cold` begins with an empty cache, and starts again with what is then in it.

The port refuses connections until it listens; then /livez answers while the encoder and the index
load. A call that holds the interpreter's lock shows as a slow /livez.
"""

import argparse
import sys
import tempfile
import time
from contextlib import AbstractContextManager
from pathlib import Path

from tests.bench.corpus import ensure_index
from tests.bench.meter import MEBIBYTE
from tests.bench.options import environment_of, parser, say
from tests.bench.probes import probing
from tests.bench.record import write_result
from tests.bench.servers import (
    Server,
    cpu_seconds,
    our_service,
    rss_bytes,
    run_server,
    served,
)


def main() -> None:
    """Start the service several times, write the result."""
    made = parser(__doc__)
    made.add_argument("--starts", type=int, default=3)
    made.add_argument("--demo", action="store_true", help="`clear-service demo`")
    made.add_argument("--cold", action="store_true", help="with an empty cache at first")
    options = made.parse_args()
    index = None if options.demo else ensure_index(options.work)
    starts: list[dict[str, object]] = []
    for _ in range(options.starts):
        if not options.cold:
            starts.append(start(index, options, {}))
            continue
        options.work.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=options.work) as cache:
            for is_cold in (True, False):
                found = start(index, options, {"CLEAR_CACHE": cache})
                starts.append({"is_cold": is_cold, **found})
    write_result("starting", options, {"starts": starts})


def start(
    index: Path | None, options: argparse.Namespace, settings: dict[str, str]
) -> dict[str, object]:
    """Start the service, without an index the demo, once and stop it; ask /livez all the time."""
    log, started = options.work / "logs" / "starting.log", time.monotonic()
    environment = {**environment_of(options), **settings}
    with (
        probing(options.port, "/livez") as probes,
        serving(index, options.port, environment, log) as server,
    ):
        seconds = time.monotonic() - started
        probes.ask()
        processor_seconds = cpu_seconds(server.process_id)
        rss_mib = round(rss_bytes(server.process_id) / MEBIBYTE, 1)
        facts, summary = served(server), probes.summary()
    found: dict[str, object] = {
        "served": facts,
        "first_answer_seconds": probes.first_answer_seconds,
        "ready_seconds": round(seconds, 2),
        "processor_seconds": round(processor_seconds, 2),
        "rss_mib": rss_mib,
        "livez": summary,
    }
    say(f"{found}")
    return found


def serving(
    index: Path | None, port: int, environment: dict[str, str], log: Path
) -> AbstractContextManager[Server]:
    """Run the service with an index, or the demo."""
    if index is not None:
        return our_service(index, port, environment, log)
    command = [sys.executable, "-m", "service", "demo", "--port", str(port)]
    return run_server("demo", command, port, "/readyz", environment, log)


if __name__ == "__main__":
    main()
