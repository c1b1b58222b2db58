"""Large requests by the official openai client and by ours, with searches beside them.

Run: python -m tests.bench.large_requests --texts 256 --tokens 512

Each client gives all texts to one call, with its own defaults for timeouts and retries. The
searches come one after the other; the query cache is off.
"""

import argparse
import time
from collections.abc import Callable, Sequence

from tokenizers import Tokenizer

from service.client import Client
from tests.bench.closed_loop import counter_changes
from tests.bench.corpus import ensure_index
from tests.bench.meter import metered
from tests.bench.options import checkpoint_of, environment_of, parser, say
from tests.bench.probes import probing
from tests.bench.record import write_result
from tests.bench.servers import Server, our_service, scrape, served
from tests.bench.texts import mixed_texts, questions, search_bodies

PAUSE_SECONDS = 0.1  # between a search and the next


def main() -> None:
    """Start the service, send the texts by each client, write the result."""
    made = parser(__doc__)
    made.add_argument("--texts", type=int, default=256, help="texts of one call")
    made.add_argument("--tokens", type=int, default=512, help="tokens of a text")
    options = made.parse_args()
    tokenizer = Tokenizer.from_file(str(checkpoint_of(options) / "tokenizer.json"))
    mixed = mixed_texts(options.data, tokenizer, options.texts, options.tokens, options.tokens)
    searches = search_bodies(questions(options.data))
    index, log = ensure_index(options.work), options.work / "logs" / "large_requests.log"
    with our_service(index, options.port, environment_of(options), log) as server:
        result = large_requests(server, [each.text for each in mixed], searches, options)
    write_result("large_requests", options, result)


def large_requests(
    server: Server, texts: list[str], searches: Sequence[bytes], options: argparse.Namespace
) -> dict[str, object]:
    """Send the texts to a running server by each client; search beside it, and before alone."""
    with probing(server.port, "/search", searches, PAUSE_SECONDS) as alone:
        time.sleep(options.warm_up)
    found: dict[str, object] = {}
    for name, encode in CLIENTS.items():
        before = scrape(server)
        with (
            metered(server) as meter,
            probing(server.port, "/search", searches, PAUSE_SECONDS) as beside,
        ):
            started = time.monotonic()
            count = encode(server.url, texts)
            seconds = time.monotonic() - started
        found[name] = {
            "embeddings": count,
            "seconds": round(seconds, 2),
            "texts_per_second": round(count / seconds, 2),
            "searches": beside.summary(),
            "metrics": counter_changes(before, scrape(server)),
            "costs": meter.costs,
        }
        say(f"{name}: {count} texts in {seconds:.1f} s, searches beside: {beside.summary()}")
    return {"served": served(server), "searches_alone": alone.summary(), **found}


def encode_by_openai(url: str, texts: list[str]) -> int:
    """Encode texts as passages by the official client; return the number of embeddings."""
    import openai  # a second, which a test of the command line has no use for

    with openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        model = next(each.id for each in client.models.list() if each.id.endswith(":passage"))
        return len(client.embeddings.create(model=model, input=texts).data)


def encode_by_our_client(url: str, texts: list[str]) -> int:
    """Encode texts as passages by the project's client; return the number of embeddings."""
    with Client(url) as client:
        return len(client.encode(texts, "passage"))


CLIENTS: dict[str, Callable[[str, list[str]], int]] = {
    "openai": encode_by_openai,
    "service.client": encode_by_our_client,
}

if __name__ == "__main__":
    main()
