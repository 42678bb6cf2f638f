"""The closed bars of one symbol that are still in memory.

Late and repaired trades go into their own bar, so recently closed bars stay at hand.  Each
interval has as many slots as its bars fill the horizon; a bar's slot is its number on the grid
modulo the slots, so finding one is arithmetic and nothing is ever evicted by hand.

Invariant (tested in tests/engine/test_recent.py):
  I1  ``get`` returns exactly what was last ``put`` for that open time, or None.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from klinetrio.domain.interval import HOUR
from klinetrio.domain.kline import FIELD_COUNT, OPEN_TIME


if TYPE_CHECKING:
    from collections.abc import Sequence

    from klinetrio.domain.interval import Interval

# With the eight default intervals this makes 177 slots of 104 bytes: 18.4 kB per symbol, 18.4 MB
# for 1,000 symbols.
HORIZON_MS = 2 * HOUR
_SPARE_SLOTS = 2


class RecentBars:
    """Closed bars of one symbol, by period index and open time."""

    __slots__ = ("_intervals", "_slots")

    def __init__(self, intervals: Sequence[Interval]) -> None:
        self._intervals = intervals
        self._slots = [
            np.zeros((-(-HORIZON_MS // interval.length) + _SPARE_SLOTS, FIELD_COUNT), np.int64)
            for interval in intervals
        ]

    def slots(self, period_index: int) -> int:
        """Return how many bars of an interval are kept."""
        return len(self._slots[period_index])

    def get(self, period_index: int, open_time: int) -> list[int] | None:
        """Return a copy of the bar, None if it is not here."""
        slots = self._slots[period_index]
        slot = slots[self._intervals[period_index].ordinal(open_time) % len(slots)]
        if slot[OPEN_TIME] != open_time:
            return None
        row: list[int] = slot.tolist()
        return row

    def put(self, period_index: int, row: Sequence[int]) -> None:
        """Keep a bar, in place of the one that is as many bars older as there are slots.

        An older bar never takes the place of a younger one.

        Raises:
            OverflowError: A value does not fit 64 bits; nothing has changed then.
        """
        slots = self._slots[period_index]
        slot = slots[self._intervals[period_index].ordinal(row[OPEN_TIME]) % len(slots)]
        if slot[OPEN_TIME] <= row[OPEN_TIME]:
            slot[:] = np.array(row, np.int64)
