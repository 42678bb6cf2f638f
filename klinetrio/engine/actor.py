"""The actor of one symbol: takes messages, folds trades, shows the bars.

It drains what is waiting before it shows anything, so that a burst costs one write.  A crash
loses at most what it had drained and not folded; the ids tell, and repair fetches it again.
"""

from __future__ import annotations

from contextlib import suppress
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import attrs
import trio

from klinetrio.latency import LatencyHistogram


if TYPE_CHECKING:
    from klinetrio.domain.trade import AggTrade
    from klinetrio.engine.book import SymbolBook
    from klinetrio.engine.tape import TradeTape

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
        reply: Gets a copy of the row, for which it must have room, and is closed; without a row
            if the actor crashed.
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


class KlineActor:
    """One symbol's inbox, its book, and the loop between them.

    The inbox outlives a crash of the loop, and the book may be replaced before the next start.

    Args:
        book: The symbol's bars.
        pulse: Is kept up to date; shared by all actors.
        tape: Gets the trades that were taken; shared by all actors.
    """

    def __init__(self, book: SymbolBook, pulse: Pulse, tape: TradeTape) -> None:
        self.book = book
        self._pulse = pulse
        self._tape = tape
        self._send, self._inbox = trio.open_memory_channel[Message](QUEUE_SIZE)

    @property
    def waiting(self) -> int:
        """Messages in the inbox."""
        return self._send.statistics().current_buffer_used

    def send_nowait(self, message: Message) -> None:
        """Put a message into the inbox.

        Raises:
            trio.WouldBlock: It is full.
        """
        self._send.send_nowait(message)

    async def send(self, message: Message) -> None:
        """Put a message into the inbox.

        Blocking: while it is full; the caller bounds it.
        """
        await self._send.send(message)

    async def get_kline(self, period_index: int) -> list[int]:
        """Return an open bar as it is after all messages before this one.

        Blocking: until the actor has worked off what was before; the caller bounds it.
        """
        while True:
            reply, answer = trio.open_memory_channel[list[int]](1)
            with answer:
                await self.send(GetKline(period_index, reply))
                # The actor may crash over another message; its successor is asked again.
                with suppress(trio.EndOfChannel):
                    return await answer.receive()

    async def run(self) -> None:
        """Process messages until ``Shutdown``.

        Cancellation: what was drained has been folded; what waits in the inbox stays there.
        """
        going = True
        while going:
            batch = [await self._inbox.receive()]
            while len(batch) < MAX_BATCH:
                try:
                    batch.append(self._inbox.receive_nowait())
                except trio.WouldBlock:
                    break
            try:
                going = self._process(batch)
            finally:
                # Answered or not: whoever still waits then is told that there will be no answer.
                for message in batch:
                    if isinstance(message, GetKline):
                        message.reply.close()

    def _process(self, batch: list[Message]) -> bool:
        """Handle a batch; tell whether to go on."""
        oldest = 0.0
        going = True
        for message in batch:
            if type(message) is Arrival:
                self._tape.put(message.trade, self.book.apply(message.trade))
                oldest = oldest or message.received
            elif isinstance(message, GetKline):
                # Whoever asked may have gone meanwhile.
                with suppress(trio.BrokenResourceError):
                    message.reply.send_nowait(self.book.open_bar(message.period_index))
            else:
                going = False
        self.book.flush()
        if oldest:
            self._pulse.delays.record(perf_counter() - oldest)
        self._pulse.most_waiting = max(self._pulse.most_waiting, len(batch))
        return going
