"""Clients that reset their connections: what /livez and the encoder notice of them.

Run: python -m tests.bench.resets --count 5000

Each client sends a whole search and resets the connection at once. /livez is asked meanwhile.
"""

import argparse
import socket
import struct
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice

from tests.bench.client import request_bytes
from tests.bench.closed_loop import counter_changes
from tests.bench.corpus import ensure_index
from tests.bench.meter import metered
from tests.bench.options import environment_of, parser, say
from tests.bench.probes import probing
from tests.bench.record import write_result
from tests.bench.servers import Server, our_service, scrape, served
from tests.bench.texts import questions, search_bodies

RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER of 0 s: close sends RST
AFTER_SECONDS = 1.0  # /livez is asked this long after the last reset


def main() -> None:
    """Start the service, reset connections, write the result."""
    made = parser(__doc__)
    made.add_argument("--count", type=int, default=5_000, help="connections that are reset")
    made.add_argument("--clients", type=int, default=8, help="that reset at the same time")
    options = made.parse_args()
    requests = [request_bytes("/search", body) for body in search_bodies(questions(options.data))]
    index, log = ensure_index(options.work), options.work / "logs" / "resets.log"
    with our_service(index, options.port, environment_of(options), log) as server:
        result = resets(server, requests, options)
    say(f"{result}")
    write_result("resets", options, result)


def resets(
    server: Server, requests: Sequence[bytes], options: argparse.Namespace
) -> dict[str, object]:
    """Reset connections to a running server, and ask /livez before and meanwhile."""
    with probing(server.port, "/livez") as alone:
        time.sleep(options.warm_up)
    before = scrape(server)
    with metered(server) as meter, probing(server.port, "/livez") as beside:
        started = time.monotonic()
        with ThreadPoolExecutor(options.clients) as pool:
            chosen = islice(cycle(requests), options.count)
            list(pool.map(lambda request: reset(server.port, request), chosen))
        seconds = time.monotonic() - started
        time.sleep(AFTER_SECONDS)
    return {
        "served": served(server),
        "resets": options.count,
        "resets_per_second": round(options.count / seconds, 1),
        "livez_alone": alone.summary(),
        "livez_beside": beside.summary(),
        "metrics": counter_changes(before, scrape(server)),
        "costs": meter.costs,
    }


def reset(port: int, request: bytes) -> None:
    """Send a request and reset the connection before the answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        connection.sendall(request)


if __name__ == "__main__":
    main()
