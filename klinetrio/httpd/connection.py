"""One TCP connection; stands where Hypercorn has its TCPServer."""

from __future__ import annotations

import socket
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING

import attrs
import trio
from hypercorn.events import Closed, RawData, Updated
from hypercorn.typing import ConnectionState
from hypercorn.utils import parse_socket_addr

from klinetrio.httpd.frames import SEND_TIMEOUT_S, FramePort, Sender
from klinetrio.httpd.protocol import Http1
from klinetrio.httpd.request import Tasks


if TYPE_CHECKING:
    from hypercorn.config import Config
    from hypercorn.events import Event
    from hypercorn.trio.worker_context import WorkerContext
    from hypercorn.typing import ASGIFramework, LifespanState

    from klinetrio.httpd.faults import FaultLog

# Also the bound of a request's head, as h11 takes what one read brings: 2 x 16 KiB.
MAX_RECEIVE = 16 * 1024

PING_S = 20.0
# Two pings unanswered, and the way back of a third.
WEBSOCKET_SILENCE_S = 2.5 * PING_S

KEEP_ALIVE_S = 5.0

# How long a peer may take to read our last words before its connection is torn down.
LINGER_S = 1.0


@attrs.frozen
class Environment:
    """What all connections of one server share."""

    app: ASGIFramework
    config: Config
    state: LifespanState
    context: WorkerContext
    faults: FaultLog


class Connection:
    """Reads, sends and closes.

    The reader runs in the connection's own task, the app in a task per request, pings and the
    keep-alive timer in helper tasks that end with them.
    """

    def __init__(self, environment: Environment, stream: trio.SocketStream) -> None:
        self._environment = environment
        self._stream = stream
        self._sender = Sender(stream)
        self._reading = trio.CancelScope()
        self._keeping_alive = trio.CancelScope()
        self._is_closing = False
        self._protocol: Http1
        self._helpers: trio.Nursery

    async def run(self) -> None:
        """Serve the connection until either side ends it."""
        given, raw = self._environment, self._stream.socket
        _set_user_timeout(raw)
        client = parse_socket_addr(raw.family, raw.getpeername())
        local = parse_socket_addr(raw.family, raw.getsockname())
        async with trio.open_nursery() as self._helpers:
            async with trio.open_nursery() as apps:
                self._protocol = Http1(
                    given.app,
                    given.config,
                    given.context,
                    Tasks(apps, self._helpers, given.faults, self._make_port()),
                    ConnectionState(given.state.copy()),
                    ssl=False,
                    client=client,
                    server=local,
                    send=self._send,
                )
                self._set_idle(True)
                with self._reading:
                    await self._read()
                await self._protocol.handle(Closed())
            self._helpers.cancel_scope.cancel()

    def abort(self) -> None:
        """Close the socket; whoever waits for it or for what it would bring is woken."""
        self._stream.socket.close()
        self._reading.cancel()  # fault H

    async def _read(self) -> None:
        data = b" "
        while data:
            try:
                # A WebSocket answers pings; HTTP may be silent while the app is at work, and is
                # under the keep-alive timer before and after.
                with trio.fail_after(WEBSOCKET_SILENCE_S if self._protocol.is_websocket else inf):
                    data = bytes(await self._stream.receive_some(MAX_RECEIVE))
            except (trio.ClosedResourceError, trio.BrokenResourceError, trio.TooSlowError):
                return
            if self._is_closing:
                continue  # lingering: what comes now is read only to be rid of it
            await self._protocol.handle(RawData(data))
            if self._protocol.is_websocket:
                # What comes before the upgrade is answered has to wait, or confuses Hypercorn.
                await self._protocol.answered.wait()
            if self._protocol.is_overlong:
                self._close()

    async def _send(self, event: Event) -> None:
        if isinstance(event, RawData):
            await self._send_bytes(event.data)
        elif isinstance(event, Closed):
            self._close()
            await self._protocol.handle(Closed())
        elif isinstance(event, Updated):
            self._set_idle(event.idle)

    async def _send_bytes(self, data: bytes) -> None:
        """Send all of ``data`` or end the connection."""
        if not await self._sender.send(data):
            self.abort()
            await self._protocol.handle(Closed())

    def _make_port(self) -> FramePort:
        return FramePort(
            self._sender,
            lambda: not self._is_closing and self._protocol.is_established,
            self.abort,
        )

    def _close(self) -> None:
        """Say good-bye; the reader lingers until the peer does so too."""
        if self._is_closing:
            return
        self._is_closing = self._sender.is_shut = True
        self._set_idle(False)
        self._reading.deadline = trio.current_time() + LINGER_S
        with suppress(OSError):
            # Not send_eof(): it has a checkpoint, and a send of another task during that fails.
            self._stream.socket.shutdown(socket.SHUT_WR)

    def _set_idle(self, is_idle: bool) -> None:
        self._keeping_alive.cancel()
        if is_idle and not self._is_closing:
            self._keeping_alive = trio.CancelScope()
            self._helpers.start_soon(self._keep_alive, self._keeping_alive)

    async def _keep_alive(self, scope: trio.CancelScope) -> None:
        with scope:
            with trio.move_on_after(KEEP_ALIVE_S):
                await self._environment.context.terminated.wait()
            self.abort()


def _set_user_timeout(raw: trio.socket.SocketType) -> None:
    """Let the kernel give up on a peer that acknowledges nothing, where it can (Linux)."""
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    if option is not None and raw.family in {socket.AF_INET, socket.AF_INET6}:
        raw.setsockopt(socket.IPPROTO_TCP, option, int(SEND_TIMEOUT_S * 1000))
