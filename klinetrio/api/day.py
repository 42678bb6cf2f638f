"""What has happened to each symbol in the last 24 hours, in arithmetic alone.

The window of a symbol opens 24 hours before its open short bar, as the exchange's own does (24 hours
before the current minute), and ends with its newest trade.  It is made of three kinds of bars:

    the edge: short bars    closed long bars                             the open long bar
    |...mmmmmmmmmmmmmmmmmm|hhhhhhhhhhhh ... hhhhhhhhhhhhhhhhhhhhhhhhhhhh|h..

Long is the longest kept interval of which an hour is a multiple, short the shortest: 1h and 1m as a
rule.  The edge and the closed long bars are read from the history when somebody asks, at most once per
long bar, and kept as numbers of all symbols side by side; the open bar is the live one.

Invariants (tested in tests/api/test_day.py):
  I1  A window is the fold of exactly the bars that the history has between its ends, none twice.
  I2  A closed bar that has been corrected is read again before the next answer.
  I3  A window that could not be read is none, never a part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np
import trio

from klinetrio.domain.decimals import INT64_MAX
from klinetrio.domain.interval import DAY, HOUR
from klinetrio.domain.kline import (
    CLOSE,
    HIGH,
    LOW,
    OPEN,
    OPEN_TIME,
    TRADE_COUNT,
    VOLUME,
    has_row,
)


if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

    from klinetrio.api.ports import Market

# Of a symbol 60 + 23 bars of 64 bytes, 5 KB; with 1m as the only interval it is 92 KB.
_FIELDS = TRADE_COUNT + 1

# A window with bars missing is read again after so long: the history may have been filled since.
REREAD_S = 600.0

_PERCENT_DECIMALS = 3


@attrs.frozen(slots=True)
class DayBar:
    """The last 24 hours of one symbol, as one bar at the symbol's scales.

    Attributes:
        start: Open time of the first bar that is counted: later than 24 hours ago only where the
            history has none from then.
    """

    start: int
    open: int
    high: int
    low: int
    close: int
    volume: int
    quote_volume: int
    trade_count: int

    @property
    def change(self) -> int:
        """Close less open."""
        return self.close - self.open

    @property
    def change_percent(self) -> int:
        """The change in percent of the open, in thousandths."""
        return rounded(self.change * 100 * 10**_PERCENT_DECIMALS, self.open) if self.open else 0

    @property
    def average(self) -> int:
        """The average price by volume; a quote volume has the decimals of price and quantity."""
        return rounded(self.quote_volume, self.volume) if self.volume else 0


def rounded(numerator: int, denominator: int) -> int:
    """Return the quotient of a positive denominator as the exchange rounds: halves away from zero."""
    quotient = (2 * abs(numerator) + denominator) // (2 * denominator)
    return quotient if numerator >= 0 else -quotient


class DayWindow:
    """The last 24 hours of all symbols.

    Args:
        market: Where the bars are.

    Attributes:
        is_possible: Whether there is an interval that makes up an hour; without one no window is.
    """

    def __init__(self, market: Market) -> None:
        self._market = market
        intervals = market.intervals
        usable = [index for index, each in enumerate(intervals) if HOUR % each.length == 0]
        self.is_possible = bool(usable)
        if not usable:
            return
        self._short, self._long = usable[0], usable[-1]
        short, self._long_interval = intervals[self._short], intervals[self._long]
        self._edge_bars = self._long_interval.length // short.length
        self._whole_bars = DAY // self._long_interval.length - 1
        slots = self._edge_bars + self._whole_bars
        symbols = len(market.symbols)
        self._bars: npt.NDArray[np.int64] = np.zeros((symbols, slots, _FIELDS), np.int64)
        # Of each symbol: for which open long bar its bars were read, and when they are again.
        self._read_for = np.zeros(symbols, np.int64)
        self._read_again = [0.0] * symbols
        # One reader at a time: a second one would read the same.
        self._turn = trio.Lock()

    def forget(self, symbol_index: int) -> None:
        """Have a symbol's bars read again, because a closed one has changed."""
        if self.is_possible:
            self._read_again[symbol_index] = 0.0

    async def load(self, indexes: Iterable[int]) -> list[int]:
        """Read what is not at hand; return the symbols of which something was read.

        Raises:
            StoreError: The history could not be read.

        Cancellation: what has been read stays.
        """
        loaded = []
        if self.is_possible:
            async with self._turn:
                for index in indexes:
                    if self._is_wanting(index):
                        await self._read(index)
                        loaded.append(index)
        return loaded

    def _is_wanting(self, index: int) -> bool:
        live = self._market.live_row(self._row(index, self._long))
        if not has_row(live):
            return False
        return (
            self._read_for[index] != live[OPEN_TIME]
            or trio.current_time() >= self._read_again[index]
        )

    async def _read(self, index: int) -> None:
        """Read one symbol's edge and closed long bars."""
        row = self._row(index, self._long)
        until = self._market.live_row(row)[OPEN_TIME]
        start = until - DAY
        whole = start + self._long_interval.length
        # Set before the reading: what is corrected meanwhile is forgotten again.
        self._read_again[index] = np.inf
        edge = await self._market.klines(
            self._row(index, self._short), start=start, end=whole - 1, limit=self._edge_bars
        )
        longs = await self._market.klines(row, start=whole, end=until - 1, limit=self._whole_bars)
        bars = [list(each[:_FIELDS]) for each in (*edge, *longs)]
        self._bars[index] = 0
        if bars:
            self._bars[index, : len(bars)] = bars
        self._read_for[index] = until
        if len(bars) < self._edge_bars + self._whole_bars:
            again = trio.current_time() + REREAD_S
            self._read_again[index] = min(self._read_again[index], again)

    def _row(self, index: int, interval_index: int) -> int:
        return index * len(self._market.intervals) + interval_index

    def bars(self, indexes: Sequence[int]) -> list[DayBar | None]:
        """Return the windows of some symbols, None where there is none yet."""
        if not self.is_possible or not indexes:
            return [None] * len(indexes)
        shorts, longs = (
            np.array([self._market.live_row(self._row(each, which)) for each in indexes], np.int64)
            for which in (self._short, self._long)
        )
        chosen = np.array(indexes)
        known = (longs[:, OPEN_TIME] != 0) & (self._read_for[chosen] == longs[:, OPEN_TIME])
        bars = np.concatenate((self._bars[chosen], longs[:, None, :_FIELDS]), axis=1)
        starts = shorts[:, OPEN_TIME] - DAY
        wanted = bars[:, :, OPEN_TIME] >= starts[:, None]
        return _folded(bars, wanted, known)


def _folded(
    bars: npt.NDArray[np.int64], wanted: npt.NDArray[np.bool_], known: npt.NDArray[np.bool_]
) -> list[DayBar | None]:
    """Fold the wanted bars of each symbol.

    Args:
        bars: Of each symbol, ascending, the last one open; shape ``(symbols, bars, fields)``.
        wanted: Which of them count; the last one does.
        known: Of which symbols there is a window at all.
    """
    traded = wanted & (bars[:, :, TRADE_COUNT] > 0)
    some = traded.any(axis=1)
    at = np.arange(len(bars))
    first = wanted.argmax(axis=1)
    # Bars without trades carry a price of before: they have no say unless there is nothing else.
    opening = np.where(some, traded.argmax(axis=1), first)
    close = bars[:, -1, CLOSE]
    bounds = np.iinfo(np.int64)
    high = np.where(traded, bars[:, :, HIGH], bounds.min).max(axis=1)
    low = np.where(traded, bars[:, :, LOW], bounds.max).min(axis=1)
    sums = np.where(wanted[:, :, None], bars[:, :, VOLUME : TRADE_COUNT + 1], 0)
    # A day that does not fit 64 bits is none; a float is exact enough to tell.
    fits = sums.sum(axis=1, dtype=np.float64).max(axis=1) < 0.99 * INT64_MAX
    columns = (
        bars[at, first, OPEN_TIME],
        bars[at, opening, OPEN],
        np.where(some, high, close),
        np.where(some, low, close),
        close,
        *sums.sum(axis=1).T,
    )
    rows = zip(*(each.tolist() for each in columns), strict=True)
    return [
        DayBar(*row) if is_known else None
        for row, is_known in zip(rows, (known & fits).tolist(), strict=True)
    ]
