"""Bars of one length, without a hole between them, to bars of several longer ones, as they come.

Invariants (tested in tests/archive/test_kline_run.py):
  I1  However the bars are cut into pieces, the longer ones are those of all at once.
  I2  A longer bar that is not wholly covered never comes out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np

from klinetrio.domain.decimals import INT64_MAX
from klinetrio.domain.kline import (
    CLOSE,
    FIELD_COUNT,
    HIGH,
    LOW,
    OPEN,
    OPEN_TIME,
    QUOTE_VOLUME,
    TAKER_BUY_QUOTE_VOLUME,
    TAKER_BUY_VOLUME,
    VOLUME,
)
from klinetrio.engine.fold import fold_klines
from klinetrio.errors import ScaleError


if TYPE_CHECKING:
    from collections.abc import Sequence

    from klinetrio.archive.rows import Int64Array
    from klinetrio.domain.interval import Interval

NO_ROWS = np.zeros((0, FIELD_COUNT), np.int64)

# By interval name, ascending; only intervals that have any.
Bars = dict[str, "Int64Array"]


@attrs.frozen(slots=True)
class Longer:
    """The bars of the longer ones that are not over yet.

    Attributes:
        part: The interval of the bars.
        intervals: The longer ones, each of which contains ``part``, or is it.
        pending: For each interval the bars of its unfinished bar.
    """

    part: Interval
    intervals: Sequence[Interval]
    pending: Sequence[Int64Array]

    @classmethod
    def of(cls, part: Interval, intervals: Sequence[Interval]) -> Longer:
        """Return the start, with those of the intervals that can be made of ``part``."""
        possible = tuple(each for each in intervals if each.contains(part))
        return cls(part, possible, (NO_ROWS,) * len(possible))

    def extend(self, rows: Int64Array, covered: tuple[int, int]) -> tuple[Longer, Bars]:
        """Take the next bars; return what is left, and the longer bars that are over by now.

        Args:
            rows: They start where the ones before ended.
            covered: From when until when nothing is missing but what the bars themselves say.
        """
        if len(rows) == 0:
            return self, {}
        end = self.part.next_open(int(rows[-1, OPEN_TIME]))
        bars, pending = {}, []
        for interval, before in zip(self.intervals, self.pending, strict=True):
            parts = np.concatenate((before, rows))
            cut = int(np.searchsorted(parts[:, OPEN_TIME], interval.open_of(end)))
            pending.append(parts[cut:].copy())
            bars[interval.name] = self._fold(parts[:cut], interval)
        return attrs.evolve(self, pending=tuple(pending)), _covered(bars, self.intervals, covered)

    def finish(self, covered: tuple[int, int]) -> Bars:
        """Return the longer bars that are covered although no bar follows."""
        bars = {
            interval.name: self._fold(parts, interval)
            for interval, parts in zip(self.intervals, self.pending, strict=True)
        }
        return _covered(bars, self.intervals, covered)

    def rescaled(self, price: int, quantity: int) -> Longer:
        """Return the same with numbers multiplied, because the symbol's scales have grown."""
        pending = tuple(rescaled_rows(rows, price, quantity) for rows in self.pending)
        return attrs.evolve(self, pending=pending)

    def _fold(self, parts: Int64Array, interval: Interval) -> Int64Array:
        return parts if interval == self.part else fold_klines(parts, interval)


def rescaled_rows(rows: Int64Array, price: int, quantity: int) -> Int64Array:
    """Return rows whose prices and quantities are multiplied.

    Raises:
        ScaleError: A number does not fit 64 bits.
    """
    grown = rows.copy()
    prices, quantities = (OPEN, HIGH, LOW, CLOSE), (VOLUME, TAKER_BUY_VOLUME)
    quotes = (QUOTE_VOLUME, TAKER_BUY_QUOTE_VOLUME)
    for fields, factor in ((prices, price), (quantities, quantity), (quotes, price * quantity)):
        chosen = rows[:, fields]
        if chosen.size and int(chosen.max()) * factor > INT64_MAX:
            raise ScaleError("expected bars of 64 bits at the grown scales, were larger")
        grown[:, fields] = chosen * factor
    return grown


def _covered(bars: Bars, intervals: Sequence[Interval], covered: tuple[int, int]) -> Bars:
    since, until = covered
    chosen = {}
    for interval in intervals:
        rows = bars[interval.name]
        opens = rows[:, OPEN_TIME]
        rows = rows[(opens >= since) & (interval.next_open_of_many(opens) <= until)]
        if len(rows):
            chosen[interval.name] = rows
    return chosen
