"""One WebSocket session: from its handshake to its loss, its frames to trades.

A session is alive while frames or pongs come.
"""

from __future__ import annotations

import logging
from time import perf_counter
from typing import TYPE_CHECKING

import trio

from klinetrio.domain.interval import DAY
from klinetrio.errors import DecodeError, FeedLost, NetworkError
from klinetrio.exchange.codec import decode_frame, is_shutdown_notice
from klinetrio.exchange.transport import open_frames
from klinetrio.logs import QuietLog


if TYPE_CHECKING:
    from klinetrio.domain.trade import AggTrade
    from klinetrio.exchange.clock import ExchangeClock
    from klinetrio.exchange.connection import FeedContext, Link
    from klinetrio.exchange.transport import FrameStream

log = logging.getLogger("klinetrio.feed")
quiet = QuietLog(log)

# Silence after which we ask with a ping of our own.  Binance pings every 3 minutes only.
PING_AFTER_S = 15.0
PONG_TIMEOUT_S = 10.0

# No trade can be younger than the exchange's clock; ours is known to some 100 ms.
MAX_AHEAD_MS = 10_000

# Nor much older, unless it waited in a socket while we were stopped.  As a symbol's first trade an
# ancient one would make a bar of every minute since.
MAX_BEHIND_MS = DAY


class Session:
    """One WebSocket of a connection.

    Args:
        link: The connection, whose state is kept up to date.
        context: What all connections share.

    Attributes:
        scope: Ends the session when cancelled.
        told_to_go: Set when the exchange announces that it will close the session.
        spoke: Set with the first frame.
        retiring: Whether another session has taken over, so that the end of this one is no loss.
    """

    def __init__(self, link: Link, context: FeedContext) -> None:
        self.scope = trio.CancelScope()
        self.told_to_go = trio.Event()
        self.spoke = trio.Event()
        self.retiring = False
        self._link = link
        self._context = context
        self._last_frame = self._last_pong = 0.0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Open the session, report that it is up, deliver its trades until it is lost.

        Raises:
            FeedLost: It was lost, and was not retiring; in a group once it was up.
            NetworkError: There was no connection.

        Cancellation: the connection is dropped; trades already received have been delivered.
        """
        link, context = self._link, self._context
        with self.scope:
            async with open_frames(link.url, context.dialer) as frames:
                self._last_frame = link.last_frame = trio.current_time()
                task_status.started()
                try:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._keep_alive, frames)
                        await self._read(frames)
                except* NetworkError:
                    if not self.retiring:
                        raise

    async def _read(self, frames: FrameStream) -> None:
        link, context = self._link, self._context
        while True:
            raw = await frames.receive()
            link.frames += 1
            self._last_frame = link.last_frame = trio.current_time()
            if not self.spoke.is_set():
                self.spoke.set()
            if await _take(raw, link, context):
                self.told_to_go.set()

    async def _keep_alive(self, frames: FrameStream) -> None:
        """Ping a session that has fallen silent; raise FeedLost when it does not answer."""
        while True:
            newest = max(self._last_frame, self._last_pong)
            wait = newest + PING_AFTER_S - trio.current_time()
            if wait > 0:
                await trio.sleep(wait)
                continue
            with trio.move_on_after(PONG_TIMEOUT_S) as scope:
                await frames.ping()
                self._last_pong = self._link.last_pong = trio.current_time()
            # A frame that came meanwhile is as good as a pong.
            if scope.cancelled_caught and self._last_frame <= newest:
                raise FeedLost(f"neither frame nor pong for {PING_AFTER_S + PONG_TIMEOUT_S:.0f} s")


async def _take(raw: bytes, link: Link, context: FeedContext) -> bool:
    """Decode one frame and deliver its trade; a bad one is counted and changes nothing.

    Returns:
        Whether the frame announces that the exchange will close the session.
    """
    received = perf_counter()
    counts = context.counts
    counts.frames += 1
    try:
        trade = decode_frame(raw, link.symbols)
        age_ms = _age_of(trade, context.clock)
    except DecodeError as error:
        counts.count_bad(error.kind)
        quiet.event(logging.WARNING, "bad_frame", error.kind, stream=link.name, detail=error.detail)
        return False
    if trade is not None:
        counts.trades += 1
        counts.transit.record(age_ms / 1000)
        await context.sink.deliver(trade, received)
        return False
    return is_shutdown_notice(raw)


def _age_of(trade: AggTrade | None, clock: ExchangeClock) -> int:
    """Return how long ago the trade happened, ms; refuse one from the future or long past."""
    if trade is None:
        return 0
    age_ms = clock.now_ms() - trade.time
    if age_ms < -MAX_AHEAD_MS:
        raise DecodeError("future", f"expected a past time, trade {trade.agg_id} has {trade.time}")
    if age_ms > MAX_BEHIND_MS:
        raise DecodeError("past", f"expected a live trade, {trade.agg_id} is {age_ms} ms old")
    return age_ms
