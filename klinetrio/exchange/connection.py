"""One connection of the feed: a chain of WebSocket sessions without a break between them.

It carries one stream by default, so that its loss costs one symbol; its supervisor opens it again.
The exchange ends every session after 24 hours at the latest, and may announce its shutdown.  Such
a session is succeeded: the next one is up and has spoken before the old one is dropped, so no trade
is lost, and what both deliver is dropped by id.
"""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote

import attrs
import trio

from klinetrio.errors import FeedLost, NetworkError
from klinetrio.exchange.session import Session
from klinetrio.latency import LatencyHistogram
from klinetrio.logs import log_event
from klinetrio.supervise import backoff, describe


if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from klinetrio.domain.symbol import Symbol
    from klinetrio.domain.trade import AggTrade
    from klinetrio.exchange.clock import ExchangeClock
    from klinetrio.exchange.dial import Dialer
    from klinetrio.exchange.pacer import Pacer

log = logging.getLogger("klinetrio.feed")

# The exchange ends a session after 24 h.  All are opened within minutes of each other, so they are
# succeeded spread over the last two hours, not all in the last minute.
RENEW_AFTER_S = 22 * 3600.0
RENEW_SPREAD_S = 1.5 * 3600.0

# How long the old session is kept beside its successor: until that has delivered a frame, and a
# little for what is still on its way on the old one.  A quiet symbol's never speaks; it is
# subscribed since its handshake, so this long is enough in any case.
OVERLAP_S = 5.0
LINGER_S = 1.0

# A subscription counts from the handshake; a trade of about that moment need not have come.
_UP_MARGIN_S = 1.0

# An exchange that says goodbye at once, every time, is not followed more often than this.
MIN_AGE_S = 10.0


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
        renewed: Sessions that were succeeded without a break.
        transit: Delays from the trade's time to here.
    """

    frames: int = 0
    trades: int = 0
    bad: dict[str, int] = attrs.field(factory=dict)
    renewed: int = 0
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
        deaf: Set when it was found not to bring what happens.
    """

    symbols: Mapping[str, Symbol]
    url: str
    state: str = "waiting"
    since: float = attrs.field(factory=trio.current_time)
    frames: int = 0
    last_frame: float = 0.0
    last_pong: float = 0.0
    deaf: trio.Event = attrs.field(factory=trio.Event)

    @property
    def name(self) -> str:
        """Short name for logs: its streams, or the first of them and their number."""
        streams = [symbol.stream for symbol in self.symbols.values()]
        return streams[0] if len(streams) == 1 else f"{streams[0]}+{len(streams) - 1}"

    def reopen_if_deaf(self, age_s: float) -> bool:
        """Have it opened again if a trade should have come on it; tell whether one should.

        Args:
            age_s: How long ago that trade happened.
        """
        if self.state != "up" or age_s + _UP_MARGIN_S > trio.current_time() - self.since:
            return False
        self.deaf.set()
        return True

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
    """What every connection shares.

    Attributes:
        dialer: Opens connections.
        pacer: Spaces them.
        clock: The exchange's clock.
        sink: Where trades go.
        counts: Statistics.
        renew_after_s: Age of a session at which it is succeeded, give or take ``RENEW_SPREAD_S``
            or a twelfth of it, whichever is less.
    """

    dialer: Dialer
    pacer: Pacer
    clock: ExchangeClock
    sink: TradeSink
    counts: FeedCounts
    renew_after_s: float = RENEW_AFTER_S


async def run_connection(link: Link, context: FeedContext) -> None:
    """Connect and deliver trades until the connection is lost.

    Raises:
        NetworkError: Always, alone or in a group, unless cancelled: FeedLost, or there was no
            connection.

    Cancellation: the connection is dropped; trades already received have been delivered.
    """
    link.enter("waiting")
    await context.pacer.wait()
    link.enter("connecting")
    link.deaf = trio.Event()
    try:
        async with trio.open_nursery() as nursery:
            session = Session(link, context)
            await nursery.start(session.run)
            link.enter("up")
            log_event(log, logging.INFO, "connected", stream=link.name)
            for symbol in link.symbols.values():
                context.sink.set_feed(symbol, up=True)
            nursery.start_soon(_hang_up_if_deaf, link)
            while True:
                await _until_due(session, context)
                heir = await _open_heir(nursery, session, link, context)
                await _hand_over(session, heir)
                context.counts.renewed += 1
                session = heir
    finally:
        link.enter("waiting")
        for symbol in link.symbols.values():
            context.sink.set_feed(symbol, up=False)


async def _hang_up_if_deaf(link: Link) -> None:
    await link.deaf.wait()
    raise FeedLost("trades happen that the stream does not bring")


async def _until_due(session: Session, context: FeedContext) -> None:
    """Wait until a session has to be succeeded: it is old, or the exchange said so."""
    after = context.renew_after_s
    spread = min(RENEW_SPREAD_S, after / 12)
    youngest = trio.current_time() + MIN_AGE_S
    with trio.move_on_after(after + spread * random.random()):  # noqa: S311  (no secret)
        await session.told_to_go.wait()
        await trio.sleep_until(youngest)


async def _open_heir(
    nursery: trio.Nursery, session: Session, link: Link, context: FeedContext
) -> Session:
    """Open a session beside the one under way, as often as it takes while that one lives."""
    reason = "shutdown notice" if session.told_to_go.is_set() else "age"
    log_event(log, logging.INFO, "renewing", stream=link.name, reason=reason)
    rng = random.Random()  # noqa: S311  (jitter, not secrets)
    attempt = 0
    while True:
        heir = Session(link, context)
        await context.pacer.wait()
        try:
            await nursery.start(heir.run)
        except NetworkError as error:
            delay = backoff(attempt, rng)
            attempt += 1
            cause = describe(error)
            log_event(log, logging.WARNING, "renewal_failed", stream=link.name, cause=cause)
            await trio.sleep(delay)
        else:
            return heir


async def _hand_over(session: Session, heir: Session) -> None:
    """Drop the old session once the new one delivers."""
    session.retiring = True
    with trio.move_on_after(OVERLAP_S):
        await heir.spoke.wait()
    await trio.sleep(LINGER_S)
    session.scope.cancel()
