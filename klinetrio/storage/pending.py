"""Closed bars that are in memory alone: on their way to the database, or to the spool.

Invariants (tested in tests/storage/test_pending.py):
  I1  A bar stays until exactly its newest state has been written, or has been given up by name.
  I2  Bounded: 50,000 bars of about 0.9 kB, 45 MB; 500 symbols with the default intervals close
      660 bars a minute, so this bridges 75 minutes in which neither database nor spool can be
      written.
  I3  Bars leave in the order in which they came.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from klinetrio.domain.kline import (
    FIELD_COUNT,
    FLAGS,
    OPEN_TIME,
    REVISION_SHIFT,
    TRADE_COUNT,
    Flag,
    revision_of,
)
from klinetrio.storage.protocol import Batch


if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from klinetrio.engine.publication import ClosedBar

MAX_PENDING = 50_000

# One transaction; the rest follows in the next ones.
MAX_BATCH = 20_000


class PendingBars:
    """The newest state of every closed bar that waits in memory."""

    def __init__(self) -> None:
        self._series: dict[int, dict[int, tuple[int, ...]]] = {}
        # In the order in which they came; a newer state keeps the place of the older one.
        self._order: dict[tuple[int, int], None] = {}

    def __len__(self) -> int:
        return len(self._order)

    def add(self, bars: Iterable[ClosedBar]) -> None:
        """Add bars or replace their older states."""
        for row, values in bars:
            open_time = values[OPEN_TIME]
            self._series.setdefault(row, {})[open_time] = values
            self._order.setdefault((row, open_time))

    def of_series(self, row: int) -> list[tuple[int, ...]]:
        """Return the waiting bars of one series, in no particular order."""
        return list(self._series.get(row, {}).values())

    def batch(self, limit: int = MAX_BATCH) -> Batch:
        """Return at most so many of the waiting bars, the first that came; they stay."""
        keys = list(islice(self._order, limit))
        rows = np.array([row for row, _ in keys], np.int64)
        bars = np.array([self._series[row][open_time] for row, open_time in keys], np.int64)
        return Batch(rows, bars.reshape(len(keys), FIELD_COUNT))

    def forget(self, written: Batch) -> None:
        """Drop what has been written, unless a newer state has come since."""
        for row, bar in zip(written.series.tolist(), written.bars.tolist(), strict=True):
            if self._series.get(row, {}).get(bar[OPEN_TIME]) == tuple(bar):
                self._drop(row, bar[OPEN_TIME])

    def give_up(self, number: int) -> list[ClosedBarKey]:
        """Drop so many bars for good; return which.

        Those go first that the database has in no state, because a download finds them missing and
        the exchange still has them; of these the first that came.  A correction that is given up
        would leave its older state, which looks whole.
        """
        first = [key for key in self._order if revision_of(self._value(key)) == 0]
        last = [key for key in self._order if revision_of(self._value(key)) > 0]
        chosen = [*first, *last][:number]
        for row, open_time in chosen:
            self._drop(row, open_time)
        return chosen

    def _value(self, key: ClosedBarKey) -> tuple[int, ...]:
        return self._series[key[0]][key[1]]

    def _drop(self, row: int, open_time: int) -> None:
        series = self._series[row]
        del series[open_time], self._order[row, open_time]
        if not series:
            del self._series[row]


# Row of the series, and open time.
ClosedBarKey = tuple[int, int]


def rank(values: Sequence[int]) -> tuple[int, int, int, int, int]:
    """Return by what the better of two states of one bar is told: the higher one.

    Of closed bars it is the same as the database keeps (``schema.UPSERT_CLOSED``).
    """
    flags = values[FLAGS]
    revision = flags >> REVISION_SHIFT
    bits = flags & Flag.FINAL, flags & Flag.SETTLED, flags & Flag.COMPLETE
    return *bits, revision, values[TRADE_COUNT]
