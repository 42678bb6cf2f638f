"""Listening sockets of the exchange, with and without TLS."""

from __future__ import annotations

import socket
from functools import partial
from typing import TYPE_CHECKING

import trio

from klinetrio.httpd import serve_http
from klinetrio.sim.relay import relay


if TYPE_CHECKING:
    import ssl

    from quart_trio import QuartTrio

# How long begun REST calls may take when the exchange closes.
REST_GRACE_S = 1.0

# A benchmark's 500 symbols, a REST client each, and room to spare.
_MAX_REST_CONNECTIONS = 1024

# 500 clients that connect at once must not be refused by a short accept queue.
_BACKLOG = 1024


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=_BACKLOG)


def address_of(listener: socket.socket) -> str:
    """Return ``host:port`` as a URL has it."""
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def trio_listener(
    listener: socket.socket, ssl_context: ssl.SSLContext | None
) -> trio.SocketListener | trio.SSLListener[trio.SocketStream]:
    """Return a duplicate of the socket for Trio; the given one remains the caller's."""
    plain = trio.SocketListener(trio.socket.from_stdlib_socket(listener.dup()))
    if ssl_context is None:
        return plain
    return trio.SSLListener(plain, ssl_context, https_compatible=True)


async def serve_rest(
    app: QuartTrio,
    listener: socket.socket,
    ssl_context: ssl.SSLContext | None,
    shutdown: trio.Event,
    *,
    task_status: trio.TaskStatus[None],
) -> None:
    """Serve the REST side until ``shutdown``."""
    serve = partial(
        serve_http,
        app,
        shutdown=shutdown,
        grace_s=REST_GRACE_S,
        max_connections=_MAX_REST_CONNECTIONS,
    )
    if ssl_context is None:
        await serve(listener, task_status=task_status)
        return
    # The HTTP server speaks no TLS: it gets a socket of its own behind a front that does.
    with listen("127.0.0.1", 0) as plain:
        async with trio.open_nursery() as nursery:
            front = partial(_unwrap_tls, plain.getsockname())
            tls = trio_listener(listener, ssl_context)
            await nursery.start(trio.serve_listeners, front, [tls])
            await serve(plain, task_status=task_status)
            nursery.cancel_scope.cancel()


async def _unwrap_tls(address: tuple[str, int], stream: trio.SSLStream[trio.SocketStream]) -> None:
    try:
        async with stream, await trio.open_tcp_stream(*address) as plain:
            await relay(stream, plain)
    except* (trio.BrokenResourceError, OSError):
        pass  # the client broke off; there is nobody to tell
