"""The exchange's books: instruments, trades and true bars.

A market writes its trades here; REST and the tests read.  The bars are the truth by construction:
minutes are folded from the very trades, history comes as minutes, longer bars are their folds.

Invariants:
  I1  a trade is on the tape if and only if it is in its minute (until the tape forgets it).
  I2  bars never lie in the future: the last one is the open bar of ``clock.now_ms()``.
  I3  who has called ``catch_up`` finds every trade up to ``clock.now_ms()``, also when the market's
      task has not had its turn for a while.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import attrs
import numpy as np

from klinetrio.domain.interval import DAY, MINUTE, Interval
from klinetrio.domain.kline import CLOSE, NO_ID, OPEN_TIME, Flag
from klinetrio.sim.bars import LiveMinutes, fold, no_rows
from klinetrio.sim.tape import Tape


if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from klinetrio.sim.bars import Rows
    from klinetrio.sim.clock import SimClock
    from klinetrio.sim.instruments import Instrument
    from klinetrio.sim.tape import SimTrade


_SHORTEST_MONTH = 28 * DAY


class History(Protocol):
    """Bars from before the market started."""

    @property
    def first_open(self) -> int:
        """Open time of the first bar."""
        ...

    @property
    def end(self) -> int:
        """Open time of the minute in which the market starts."""
        ...

    def minutes(self, start: int, end: int) -> Rows:
        """Return the dense bars of ``[start, end)``, as far as there are any."""
        ...


@attrs.define
class Book:
    """Everything known of one instrument.

    Attributes:
        instrument: Its row of ``exchangeInfo``.
        history: Its bars from before, if any.
        id_before: The aggregate id before its first trade, if known.
    """

    instrument: Instrument
    history: History | None = None
    id_before: int = NO_ID
    tape: Tape = attrs.field(factory=Tape)
    live: LiveMinutes = attrs.field(factory=LiveMinutes)

    def enter(self, trade: SimTrade) -> bool:
        """Enter a trade; return whether it is new."""
        if not self.tape.add(trade):
            return False
        self.live.add(trade)
        return True

    def first_open(self) -> int | None:
        """Return the open time of the first minute bar."""
        return self.live.first_open if self.history is None else self.history.first_open

    def minutes(self, start: int, end: int) -> Rows:
        """Return the dense minute bars of ``[start, end)``."""
        history = self.history
        if history is None:
            return self.live.dense(start, end, None)
        past = history.minutes(start, end)
        start = max(start, history.end)
        if start >= end:
            return past
        newest = history.minutes(history.end - MINUTE, history.end)
        carried = (int(newest[-1, CLOSE]), self.id_before) if len(newest) else None
        return np.concatenate((past, self.live.dense(start, end, carried)))


class Ledger:
    """The books of all instruments of one exchange.

    Args:
        clock: The exchange's clock.
        books: One of each instrument.
        catch_up: Has the market enter what is due, for markets whose trades follow the clock.
    """

    def __init__(
        self,
        clock: SimClock,
        books: Iterable[Book],
        catch_up: Callable[[], None] = lambda: None,
    ) -> None:
        self.clock = clock
        self.catch_up = catch_up
        self._books = {book.instrument.name: book for book in books}

    @property
    def instruments(self) -> list[Instrument]:
        """All rows of ``exchangeInfo``."""
        return [book.instrument for book in self._books.values()]

    def book(self, symbol: str) -> Book:
        """Return the book of a symbol.

        Raises:
            KeyError: No such symbol.
        """
        return self._books[symbol]

    def amend_minute(self, symbol: str, row: Sequence[int]) -> None:
        """Replace a minute bar by what the exchange claims instead (see ``LiveMinutes.put``)."""
        self._books[symbol].live.put(row)

    def bars(
        self, symbol: str, interval: Interval, start: int | None, end: int | None, limit: int
    ) -> Rows:
        """Return bars as REST selects them: by open time, both bounds inclusive.

        Returns:
            The first ``limit`` from ``start`` on if that is given, else the last ``limit``.
        """
        book = self._books[symbol]
        oldest = book.first_open()
        now = self.clock.now_ms()
        if oldest is None:
            return no_rows()
        first = interval.open_of(oldest)
        last = interval.open_of(now if end is None else min(end, now))
        if start is not None:
            first = max(first, _open_at_or_after(interval, start))
            last = min(last, _shift(interval, first, limit - 1))
        else:
            first = max(first, _shift(interval, last, 1 - limit))
        if first > last:
            return no_rows()
        until = min(interval.next_open(last), now - now % MINUTE + MINUTE)
        return fold(book.minutes(first, until), interval)

    def true_klines(
        self, symbol: str, interval: Interval, start_ms: int, end_ms: int
    ) -> list[tuple[int, ...]]:
        """Return the true bars with ``start_ms <= open time < end_ms``.

        Returns:
            Rows of the thirteen fields of ``domain.kline``.  Of the flags only ``FINAL`` is used.
            The ids are ``NO_ID`` where a bar reaches into history.
        """
        now = self.clock.now_ms()
        at_most = (end_ms - start_ms) // min(interval.length, _SHORTEST_MONTH) + 1
        rows = self.bars(symbol, interval, start_ms, end_ms - 1, at_most).tolist()
        return [
            (*row, int(Flag.FINAL) if interval.close_of(row[OPEN_TIME]) < now else 0)
            for row in rows
        ]


def _open_at_or_after(interval: Interval, time_ms: int) -> int:
    open_time = interval.open_of(time_ms)
    return open_time if open_time == time_ms else interval.next_open(open_time)


def _shift(interval: Interval, open_time: int, bars: int) -> int:
    """Return the open time that many bars later, or earlier if negative."""
    if not interval.is_calendar:
        return open_time + bars * interval.length
    month = np.datetime64(open_time, "ms").astype("datetime64[M]") + bars
    return int(month.astype("datetime64[ms]").astype(np.int64))
