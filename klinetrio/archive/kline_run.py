"""Consecutive files of one series' klines, as one stream with carried state, to longer bars.

Klines are folded as far as they follow each other.  Like a run of trades, a run of klines is a
value.

Invariant (tested in tests/archive/test_kline_run.py):
  I1  A longer bar is made of all its parts, or not at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np

from klinetrio.archive.longer import Longer
from klinetrio.domain.kline import OPEN_TIME


if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from klinetrio.archive.longer import Bars
    from klinetrio.archive.rows import Int64Array
    from klinetrio.domain.interval import Interval


@attrs.frozen(slots=True)
class KlineRun:
    """What is carried from one file of klines to the next.

    Attributes:
        covered: From the first bar's start to the last one's end, ms.
        longer: What is folded of them.
    """

    covered: tuple[int, int]
    longer: Longer

    @classmethod
    def starting(cls, part: Interval, intervals: Sequence[Interval]) -> KlineRun:
        """Return a run that has taken nothing yet."""
        return cls((0, 0), Longer.of(part, intervals))

    def extend(self, rows: Int64Array) -> Iterator[tuple[KlineRun, Bars]]:
        """Take the bars of the next file, ascending; yield each state with the bars done."""
        run, part = self, self.longer.part
        yield run, {}
        rows = rows[rows[:, OPEN_TIME] >= self.covered[1]]
        ends = np.array([part.next_open(each) for each in rows[:, OPEN_TIME].tolist()], np.int64)
        breaks = np.flatnonzero(rows[1:, OPEN_TIME] != ends[:-1]) + 1
        for piece in np.split(rows, breaks):
            if len(piece):
                run, bars = run.take(piece, part.next_open(int(piece[-1, OPEN_TIME])))
                yield run, bars

    def rescaled(self, price: int, quantity: int) -> KlineRun:
        """Return the same with numbers multiplied, because the symbol's scales have grown."""
        return attrs.evolve(self, longer=self.longer.rescaled(price, quantity))

    def take(self, piece: Int64Array, end: int) -> tuple[KlineRun, Bars]:
        """Take bars that follow each other; return what is left, and bars done."""
        first, longer = int(piece[0, OPEN_TIME]), self.longer
        since = self.covered[0]
        if first != self.covered[1]:
            since, longer = first, Longer.of(longer.part, longer.intervals)
        longer, bars = longer.extend(piece, (since, end))
        return KlineRun((since, end), longer), bars
