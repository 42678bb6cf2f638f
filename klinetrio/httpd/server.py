"""Accepts connections and outlives whatever they do."""

from __future__ import annotations

import logging
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import trio
from hypercorn.config import Config
from hypercorn.trio.lifespan import Lifespan
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.utils import wrap_app

from klinetrio.httpd.connection import (
    KEEP_ALIVE_S,
    MAX_RECEIVE,
    PING_S,
    Connection,
    Environment,
)
from klinetrio.httpd.faults import FaultLog
from klinetrio.httpd.room import MAX_CONNECTIONS


if TYPE_CHECKING:
    import socket

    from hypercorn.typing import ASGIFramework, LifespanState

# Connections above that are told so; above this many more they are dropped without a word.
MAX_REFUSALS = 64
REFUSAL_S = 1.0

# Clients send subscriptions only.  One of 10,000 series takes 400 KB: several messages.
MAX_WEBSOCKET_MESSAGE = 64 * 1024

STARTUP_S = 10.0
GRACE_S = 3.0

_log = logging.getLogger("klinetrio.httpd")

_TOO_MANY_BODY = b'{"error":{"code":"overloaded","message":"too many connections"}}'
_TOO_MANY = (
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 5\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
) % (len(_TOO_MANY_BODY), _TOO_MANY_BODY)


async def serve_http(
    app: ASGIFramework,
    listener: socket.socket,
    *,
    shutdown: trio.Event,
    grace_s: float = GRACE_S,
    max_connections: int = MAX_CONNECTIONS,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve ``app`` until ``shutdown`` is set, then give the open requests ``grace_s`` to end.

    Works on a duplicate of ``listener``: it stays open, and whoever connects between a failure
    and the next call waits in its backlog instead of being refused.

    Args:
        app: An ASGI application; its WebSocket handlers should end by themselves on shutdown.
        listener: As of ``open_listener``; remains the caller's.
        shutdown: Set by the caller.
        grace_s: How long open requests may take after that.
        max_connections: Answered with 503 above it.
        task_status: Started once connections are accepted.

    Raises:
        Exception: The app's start or the listener failed.  Never because of what a client sent.

    Cancellation: ends it at once; open connections are torn down.
    """
    config = _make_config(grace_s)
    state: LifespanState = {}
    lifespan = Lifespan(wrap_app(app, 0, "asgi"), config, state)
    async with trio.open_nursery() as lifespan_nursery:
        await lifespan_nursery.start(lifespan.handle_lifespan)
        await lifespan.wait_for_startup()
        environment = Environment(app, config, state, WorkerContext(None), FaultLog())
        server = Server(environment, max_connections)
        with listener.dup() as duplicate:
            await server.run(duplicate, shutdown, grace_s, task_status)
        await lifespan.wait_for_shutdown()
        lifespan_nursery.cancel_scope.cancel()


def _make_config(grace_s: float) -> Config:
    config = Config()
    config.accesslog = None
    config.errorlog = _log
    config.include_server_header = False
    config.h11_max_incomplete_size = MAX_RECEIVE
    config.keep_alive_timeout = KEEP_ALIVE_S
    # The default of 1,000 cuts off whoever polls, for no gain.
    config.keep_alive_max_requests = 1_000_000_000
    config.websocket_max_message_size = MAX_WEBSOCKET_MESSAGE
    config.websocket_ping_interval = PING_S
    config.startup_timeout = STARTUP_S
    config.shutdown_timeout = max(grace_s, 1.0)
    return config


class Server:
    """All connections of one ``serve_http``."""

    def __init__(self, environment: Environment, max_connections: int) -> None:
        self._environment = environment
        self._max_connections = max_connections
        self._open: set[Connection] = set()
        self._refusing = 0
        self._left = trio.lowlevel.ParkingLot()

    async def run(
        self,
        listener: socket.socket,
        shutdown: trio.Event,
        grace_s: float,
        task_status: trio.TaskStatus[None],
    ) -> None:
        """Accept until ``shutdown``, wait up to ``grace_s``, then abort what is left."""
        listeners = [trio.SocketListener(trio.socket.from_stdlib_socket(listener))]
        async with trio.open_nursery() as connections:
            connections.start_soon(self._abort_at_cancellation)
            async with trio.open_nursery() as accepting:
                serve = partial(trio.serve_listeners, handler_nursery=connections)
                accepting.start_soon(serve, self._handle, listeners)
                task_status.started()
                await shutdown.wait()
                accepting.cancel_scope.cancel()
            await self._environment.context.terminated.set()
            with trio.move_on_after(grace_s):
                while self._open:
                    await self._left.park()
            connections.cancel_scope.cancel()

    async def _abort_at_cancellation(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            # Shielded sends do not hear of a cancellation; without their socket they end at once.
            for connection in self._open:
                connection.abort()

    async def _handle(self, stream: trio.SocketStream) -> None:
        if len(self._open) >= self._max_connections:
            await self._refuse(stream)
            return
        connection = Connection(self._environment, stream)
        self._open.add(connection)
        try:
            await connection.run()
        except* OSError:
            pass  # it is gone; nobody is left to be told
        except* Exception as group:  # noqa: BLE001  (fault B)
            self._environment.faults.report("connection failed", group)
        finally:
            connection.abort()
            self._open.discard(connection)
            self._left.unpark_all()

    async def _refuse(self, stream: trio.SocketStream) -> None:
        excess = OverflowError(f"more than {self._max_connections} connections")
        self._environment.faults.report("connection refused", excess)
        self._refusing += 1
        try:
            if self._refusing <= MAX_REFUSALS:
                with trio.move_on_after(REFUSAL_S), suppress(trio.BrokenResourceError):
                    await stream.send_all(_TOO_MANY)
                    await stream.send_eof()
                    # Closing with unread bytes would reset it before our answer is read.
                    while await stream.receive_some(MAX_RECEIVE):
                        pass
        finally:
            self._refusing -= 1
            stream.socket.close()
