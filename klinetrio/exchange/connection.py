"""One connection of the feed: its frames to trades, its life and death.

A connection is alive while frames or pongs come.  It carries one stream by default, so that its
loss costs one symbol; its supervisor opens it again.
"""

from __future__ import annotations

import logging
from time import perf_counter
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote

import attrs
import trio

from klinetrio.domain.interval import DAY
from klinetrio.errors import DecodeError, FeedLost
from klinetrio.exchange.codec import decode_frame, is_shutdown_notice
from klinetrio.exchange.transport import open_frames
from klinetrio.latency import LatencyHistogram
from klinetrio.logs import QuietLog, log_event


if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from klinetrio.domain.symbol import Symbol
    from klinetrio.domain.trade import AggTrade
    from klinetrio.exchange.clock import ExchangeClock
    from klinetrio.exchange.dial import Dialer
    from klinetrio.exchange.pacer import Pacer
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


class TradeSink(Protocol):
    """Where trades go."""

    async def deliver(self, trade: AggTrade, received: float) -> None:
        """Take one trade; may wait a bounded time for room.

        Args:
            trade: Of a symbol that the connection carries.
            received: When its frame came in, on the clock of ``time.perf_counter``.
        """
        ...

    def set_feed(self, symbol: Symbol, *, up: bool) -> None:
        """Take note that a symbol's feed came up or went down."""
        ...


@attrs.define(slots=True)
class FeedCounts:
    """What has come in on all connections since the start.

    Attributes:
        frames: Frames of any kind.
        trades: Trades decoded.
        bad: Frames that could not be used, by kind.
        transit: Delays from the trade's time to here.
    """

    frames: int = 0
    trades: int = 0
    bad: dict[str, int] = attrs.field(factory=dict)
    transit: LatencyHistogram = attrs.field(factory=LatencyHistogram)

    def count_bad(self, kind: str) -> None:
        """Count a frame that could not be used."""
        self.bad[kind] = self.bad.get(kind, 0) + 1


@attrs.define(slots=True)
class Link:
    """One connection's identity and state.

    Attributes:
        symbols: What it carries, by exchange name.
        url: Where it goes.
        state: ``waiting``, ``connecting`` or ``up``.
        since: Trio time of the last change of state.
        frames: Frames received.
        last_frame: Trio time of the newest frame.
        last_pong: Trio time of the newest pong to a ping of ours.
    """

    symbols: Mapping[str, Symbol]
    url: str
    state: str = "waiting"
    since: float = attrs.field(factory=trio.current_time)
    frames: int = 0
    last_frame: float = 0.0
    last_pong: float = 0.0

    @property
    def name(self) -> str:
        """Short name for logs: its streams, or the first of them and their number."""
        streams = [symbol.stream for symbol in self.symbols.values()]
        return streams[0] if len(streams) == 1 else f"{streams[0]}+{len(streams) - 1}"

    def enter(self, state: str) -> None:
        """Change the state."""
        self.state = state
        self.since = trio.current_time()


def make_link(ws_url: str, symbols: Sequence[Symbol]) -> Link:
    """Return the link for some symbols: a raw stream for one, a combined one for several."""
    streams = "/".join(quote(symbol.stream, safe="@") for symbol in symbols)
    base = ws_url.rstrip("/")
    url = f"{base}/ws/{streams}" if len(symbols) == 1 else f"{base}/stream?streams={streams}"
    return Link({symbol.name: symbol for symbol in symbols}, url)


@attrs.frozen(slots=True)
class FeedContext:
    """What every connection shares."""

    dialer: Dialer
    pacer: Pacer
    clock: ExchangeClock
    sink: TradeSink
    counts: FeedCounts


async def run_connection(link: Link, context: FeedContext) -> None:
    """Connect once and deliver trades until the connection is lost.

    Raises:
        FeedLost: Always, unless cancelled or there was no connection.
        NetworkError: There was no connection.

    Cancellation: the connection is dropped; trades already received have been delivered.
    """
    link.enter("waiting")
    await context.pacer.wait()
    link.enter("connecting")
    try:
        async with open_frames(link.url, context.dialer) as frames:
            link.enter("up")
            link.last_frame = trio.current_time()
            log_event(log, logging.INFO, "connected", stream=link.name)
            for symbol in link.symbols.values():
                context.sink.set_feed(symbol, up=True)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_keep_alive, link, frames)
                while True:
                    raw = await frames.receive()
                    link.frames += 1
                    link.last_frame = trio.current_time()
                    await _take(raw, link, context)
    finally:
        link.enter("waiting")
        for symbol in link.symbols.values():
            context.sink.set_feed(symbol, up=False)


async def _take(raw: bytes, link: Link, context: FeedContext) -> None:
    """Decode one frame and deliver its trade; a bad one is counted and changes nothing."""
    received = perf_counter()
    counts = context.counts
    counts.frames += 1
    try:
        trade = decode_frame(raw, link.symbols)
        age_ms = _age_of(trade, context.clock)
    except DecodeError as error:
        counts.count_bad(error.kind)
        quiet.event(logging.WARNING, "bad_frame", error.kind, stream=link.name, detail=error.detail)
        return
    if trade is not None:
        counts.trades += 1
        counts.transit.record(age_ms / 1000)
        await context.sink.deliver(trade, received)
    elif is_shutdown_notice(raw):
        raise FeedLost("the exchange announced a shutdown")


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


async def _keep_alive(link: Link, frames: FrameStream) -> None:
    """Ping a connection that has fallen silent; raise FeedLost when it does not answer."""
    while True:
        newest = max(link.last_frame, link.last_pong)
        wait = newest + PING_AFTER_S - trio.current_time()
        if wait > 0:
            await trio.sleep(wait)
            continue
        with trio.move_on_after(PONG_TIMEOUT_S) as scope:
            await frames.ping()
            link.last_pong = trio.current_time()
        # A frame that came meanwhile is as good as a pong.
        if scope.cancelled_caught and link.last_frame <= newest:
            raise FeedLost(f"neither frame nor pong for {PING_AFTER_S + PONG_TIMEOUT_S:.0f} s")
