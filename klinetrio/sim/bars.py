"""The truth: one-minute bars and their folds, by the simplest arithmetic there is.

Written without a look at ``klinetrio.engine``, so that comparing the two means something.  Bars
are numpy rows of twelve int64, the fields of ``domain.kline`` without the flags.

Invariants:
  I1  rows handed out are dense: one per minute, those without trades carried forward
      (o=h=l=c=previous close, zeros elsewhere).
  I2  a longer bar is the fold of exactly the minutes inside it; carried minutes have no say in
      its open, high and low unless there is nothing else (an open is never a previous close).
  I3  the same trades in any order give the same bars: the smallest id opens, the largest closes.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import TYPE_CHECKING

import numpy as np

from klinetrio.domain.interval import INTERVALS, MINUTE, Interval
from klinetrio.domain.kline import (
    CLOSE,
    FIRST_AGG_ID,
    FLAGS,
    HIGH,
    LAST_AGG_ID,
    LOW,
    NO_ID,
    OPEN,
    OPEN_TIME,
    QUOTE_VOLUME,
    TAKER_BUY_QUOTE_VOLUME,
    TAKER_BUY_VOLUME,
    TRADE_COUNT,
    VOLUME,
)


if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from klinetrio.sim.tape import SimTrade

    Rows = npt.NDArray[np.int64]

# The flags say how klinetrio came by a bar; the truth has no such history.
WIDTH = FLAGS
ONE_MINUTE = INTERVALS["1m"]

_INT64 = np.iinfo(np.int64)


def no_rows() -> Rows:
    """Return a table without bars."""
    return np.empty((0, WIDTH), dtype=np.int64)


class LiveMinutes:
    """Minute bars made of trades."""

    def __init__(self) -> None:
        self._bars: dict[int, list[int]] = {}
        self._opens: list[int] = []

    @property
    def first_open(self) -> int | None:
        """Open time of the oldest bar."""
        return self._opens[0] if self._opens else None

    def add(self, trade: SimTrade) -> None:
        """Fold one trade in; it must be a new one."""
        open_time = trade.time - trade.time % MINUTE
        agg_id, price, quantity = trade.agg_id, trade.price, trade.quantity
        bar = self._bars.get(open_time)
        if bar is None:
            bar = [open_time, *[price] * 4, *[0] * 5, agg_id, agg_id]
            self._store(open_time, bar)
        if price > bar[HIGH]:
            bar[HIGH] = price
        elif price < bar[LOW]:
            bar[LOW] = price
        if agg_id >= bar[LAST_AGG_ID]:
            bar[CLOSE], bar[LAST_AGG_ID] = price, agg_id
        elif agg_id < bar[FIRST_AGG_ID]:
            bar[OPEN], bar[FIRST_AGG_ID] = price, agg_id
        bar[VOLUME] += quantity
        bar[QUOTE_VOLUME] += price * quantity
        bar[TRADE_COUNT] += trade.last_id - trade.first_id + 1
        if not trade.buyer_is_maker:
            bar[TAKER_BUY_VOLUME] += quantity
            bar[TAKER_BUY_QUOTE_VOLUME] += price * quantity

    def put(self, row: Sequence[int]) -> None:
        """Replace a bar: what the exchange says may differ from what its trades add up to.

        Args:
            row: The first ten fields, or all twelve; without ids those of the old bar stay.
        """
        old = self._bars.get(row[OPEN_TIME])
        ids = row[FIRST_AGG_ID:WIDTH] or (old[FIRST_AGG_ID:] if old else [NO_ID, NO_ID])
        self._store(row[OPEN_TIME], [*row[:FIRST_AGG_ID], *ids])

    def _store(self, open_time: int, bar: list[int]) -> None:
        if open_time not in self._bars:
            insort(self._opens, open_time)
        self._bars[open_time] = bar

    def dense(self, start: int, end: int, carried: tuple[int, int] | None) -> Rows:
        """Return one row per minute of ``[start, end)``.

        Args:
            start: Open time of the first row.
            end: Open time after the last row.
            carried: Close price and last aggregate id before the first live bar; ``None`` leaves
                the minutes before it out.
        """
        index = bisect_left(self._opens, start)
        if index:
            older = self._bars[self._opens[index - 1]]
            carried = older[CLOSE], older[LAST_AGG_ID]
        rows: list[list[int]] = []
        for open_time in range(start, end, MINUTE):
            bar = self._bars.get(open_time)
            if bar is not None:
                rows.append(bar)
                carried = bar[CLOSE], bar[LAST_AGG_ID]
            elif carried is not None:
                rows.append(_empty(open_time, *carried))
        return np.array(rows, dtype=np.int64).reshape(-1, WIDTH)


def _empty(open_time: int, close: int, last_id: int) -> list[int]:
    next_id = NO_ID if last_id == NO_ID else last_id + 1
    return [open_time, *[close] * 4, *[0] * 5, next_id, last_id]


def fold(minutes: Rows, interval: Interval) -> Rows:
    """Return the bars of ``interval`` that dense minute rows add up to."""
    if interval is ONE_MINUTE or not len(minutes):
        return minutes
    opens = interval.open_of_many(minutes[:, OPEN_TIME])
    starts = np.flatnonzero(np.concatenate(([True], opens[1:] != opens[:-1])))
    ends = np.append(starts[1:], len(minutes)) - 1
    bars: Rows = minutes[ends]
    bars[:, OPEN_TIME] = opens[starts]
    sums = slice(VOLUME, TAKER_BUY_QUOTE_VOLUME + 1)
    bars[:, sums] = np.add.reduceat(minutes[:, sums], starts, axis=0)
    _fold_prices(bars, minutes, starts)
    _fold_ids(bars, minutes, starts)
    return bars


def _fold_prices(bars: Rows, minutes: Rows, starts: Rows) -> None:
    traded = minutes[:, TRADE_COUNT] > 0
    lowest = np.where(traded, minutes[:, LOW], _INT64.max)
    highest = np.where(traded, minutes[:, HIGH], _INT64.min)
    # A bar in which nothing traded stays as its last minute is: flat at the carried price.
    some = np.logical_or.reduceat(traded, starts)
    bars[some, HIGH] = np.maximum.reduceat(highest, starts)[some]
    bars[some, LOW] = np.minimum.reduceat(lowest, starts)[some]

    # By the ids, not by the minutes (I3); where ids are unknown all are alike and position decides.
    first_ids = np.where(traded, minutes[:, FIRST_AGG_ID], _INT64.max)
    last_ids = np.where(traded, minutes[:, LAST_AGG_ID], _INT64.min)
    lengths = np.diff(np.append(starts, len(minutes)))
    opens = first_ids == np.repeat(np.minimum.reduceat(first_ids, starts), lengths)
    closes = last_ids == np.repeat(np.maximum.reduceat(last_ids, starts), lengths)
    position = np.arange(len(minutes))
    opening = np.minimum.reduceat(np.where(opens, position, len(minutes)), starts)
    closing = np.maximum.reduceat(np.where(closes, position, -1), starts)
    bars[some, OPEN] = minutes[opening[some], OPEN]
    bars[some, CLOSE] = minutes[closing[some], CLOSE]


def _fold_ids(bars: Rows, minutes: Rows, starts: Rows) -> None:
    known = np.logical_and.reduceat(minutes[:, LAST_AGG_ID] != NO_ID, starts)
    bars[:, FIRST_AGG_ID] = np.where(known, minutes[starts, FIRST_AGG_ID], NO_ID)
    bars[:, LAST_AGG_ID] = np.where(known, bars[:, LAST_AGG_ID], NO_ID)
