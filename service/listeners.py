"""The sockets that the service listens on."""

import errno
import logging
import math
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from service.errors import ServiceError
from service.settings.settings import Settings

logger = logging.getLogger(__name__)


@contextmanager
def listening(settings: Settings) -> Iterator[list[socket.socket]]:
    """Listen on the port, and on the port of operations if there is one; close them afterwards.

    Raises:
        ServiceError: a port is taken, or the address is not one of this machine.
    """
    ports = [settings.port, settings.operations_port]
    with ExitStack() as stack:
        listeners = [
            stack.enter_context(bind(settings.host, port)) for port in ports if port is not None
        ]
        for listener in listeners:
            _set_write_timeout(listener, settings.write_seconds)
            logger.info("listening on http://%s", address_of(listener))
        yield listeners


def bind(host: str, port: int) -> socket.socket:
    """Bind and listen before the slow loading, so that a taken port is reported at once.

    Raises:
        ServiceError: the port is taken, or the address is not one of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with ExitStack() as stack:
        try:
            listener = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            listener.listen()  # a port that is only bound can still be taken by another server
        except (OSError, ValueError) as error:  # ValueError: no host name could be so
            reason = _bind_fault(error)
            raise ServiceError(f"cannot listen on {authority(host, port)}: {reason}") from None
        stack.pop_all()
    return listener


def address_of(listener: socket.socket) -> str:
    """Return the address and the port of a listening socket as in a URL."""
    return authority(*listener.getsockname()[:2])


def authority(host: str, port: int) -> str:
    """Return address and port as in a URL.

    >>> authority("::1", 8000), authority("127.0.0.1", 8000)
    ('[::1]:8000', '127.0.0.1:8000')
    """
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _set_write_timeout(listener: socket.socket, seconds: float) -> None:
    """Let the kernel close connections whose client does not acknowledge sent data in time."""
    if option := getattr(socket, "TCP_USER_TIMEOUT", None):  # Linux
        listener.setsockopt(socket.IPPROTO_TCP, option, math.ceil(seconds * 1000))


def _bind_fault(error: OSError | ValueError) -> str:
    """Return why an address cannot be listened on, and how to fix it."""
    code = error.errno if isinstance(error, OSError) else None
    if code == errno.EADDRINUSE:
        return "another program listens there: stop it or choose another port with --port"
    if code == errno.EAFNOSUPPORT:
        return "this machine has no IPv6: choose an IPv4 address with --host"
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    return f"{reason}: choose another address with --host or --port"
