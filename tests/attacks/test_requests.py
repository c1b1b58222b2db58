"""Malicious requests: endless heads, two lengths, compressed bombs."""

import gzip
import json
import zlib

import pytest

from tests.attacks.victim import MAX_BODY_BYTES, MAX_HEAD_BYTES, QUERY, Victim, head, request

CHUNKED = "Transfer-Encoding: chunked"
HIDDEN = b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Request-Id: hidden\r\n\r\n"
CHUNKED_QUERY = b"%x\r\n%b\r\n0\r\n\r\n" % (len(QUERY), QUERY)


@pytest.mark.parametrize(
    "chunks",
    [
        [b"GET /" + b"a" * MAX_HEAD_BYTES] * 3,
        [b"GET / HTTP/1.1\r\nA: " + b"a" * MAX_HEAD_BYTES] + [b"a" * MAX_HEAD_BYTES] * 50,
        [b"GET / HTTP/1.1\r\n" + b"a" * MAX_HEAD_BYTES] + [b"a" * MAX_HEAD_BYTES] * 50,
        [b"GET / HTTP/1.1\r\n"] + [b"a: b\r\n" * 1000] * 50,
        [head(lines=[CHUNKED]) + b"1\r\n{\r\n0\r\n"] + [b"a: b\r\n" * 1000] * 50,
        [head(lines=[CHUNKED]) + b"1\r\n{\r\n0\r\nA: "] + [b"a" * MAX_HEAD_BYTES] * 50,
        [head(lines=[CHUNKED]) + b"1;"] + [b"a" * MAX_HEAD_BYTES] * 50,
    ],
    ids=["path", "value", "name", "headers", "trailers", "trailer's value", "chunk's extension"],
)
def test_a_head_without_end_is_refused(victim: Victim, chunks: list[bytes]) -> None:
    conversation = victim.talk(*chunks)

    assert conversation.is_closed
    assert set(conversation.statuses) <= {400, 431}


def test_a_head_just_below_the_limit_is_accepted(victim: Victim) -> None:
    long = "A: " + "a" * (MAX_HEAD_BYTES - 300)

    assert victim.talk(request(lines=[long])).statuses == [200]


SMUGGLED = {
    "both lengths": ["Content-Length: 5", CHUNKED],
    "both lengths, the other way": [CHUNKED, "Content-Length: 5"],
    "two lengths": ["Content-Length: 5", "Content-Length: 60"],
    "a list of lengths": ["Content-Length: 5, 60"],
    "signed length": ["Content-Length: +5"],
    "negative length": ["Content-Length: -5"],
    "hexadecimal length": ["Content-Length: 0x5"],
    "length above 64 bits": ["Content-Length: 18446744073709551621"],
    "space before the colon": ["Content-Length : 5"],
    "folded header": ["Content-Length:\r\n 5"],
    "an encoding that is none": ["Transfer-Encoding: xchunked"],
    "chunked twice": ["Transfer-Encoding: chunked, chunked"],
    "chunked, not last": ["Transfer-Encoding: chunked, identity"],
    "vertical tab": ["Transfer-Encoding: \x0bchunked"],
    "NUL in a value": ["Content-Length: 5\x00"],
    "bare CR": ["A: b\rContent-Length: 5"],
    "line feed alone": ["A: b\nTransfer-Encoding: chunked"],
}


@pytest.mark.parametrize("lines", SMUGGLED.values(), ids=SMUGGLED)
def test_a_request_of_ambiguous_length_ends_its_connection(
    victim: Victim, lines: list[str]
) -> None:
    """The bytes that follow are never parsed: a proxy could see another request in them."""
    conversation = victim.talk(head(lines=lines) + b"0\r\n\r\n" + HIDDEN, shut=True)

    assert b"hidden" not in conversation.received
    assert conversation.is_closed
    assert set(conversation.statuses) <= {400, 408}


@pytest.mark.parametrize(
    "body",
    [
        b"ZZ\r\n{}\r\n0\r\n\r\n",
        b"-1\r\n{}\r\n0\r\n\r\n",
        b"2\r\n{}0\r\n\r\n",
        b"ffffffffffffffffff\r\n{}\r\n0\r\n\r\n",
        b"2 \r\n{}\r\n0\r\n\r\n",
    ],
)
def test_chunks_of_a_wrong_length_are_refused(victim: Victim, body: bytes) -> None:
    conversation = victim.talk(head(lines=[CHUNKED]) + body + HIDDEN, shut=True)

    assert conversation.is_closed
    assert b"hidden" not in conversation.received
    assert set(conversation.statuses) <= {400}


def test_chunks_of_the_right_length_are_answered(victim: Victim) -> None:
    conversation = victim.talk(head(lines=[CHUNKED, "Connection: close"]) + CHUNKED_QUERY)

    assert conversation.statuses == [200]


NO_HTTP = {
    "garbage": b"\x00\x01\x02\xff\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 200,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/9": b"GET / HTTP/9.9\r\n\r\n",
    "CONNECT": b"CONNECT a:443 HTTP/1.1\r\nHost: x\r\n\r\n",
    "bytes in the path": b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
    "space in the path": b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("sent", NO_HTTP.values(), ids=NO_HTTP)
def test_invalid_http_is_a_problem_and_ends_the_connection(victim: Victim, sent: bytes) -> None:
    conversation = victim.talk(sent)

    assert conversation.statuses == [400]
    assert conversation.is_closed
    problem = json.loads(conversation.body)
    assert problem["type"] == "urn:clear-search:problem:malformed-request"
    assert f"x-request-id: {problem['request_id']}".encode() in conversation.received


OFFERS = {
    "h2c": ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"],
    "websocket": ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: AA=="],
    "several": ["connection: keep-alive, upgrade", "UPGRADE: TLS/1.0, h2c", "Upgrade: x"],
    "unknown": ["Upgrade: rabbit/7", "Connection: upgrade"],
}
LENGTH = f"Content-Length: {len(QUERY)}"


@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
@pytest.mark.parametrize(
    ("lines", "body"), [([LENGTH], QUERY), ([CHUNKED], CHUNKED_QUERY)], ids=["length", "chunked"]
)
@pytest.mark.parametrize("is_split", [False, True], ids=["one packet", "byte by byte"])
def test_an_offer_to_upgrade_is_ignored_and_the_body_read(
    victim: Victim, offer: list[str], lines: list[str], body: bytes, is_split: bool
) -> None:
    """The same connection then serves the next request, which offers the upgrade again."""
    sent = 2 * (head(lines=[*offer, *lines]) + body)
    chunks = [sent[i : i + 1] for i in range(len(sent))] if is_split else [sent]

    conversation = victim.talk(*chunks, until=lambda received: received.count(b"results") == 2)

    assert conversation.statuses == [200, 200]


def test_an_offer_to_upgrade_without_a_body_is_ignored(victim: Victim) -> None:
    sent = head("GET", "/livez", OFFERS["websocket"]) + request()

    assert victim.talk(sent).statuses == [200, 200]


def test_an_offer_to_upgrade_hides_no_request_and_no_limit(victim: Victim) -> None:
    offer = OFFERS["h2c"]
    smuggled = head(lines=[*offer, "Content-Length: 5", CHUNKED]) + b"0\r\n\r\n" + HIDDEN
    long = head(lines=[*offer, "A: " + "a" * MAX_HEAD_BYTES])
    large = head(lines=[*offer, f"Content-Length: {MAX_BODY_BYTES + 1}"])

    assert victim.talk(smuggled, shut=True).statuses == [400]
    assert victim.talk(long).statuses == [431]
    assert victim.talk(large, until=lambda received: b"}" in received).statuses == [413]


@pytest.mark.parametrize("path", ["/%2e%2e/admin", "/web/..%2f..%2fapp.py", "/web/%00", "/%ff"])
def test_a_path_leads_to_nothing_that_is_not_served(victim: Victim, path: str) -> None:
    conversation = victim.talk(head("GET", path, ["Connection: close"]))

    assert conversation.statuses == [404]


def bomb(compress: object, layers: int = 1) -> bytes:
    content = json.dumps({"query": "a" * 50_000_000}).encode()
    for _ in range(layers):
        content = compress(content)  # type: ignore[operator]
    return bytes(content)


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", bomb(gzip.compress)),
        ("gzip, gzip", bomb(gzip.compress, 2)),
        ("deflate", bomb(zlib.compress)),
        ("br", QUERY),
        ("identity, gzip", bomb(gzip.compress)),
    ],
)
def test_a_compressed_bomb_is_refused_without_decompression(
    victim: Victim, encoding: str, body: bytes
) -> None:
    """50 MB of text in 49 kB."""
    assert len(body) < MAX_BODY_BYTES

    status, answer = victim.ask(body, **{"Content-Encoding": encoding})

    assert status == 415
    assert json.loads(answer)["field"] == "body"


@pytest.mark.parametrize("length", [MAX_BODY_BYTES + 1, 10**12, 2**63 - 1])
def test_a_body_declared_too_large_is_refused_before_it_is_sent(
    victim: Victim, length: int
) -> None:
    conversation = victim.talk(
        head(lines=[f"Content-Length: {length}"]), until=lambda received: b"}" in received
    )

    assert conversation.statuses == [413]


@pytest.mark.parametrize(("headers", "status"), [({}, 413), ({"Content-Encoding": "gzip"}, 415)])
def test_a_client_that_sends_all_before_reading_learns_why_it_was_refused(
    victim: Victim, headers: dict[str, str], status: int
) -> None:
    """Closing a socket with unread bytes resets the connection and loses the response."""
    body = b" " * (50 * MAX_BODY_BYTES)

    found, answer = victim.ask(body, Connection="close", **headers)

    assert found == status
    assert json.loads(answer)["status"] == status


def test_a_client_that_waits_for_100_continue_gets_it(victim: Victim) -> None:
    waiting = head(lines=[f"Content-Length: {len(QUERY)}", "Expect: 100-continue"])

    conversation = victim.talk(waiting, QUERY, until=lambda received: b"results" in received)

    assert conversation.statuses == [100, 200]
