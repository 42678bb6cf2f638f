"""Bars of intervals that are not kept, folded from kept ones when somebody asks.

A bar of three minutes is the fold of three bars of a minute, one of a month that of its days: any
interval of the exchange can be told whose bars are made of whole bars of a kept one.  The longest such
is read, as the fewest of its bars are needed.  It is read a page at a time, and each page is folded
before the next is read: folds of the parts of a bar fold to the bar, so pages may end anywhere.

Invariants (tested in tests/api/test_derived.py):
  I1  ``klines`` returns the bars that it would return if the interval were kept, holes included.
  I2  A bar is final only if its time is over, complete only if all its parts are there and complete.
  I3  At most one page of bars is in memory beside the result, whatever is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from klinetrio.domain.interval import DAY, WEEK
from klinetrio.domain.kline import (
    FIELD_COUNT,
    FLAGS,
    OPEN_TIME,
    REVISION_SHIFT,
    Flag,
    has_row,
    is_final,
)
from klinetrio.engine.fold import fold_klines


if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from klinetrio.api.ports import Market, Row
    from klinetrio.domain.interval import Interval

    Rows = npt.NDArray[np.int64]

# As Python's numbers 0.6 MB.
PAGE_BARS = 1_000

_LONGEST_MONTH = 31 * DAY

# Beside the fields of a bar: how many parts it has, when the last one opens, their revisions.
_PARTS, _NEWEST, _REVISIONS = range(FIELD_COUNT, FIELD_COUNT + 3)
_WIDTH = FIELD_COUNT + 3


def source_of(wanted: Interval, kept: Sequence[Interval]) -> int | None:
    """Return the index of the kept interval to read for a wanted one.

    Args:
        wanted: Any interval.
        kept: Shortest first.

    Returns:
        That of the wanted one if it is kept, else of the longest of whose whole bars it is made; None
        if there is none.
    """
    fitting = [index for index, each in enumerate(kept) if wanted.contains(each)]
    return fitting[-1] if fitting else None


def most_parts(wanted: Interval, source: Interval) -> int:
    """Return how many bars of its source a bar has at most."""
    return (_LONGEST_MONTH if wanted.is_calendar else wanted.length) // source.length


async def klines(
    market: Market,
    symbol_index: int,
    interval: Interval,
    *,
    start: int | None,
    end: int | None,
    limit: int,
) -> Sequence[Row]:
    """Return bars of any interval as ``Market.klines`` returns those of a kept one.

    Args:
        market: Where the kept ones are.
        symbol_index: Whose bars.
        interval: Kept, or one of which ``source_of`` knows a source.
        start: Lowest open time, inclusive, UTC ms; however large.
        end: Highest open time, inclusive, UTC ms; however large.
        limit: How many: the first ones from ``start`` if it is given, else the last ones.

    Raises:
        ValueError: No kept interval makes it up.
        StoreError: The database could not be read.

    Blocking: for as many pages as it takes; whoever calls bounds it.
    """
    index = source_of(interval, market.intervals)
    if index is None:
        raise ValueError(f"expected an interval that kept ones make up, was {interval}")
    # Nothing opens after now; calendars and databases have no room for any number.
    latest = market.now_ms() + WEEK
    if start is not None and start > latest:
        return []
    if end is not None:
        end = min(end, latest)
    row = symbol_index * len(market.intervals) + index
    if market.intervals[index] == interval:
        return await market.klines(row, start=start, end=end, limit=limit)
    reading = _Reading(market, row, interval, limit)
    folded = await (reading.last(end) if start is None else reading.first(start, end))
    return reading.finished(folded).tolist()  # type: ignore[no-any-return]  # numpy says Any


async def open_bar(market: Market, symbol_index: int, interval: Interval) -> Row | None:
    """Return the open bar of any interval, None if there is none.

    Raises:
        ValueError: No kept interval makes it up.
        StoreError: The database could not be read.
    """
    bars = await klines(market, symbol_index, interval, start=None, end=None, limit=1)
    return bars[-1] if bars and not is_final(bars[-1]) else None


class _Reading:
    """One reading of bars that are not kept.

    Args:
        market: Where the source is.
        row: The series of the source.
        interval: What to fold it to.
        limit: How many bars.
    """

    def __init__(self, market: Market, row: int, interval: Interval, limit: int) -> None:
        self._market = market
        self._row = row
        self._interval = interval
        self._source = market.intervals[row % len(market.intervals)]
        self._limit = limit
        # One bar more than wanted shows that the one before it is whole.
        self._page = min(PAGE_BARS, (limit + 1) * most_parts(interval, self._source))
        # Where it ends is settled here: what opens later would be joined to an older state.
        live = market.live_row(row)
        self._reached = live[OPEN_TIME] if has_row(live) else None

    def _end(self, end: int | None) -> int | None:
        """Return the highest open time of the source."""
        bounds = [] if self._reached is None else [self._reached]
        if end is not None:
            bounds.append(self._interval.close_of(self._interval.open_of(end)))
        return min(bounds, default=None)

    async def first(self, start: int, end: int | None) -> Rows:
        """Return the first bars from a time on."""
        interval, folded = self._interval, _no_rows()
        opens = interval.open_of(start)
        cursor = start if opens == start else interval.next_open(opens)
        last = self._end(end)
        while last is None or cursor <= last:
            bars = await self._market.klines(self._row, start=cursor, end=last, limit=self._page)
            folded = self._folded(folded, _widened(bars))
            if len(bars) < self._page or len(folded) > self._limit:
                break
            cursor = bars[-1][OPEN_TIME] + 1
        return folded[: self._limit]

    async def last(self, end: int | None) -> Rows:
        """Return the last bars up to a time."""
        folded, last = _no_rows(), self._end(end)
        while True:
            bars = await self._market.klines(self._row, start=None, end=last, limit=self._page)
            folded = self._folded(_widened(bars), folded)
            if len(bars) < self._page or len(folded) > self._limit:
                return folded[-self._limit :]
            last = bars[0][OPEN_TIME] - 1

    def _folded(self, earlier: Rows, later: Rows) -> Rows:
        """Fold two runs of bars or of parts of bars, one after the other."""
        rows = np.concatenate((earlier, later))
        if not len(rows):
            return rows
        opens = self._interval.open_of_many(rows[:, OPEN_TIME])
        starts = np.flatnonzero(np.r_[True, opens[1:] != opens[:-1]])
        folded = np.zeros((len(starts), _WIDTH), np.int64)
        folded[:, :FIELD_COUNT] = fold_klines(rows[:, :FIELD_COUNT], self._interval)
        folded[:, FLAGS] |= _of_any_part(np.bitwise_or.reduceat(rows[:, FLAGS], starts))
        folded[:, _PARTS] = np.add.reduceat(rows[:, _PARTS], starts)
        folded[:, _NEWEST] = np.maximum.reduceat(rows[:, _NEWEST], starts)
        folded[:, _REVISIONS] = np.add.reduceat(rows[:, _REVISIONS], starts)
        return folded

    def finished(self, folded: Rows) -> Rows:
        """Return bars as others know them, with what they may claim."""
        bars = folded[:, :FIELD_COUNT]
        length = self._source.length
        if len(bars):
            opens = bars[:, OPEN_TIME]
            whole = (folded[:, _NEWEST] - opens) // length + 1 == folded[:, _PARTS]
            bars[~whole, FLAGS] &= ~Flag.COMPLETE
            reached = folded[-1, _NEWEST] + length if self._reached is None else self._reached
            is_over = self._interval.next_open_of_many(opens) <= reached
            bars[~is_over, FLAGS] &= ~Flag.FINAL
            bars[:, FLAGS] |= folded[:, _REVISIONS] << REVISION_SHIFT
        return bars


def _widened(bars: Sequence[Row]) -> Rows:
    """Return bars of the source as rows that know their parts."""
    if not bars:
        return _no_rows()
    rows = np.zeros((len(bars), _WIDTH), np.int64)
    rows[:, :FIELD_COUNT] = bars
    rows[:, _PARTS] = 1
    rows[:, _NEWEST] = rows[:, OPEN_TIME]
    rows[:, _REVISIONS] = rows[:, FLAGS] >> REVISION_SHIFT
    rows[:, FLAGS] &= (1 << REVISION_SHIFT) - 1
    return rows


def _of_any_part(bits: Rows) -> Rows:
    """Return what is said of a bar if it is said of any of its parts.

    What is settled in part came in part from the exchange's klines.
    """
    backfilled = np.where(bits & Flag.SETTLED, Flag.BACKFILLED, 0)
    return bits & (Flag.FEED_DOWN | Flag.BACKFILLED) | backfilled


def _no_rows() -> Rows:
    return np.zeros((0, _WIDTH), np.int64)
