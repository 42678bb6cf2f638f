"""The actor of one symbol: takes messages, folds trades, shows the bars.

It drains what is waiting before it shows anything, so that a burst costs one write.  A crash
loses at most what it had drained and not folded; the ids tell, and repair fetches it again.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import attrs
import trio

from klinetrio.latency import LatencyHistogram


if TYPE_CHECKING:
    from klinetrio.domain.trade import AggTrade
    from klinetrio.engine.book import SymbolBook

# Messages per symbol: 256 * 260 bytes = 67 kB, 67 MB for 1,000 symbols that are all full at once.
# At 100 trades/s of one symbol it bridges a stall of 2.5 s; beyond that the sockets wait.
QUEUE_SIZE = 256

# Drained in one go; bounds how long one symbol holds the loop, at 4 us a trade about 1 ms.
MAX_BATCH = 256


class Arrival(NamedTuple):
    """A trade and when it came in, on the clock of ``time.perf_counter``."""

    trade: AggTrade
    received: float


@attrs.frozen(slots=True)
class GetKline:
    """Asks for an open bar as it is now, without waiting for a swap.

    Attributes:
        period_index: Of the interval.
        reply: Gets a copy of the row; must have room for one.
    """

    period_index: int
    reply: trio.MemorySendChannel[list[int]]


@attrs.frozen(slots=True)
class Shutdown:
    """Ends the actor after everything sent before it."""


Message: TypeAlias = Arrival | GetKline | Shutdown


@attrs.define(slots=True)
class Pulse:
    """What all actors tell of themselves.

    Attributes:
        delays: Per batch, of its oldest trade, from its frame to the write buffer.
        most_waiting: The largest batch: what was found waiting at once in one inbox.
    """

    delays: LatencyHistogram = attrs.field(factory=LatencyHistogram)
    most_waiting: int = 0


async def run_actor(
    book: SymbolBook, inbox: trio.MemoryReceiveChannel[Message], pulse: Pulse
) -> None:
    """Process messages until ``Shutdown``.

    Args:
        book: The symbol's bars.
        inbox: Stays open when this ends, so that a successor can go on.
        pulse: Is kept up to date.

    Cancellation: what was drained has been folded; what waits in the inbox stays there.
    """
    while True:
        batch = [await inbox.receive()]
        while len(batch) < MAX_BATCH:
            try:
                batch.append(inbox.receive_nowait())
            except trio.WouldBlock:
                break
        if not _process(batch, book, pulse):
            return


def _process(batch: list[Message], book: SymbolBook, pulse: Pulse) -> bool:
    """Handle a batch; tell whether to go on."""
    oldest = 0.0
    going = True
    for message in batch:
        if type(message) is Arrival:
            book.apply(message.trade)
            oldest = oldest or message.received
        elif isinstance(message, GetKline):
            message.reply.send_nowait(book.open_bar(message.period_index))
        else:
            going = False
    book.flush()
    if oldest:
        pulse.delays.record(perf_counter() - oldest)
    pulse.most_waiting = max(pulse.most_waiting, len(batch))
    return going
