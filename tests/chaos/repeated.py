"""A recorded stretch of a real market, played again and again, by several symbols.

Prices, quantities, sides, fills and the pace are those of the recording; times and ids go on where
the repetition before ended, so that nothing ever repeats for those who listen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import attrs
import trio

from klinetrio.sim.ledger import Book, Ledger
from klinetrio.sim.market import EventEncoder, Frame
from klinetrio.sim.recorded import read_trade
from klinetrio.sim.recording import instruments_of, read_recording


if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from klinetrio.domain.interval import Interval
    from klinetrio.sim.clock import SimClock
    from klinetrio.sim.market import Deliver
    from klinetrio.sim.seeded import SeededMarket
    from klinetrio.sim.tape import SimTrade

    PlayedMarket: TypeAlias = "SeededMarket | RepeatedRecording"

# At most so often the loop looks at the clock, seconds.
_TICK_S = 0.002

# So far the aggregate ids of one symbol are from those of the next, so that a trade in a wrong book
# is seen at once.
_ID_DISTANCE = 1_000_000


class RepeatedRecording:
    """A recording without an end.

    Args:
        path: Recorded aggTrade frames (see ``sim.recording``); those of its first symbol are used.
        symbols: How many symbols there are; each has every trade of the recording.
        clock: The exchange's clock.
    """

    def __init__(self, path: Path, *, symbols: int, clock: SimClock) -> None:
        recording = read_recording(path)
        first = instruments_of(recording.events)[0]
        self.clock = clock
        self._start = clock.now_ms()
        books = []
        for number in range(symbols):
            named = attrs.evolve(
                first.symbol,
                name=f"S{number}{first.symbol.quote}",
                base=f"S{number}",
                listing_time=self._start,
            )
            id_before = (number + 1) * _ID_DISTANCE
            books.append(Book(attrs.evolve(first, symbol=named), id_before=id_before))
        self.ledger = Ledger(clock, books, self.catch_up)
        self._books = books
        self._encoders = [EventEncoder(each.instrument.symbol) for each in books]
        own = [each for each in recording.events if each.symbol == first.name]
        self._trades = [read_trade(each.fields, first.symbol) for each in own]
        self._delays = [each.due - int(each.fields["T"]) for each in own]
        # A second until it begins again.
        self._length = self._trades[-1].time - self._trades[0].time + 1000
        self._entered = self._delivered = 0

    @property
    def trading_symbols(self) -> list[str]:
        """Names of all symbols."""
        return [each.instrument.name for each in self._books]

    def true_klines(
        self, symbol: str, interval: Interval, start_ms: int, end_ms: int
    ) -> list[tuple[int, ...]]:
        """Return the true bars (see ``Ledger.true_klines``)."""
        return self.ledger.true_klines(symbol, interval, start_ms, end_ms)

    def subscribed(self, symbol: str) -> None:
        """Play on regardless."""

    async def run(
        self, deliver: Deliver, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Play for ever."""
        task_status.started()
        while True:
            self.catch_up()
            now = self.clock.now_ms()
            while self._event_time(self._delivered) <= now:
                for frame in self._frames(self._delivered):
                    deliver(frame)
                self._delivered += 1
            due = min(self._time(self._entered), self._event_time(self._delivered))
            await trio.sleep_until(max(self.clock.trio_time_of(due), trio.current_time() + _TICK_S))

    def catch_up(self) -> None:
        """Enter in the ledger what is due now."""
        now = self.clock.now_ms()
        while self._time(self._entered) <= now:
            for number, book in enumerate(self._books):
                book.enter(self._trade(self._entered, number))
            self._entered += 1

    def _time(self, index: int) -> int:
        """Return the time of the trade that comes after so many others."""
        turn, index = divmod(index, len(self._trades))
        past = self._trades[index].time - self._trades[0].time
        return self._start + 1 + turn * self._length + past

    def _event_time(self, index: int) -> int:
        return self._time(index) + self._delays[index % len(self._trades)]

    def _trade(self, index: int, number: int) -> SimTrade:
        """Return a trade of one symbol."""
        turn, place = divmod(index, len(self._trades))
        trade, oldest, newest = self._trades[place], self._trades[0], self._trades[-1]
        fills_before = turn * (newest.last_id - oldest.first_id + 1)
        return trade._replace(
            agg_id=(number + 1) * _ID_DISTANCE + 1 + index,
            first_id=trade.first_id + fills_before,
            last_id=trade.last_id + fills_before,
            time=self._time(index),
        )

    def _frames(self, index: int) -> Iterator[Frame]:
        """Yield the frames of a trade, one per symbol."""
        event_time = self._event_time(index)
        for number, encoder in enumerate(self._encoders):
            trade = self._trade(index, number)
            name = self._books[number].instrument.name
            yield Frame(name, trade.agg_id, encoder.encode(trade, event_time))
