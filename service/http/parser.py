"""The HTTP/1.1 parser of a connection, which ignores offers to upgrade to another protocol.

httptools takes the bytes after a head that offers an upgrade, such as `Upgrade: h2c` of Java's
client, for the other protocol. A server that does not accept the offer must read them as the body
(RFC 9110, section 7.8), so such a head is parsed again without the offer.
"""

from typing import Protocol

import httptools

UPGRADE = b"upgrade"


class Callbacks(Protocol):
    """A connection's protocol: receives httptools' callbacks, and keeps what they report."""

    url: bytes
    headers: list[tuple[bytes, bytes]]


class RequestParser:
    """httptools' parser, started again at each head that offers an upgrade."""

    def __init__(self, protocol: Callbacks) -> None:
        """Parse for the protocol of a connection."""
        self._protocol = protocol
        self._parser = self._new_parser()

    def feed_data(self, data: bytes) -> None:
        """Parse bytes of requests.

        Raises:
            httptools.HttpParserError: the bytes are not HTTP.
            httptools.HttpParserUpgrade: the method is CONNECT.
        """
        rest = memoryview(data)
        while rest:
            try:
                self._parser.feed_data(rest)
                return
            except httptools.HttpParserUpgrade as upgrade:
                if not self.should_upgrade():
                    raise
                rest = rest[upgrade.args[0] :]
                head = self._head_without_upgrade()
                self._parser = self._new_parser()
                self._parser.feed_data(head)

    def should_upgrade(self) -> bool:
        """Return whether the head offers an upgrade, and will therefore be parsed again."""
        return self._parser.should_upgrade() and self._parser.get_method() != b"CONNECT"

    def should_keep_alive(self) -> bool:
        """Return whether the connection may serve another request."""
        return self._parser.should_keep_alive()

    def get_method(self) -> bytes:
        """Return the method of the request."""
        return self._parser.get_method()

    def get_http_version(self) -> str:
        """Return the version of HTTP."""
        return self._parser.get_http_version()

    def _new_parser(self) -> httptools.HttpRequestParser:
        parser = httptools.HttpRequestParser(self._protocol)
        # As uvicorn does: a request that follows `Connection: close` is no error.
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return parser

    def _head_without_upgrade(self) -> bytes:
        version = self.get_http_version().encode()
        lines = [self.get_method() + b" " + self._protocol.url + b" HTTP/" + version]
        for name, value in self._protocol.headers:
            if name != UPGRADE:
                lines.append(name + b": " + value)
        return b"\r\n".join([*lines, b"", b""])
