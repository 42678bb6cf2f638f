"""WebSocket connections of the simulated exchange.

Theory of operation: trio-websocket shakes hands and reads; market data is written beside it (see
``wire``).  A connection ends in one of three ways: the peer leaves; ``drop`` tears the socket at
once; ``close`` sends a close frame after what is queued and waits a moment for the answer.
``WebSocketConnection.aclose`` is never called: together with a ping that comes at the wrong moment
it leaks ``Cancelled`` (trio-websocket issue 184), and it waits for a silent peer for a minute.

Frames are queued by ``offer``; the pump sends the queues of all connections once per turn of the
scheduler, without waiting.  Only what does not fit into a socket is left to that connection's own
writer.

Invariants:
  I1  the outbox holds at most MAX_QUEUED frames; a peer that lets it fill is dropped.
  I2  whatever a client does ends its own connection only.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import attrs
import trio
import wsproto
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_server_stream

from klinetrio.sim.control import INVALID_REQUEST, Close, Session, Target, parse_target
from klinetrio.sim.wire import Wire, close_frame, text_frame


if TYPE_CHECKING:
    from collections.abc import Callable

    from klinetrio.sim.clock import SimClock
    from klinetrio.sim.hub import Hub
    from klinetrio.sim.idset import IdSet

    Batch = list[tuple[bytes, tuple[IdSet, int] | None]]

# Frames are shared between connections, so a full outbox costs its list: 4096 * 100 B = 400 KB.
# At 20,000 frames a second on a single connection it is full after 0.2 s.
MAX_QUEUED = 4096

# Clients send subscriptions; Binance takes 200 names (4.6 KB) in one, a URL holds 8,000 characters.
MAX_MESSAGE = 64 * 1024

HANDSHAKE_S = 10.0
CLOSE_GRACE_S = 1.0

_GOING_AWAY = 1001
_NOT_FOUND = 404

_log = logging.getLogger("klinetrio.sim")


@attrs.frozen
class WsLimits:
    """The timers of a connection, in seconds of Trio's clock.

    Attributes:
        ping_interval_s: Between pings.
        pong_timeout_s: How long a pong may take before the connection is dropped.
        max_connection_s: After which a connection is closed.
    """

    ping_interval_s: float = 180.0
    pong_timeout_s: float = 600.0
    max_connection_s: float = 24 * 3600.0


@attrs.define
class WsCounts:
    """What all connections together did."""

    accepted: int = 0
    frames: int = 0
    overflows: int = 0


class Pump:
    """Sends for all connections that have something to send."""

    def __init__(self) -> None:
        self._dirty: list[Connection] = []
        self._wake = trio.Event()

    def add(self, connection: Connection) -> None:
        """Flush a connection at the next turn."""
        self._dirty.append(connection)
        self._wake.set()

    async def run(self) -> None:
        """Send, for ever."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            dirty, self._dirty = self._dirty, []
            for connection in dirty:
                connection.flush_nowait()


@attrs.define(eq=False)
class Connection:
    """One client, from handshake to end; single-use.

    Attributes:
        muted: A fault: frames are thrown away instead of being sent.
    """

    _wire: Wire
    _hub: Hub
    _clock: SimClock
    _limits: WsLimits
    _counts: WsCounts
    _pump: Pump
    _on_subscribed: Callable[[Connection, list[str]], None]
    muted: bool = attrs.field(default=False, init=False)
    _session: Session = attrs.field(factory=lambda: Session(combined=False), init=False)
    _outbox: Batch = attrs.field(factory=list, init=False)
    # What a full socket left over: bytes still to be sent, and whose they are.
    _left: tuple[bytes, Batch] = attrs.field(default=(b"", []), init=False)
    _wake: trio.Event = attrs.field(factory=trio.Event, init=False)
    _closing: Close | None = attrs.field(default=None, init=False)
    _reset: bool = attrs.field(default=False, init=False)
    _scope: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)

    @property
    def combined(self) -> bool:
        """Whether events go out in an envelope."""
        return self._session.combined

    def offer(self, data: bytes, receipt: tuple[IdSet, int] | None = None) -> None:
        """Queue a WebSocket frame; the receipt is entered once it is sent."""
        if self.muted or self._closing:
            return
        if len(self._outbox) >= MAX_QUEUED:
            self._counts.overflows += 1
            self.drop()
            return
        self._outbox.append((data, receipt))
        if len(self._outbox) == 1:
            self._pump.add(self)

    def flush_nowait(self) -> None:
        """Send what is queued; leave to the writer what does not fit."""
        if self._left[0] or not self._outbox:
            return
        batch, self._outbox = self._outbox, []
        data = b"".join([each for each, _ in batch])
        sent = len(data) if self._wire.silent else self._wire.send_nowait(data)
        if sent == len(data):
            self._enter(batch)
        else:
            self._left = data[sent:], batch
            self._wake.set()

    def drop(self) -> None:
        """Tear the connection, now: the peer sees a reset."""
        self._reset = True
        self._scope.cancel()

    def close(self, code: int = _GOING_AWAY, reason: str = "") -> None:
        """Close cleanly, after what is queued."""
        self._closing = self._closing or Close(code, reason)
        self._wake.set()

    def mute(self, *, pongs: bool) -> None:
        """Fall silent: no frames any more and, unless ``pongs``, no answers to pings either."""
        self.muted = True
        self._wire.silent = not pongs

    def unmute(self) -> None:
        """Speak again; what was to be said meanwhile is lost."""
        self.muted = self._wire.silent = False

    async def run(self) -> None:
        """Serve the client until one side ends it.

        Cancellation: the socket is torn at once.
        """
        try:
            with self._scope:
                await self._serve()
        finally:
            self._hub.remove(self)
            self._wire.tear(reset=self._reset)

    async def _serve(self) -> None:
        async with trio.open_nursery() as nursery:
            with trio.fail_after(HANDSHAKE_S):
                request = await wrap_server_stream(
                    nursery, self._wire, max_message_size=MAX_MESSAGE
                )
                target = parse_target(request.path)
                if target is None:
                    await request.reject(_NOT_FOUND)
                else:
                    websocket = await request.accept()
            if target is not None:
                self._open(target)
                nursery.start_soon(self._write, nursery.cancel_scope)
                nursery.start_soon(self._ping_regularly, websocket, nursery)
                nursery.start_soon(self._close_when_old)
                await self._read(websocket, target)
            nursery.cancel_scope.cancel()

    def _open(self, target: Target) -> None:
        self._counts.accepted += 1
        self._session = Session(combined=target.combined)
        if not self._session.subscribe(list(target.streams)):
            self.close(*INVALID_REQUEST)
        self._update_streams(target)

    def _update_streams(self, target: Target) -> None:
        if target.has_trades:
            self._on_subscribed(self, self._hub.subscribe(self, self._session.streams))

    async def _read(self, websocket: WebSocketConnection, target: Target) -> None:
        while True:
            try:
                message = await websocket.get_message()
            except ConnectionClosed:
                return
            if self._closing:
                continue
            before = self._session.streams
            reply = self._session.receive(message, trio.current_time())
            if reply.text is not None:
                self.offer(text_frame(reply.text))
            if self._session.streams is not before:
                self._update_streams(target)
            if reply.close is not None:
                self.close(*reply.close)

    async def _write(self, scope: trio.CancelScope) -> None:
        while True:
            self.flush_nowait()
            if self._left[0]:
                await self._wire.send_all(self._left[0])
                batch = self._left[1]
                self._left = b"", []
                self._enter(batch)
            elif self._closing:
                break
            else:
                self._wake = trio.Event()
                await self._wake.wait()
        await self._wire.send_all(close_frame(*self._closing))
        # The library would answer the peer's close frame with a second one of ours.
        self._wire.silent = True
        await trio.sleep(CLOSE_GRACE_S)
        scope.cancel()

    def _enter(self, batch: Batch) -> None:
        """Enter the receipts of frames that a socket has taken."""
        if self._wire.silent:
            return
        self._counts.frames += len(batch)
        for _, receipt in batch:
            if receipt is not None:
                ids, agg_id = receipt
                ids.add(agg_id)

    async def _ping_regularly(self, websocket: WebSocketConnection, nursery: trio.Nursery) -> None:
        due = trio.current_time()
        while True:
            due += self._limits.ping_interval_s
            await trio.sleep_until(due)
            nursery.start_soon(self._ping, websocket)

    async def _ping(self, websocket: WebSocketConnection) -> None:
        with trio.move_on_after(self._limits.pong_timeout_s) as patience:
            try:
                await websocket.ping(b"%d" % self._clock.now_ms())
            except (ConnectionClosed, ValueError):
                # Gone; or a ping of the very same millisecond is still on its way (a held clock).
                return
        if patience.cancelled_caught:
            self.drop()

    async def _close_when_old(self) -> None:
        await trio.sleep(self._limits.max_connection_s)
        self.close(_GOING_AWAY, "Connection lifetime exceeded")


# What a client can bring about by vanishing or by breaking the protocol.
CLIENT_ERRORS: tuple[type[Exception], ...] = (
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    trio.TooSlowError,
    ConnectionClosed,
    wsproto.utilities.ProtocolError,
    OSError,
)


async def serve_client(connection: Connection) -> None:
    """Run a connection; what the client did wrong ends here (I2)."""
    try:
        await connection.run()
    except* CLIENT_ERRORS as group:
        _log.debug("stream client failed: %r", group.exceptions)
