"""The actions of clients in a soak test: valid, invalid and hostile requests."""

import gzip
import json
import random
import socket
from collections.abc import Callable
from contextlib import closing
from http.client import HTTPConnection

TIMEOUT_SECONDS = 30.0
WORDS = ("tea", "Kenya", "mji", "столица", "首都", "राजधानी", "عاصمة", "protein", "sun", "🎻")
PLANES = ((0x20, 0x7F), (0xA0, 0xD7FF), (0xE000, 0xFFFD), (0x10000, 0x10FFFF))
GOOD, BAD, GONE = "good", "bad", "gone"
Outcome = tuple[str, int | None]
Act = Callable[[random.Random, HTTPConnection], Outcome]


def some_text(rng: random.Random) -> str:
    """Return a random query: words, or characters of any Unicode plane."""
    if rng.random() < 0.8:
        return " ".join(rng.choices(WORDS, k=rng.randint(1, 40)))
    return "".join(chr(rng.randint(*rng.choice(PLANES))) for _ in range(rng.randint(1, 200)))


def post(connection: HTTPConnection, path: str, body: bytes, **headers: str) -> int:
    """Send a POST request, read the whole answer and return its status."""
    connection.request("POST", path, body, {"Content-Type": "application/json", **headers})
    response = connection.getresponse()
    response.read()
    return response.status


def search(rng: random.Random, connection: HTTPConnection) -> Outcome:
    """Search with one query or several."""
    body: dict[str, object] = {"top_k": rng.choice((1, 3, 10, 100))}
    if rng.random() < 0.7:
        body["query"] = some_text(rng)
    else:
        body["queries"] = [some_text(rng) for _ in range(rng.randint(1, 16))]
    gzipped = {"Accept-Encoding": "gzip"} if rng.random() < 0.3 else {}
    return GOOD, post(connection, "/search", json.dumps(body).encode(), **gzipped)


def encode(rng: random.Random, connection: HTTPConnection) -> Outcome:
    """Encode texts."""
    texts = [some_text(rng) for _ in range(rng.randint(1, 32))]
    body = {"texts": texts, "role": "passage", "encoding_format": rng.choice(("float", "base64"))}
    return GOOD, post(connection, "/encode", json.dumps(body).encode())


def look(rng: random.Random, connection: HTTPConnection) -> Outcome:
    """Read a page, the schema, the state or the metrics."""
    paths = ("/", "/docs", "/openapi.json", "/info", "/livez", "/readyz", "/metrics")
    connection.request("GET", rng.choice(paths), headers={"Accept-Encoding": "gzip"})
    response = connection.getresponse()
    response.read()
    return GOOD, response.status


def nonsense(rng: random.Random, connection: HTTPConnection) -> Outcome:
    """Send an invalid request."""
    bodies = (
        b"",
        b"{",
        b"[" * rng.randint(1, 10_000),
        rng.randbytes(rng.randint(1, 2000)),
        json.dumps({"query": "\ud800"}).encode(),
        json.dumps({"query": " " * rng.randint(1, 1_000_000)}).encode(),
        json.dumps({"query": "tea", "filter": {"nowhere": 1}}).encode(),
        json.dumps({"query": "tea", some_text(rng)[:50]: 1}).encode(),
    )
    return BAD, post(connection, rng.choice(("/search", "/encode", "/no")), rng.choice(bodies))


def too_much(rng: random.Random, connection: HTTPConnection) -> Outcome:
    """Send a too large body or a gzip bomb; the server may close the connection early."""
    if rng.random() < 0.5:
        bomb = gzip.compress(b"a" * 5_000_000)
        return BAD, post(connection, "/search", bomb, **{"Content-Encoding": "gzip"})
    try:
        return BAD, post(connection, "/search", b"a" * 3_000_000)
    except (BrokenPipeError, ConnectionResetError):
        connection.close()
        return BAD, None


def in_a_hurry(rng: random.Random, connection: HTTPConnection) -> Outcome:
    """Set a deadline of one or two milliseconds; 504 is a correct answer."""
    body = {"query": some_text(rng), "timeout_ms": rng.randint(1, 2)}
    status = post(connection, "/search", json.dumps(body).encode())
    return (GOOD if status == 200 else BAD), 200 if status == 504 else status


def with_a_wrong_key(rng: random.Random, connection: HTTPConnection) -> Outcome:
    """Send a wrong key."""
    headers = {"Authorization": f"Bearer {rng.getrandbits(200):x}"}
    return BAD, post(connection, "/search", b'{"query": "tea"}', **headers)


def raw(rng: random.Random, connection: HTTPConnection) -> Outcome:
    """Disconnect halfway, send garbage, stall, or do not read the answer."""
    head = b"POST /search HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    whole = head + b'Content-Length: 16\r\n\r\n{"query": "tea"}'
    pieces = (
        b"",
        whole[: rng.randint(1, len(whole) - 1)],
        rng.randbytes(rng.randint(1, 3000)),
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 20_000,
        head + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 50,
        whole,
    )
    with closing(socket.create_connection((connection.host, connection.port))) as client:
        client.settimeout(TIMEOUT_SECONDS)
        try:
            client.sendall(rng.choice(pieces))
            if rng.random() < 0.3:
                client.shutdown(socket.SHUT_WR)
            if rng.random() < 0.1:  # until the server closes the connection
                while client.recv(65_536):
                    pass
        except (BrokenPipeError, ConnectionResetError, OSError) as error:
            if isinstance(error, TimeoutError):
                raise
    return GONE, None


ACTS: tuple[tuple[Act, int], ...] = (
    (search, 50),
    (encode, 12),
    (look, 8),
    (nonsense, 10),
    (too_much, 2),
    (in_a_hurry, 5),
    (with_a_wrong_key, 3),
    (raw, 10),
)
