"""The listening socket."""

from __future__ import annotations

import socket
import sys

from klinetrio.errors import ConfigError


# Accepted by the kernel and waiting for us, as all clients return at once after a restart.
BACKLOG = 1024

MAX_PORT = 65535


def open_listener(bind: str) -> socket.socket:
    """Listen on ``host:port``; IPv6 addresses stand in brackets, port 0 takes a free one.

    Raises:
        ConfigError: Not such an address, or one that cannot be had.
    """
    host, separator, port_text = bind.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    is_port = port_text.isascii() and port_text.isdigit() and int(port_text[:6]) <= MAX_PORT
    if not (separator and bare and is_port) or (":" in bare and bare == host):
        raise ConfigError("api.bind", bind, "host:port, as in 127.0.0.1:8080 or [::1]:8080")
    try:
        found = socket.getaddrinfo(bare, int(port_text), type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
        try:
            _claim_exclusively(listener)
            listener.bind(address)
            listener.listen(BACKLOG)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        expected = f"a free address of this machine ({error.strerror or error})"
        raise ConfigError("api.bind", bind, expected) from error
    return listener


def _claim_exclusively(listener: socket.socket) -> None:
    if sys.platform == "win32":
        # There SO_REUSEADDR would let any other program take the port from us.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
    else:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
