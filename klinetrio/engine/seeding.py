"""What a book needs to take over the past from the exchange's own klines.

At a minute boundary ``until`` the past ends and the book's own trades begin.  While the klines of
the past are being fetched, the trades since ``until`` of every bar that spans the boundary are
folded a second time, into a *tail*; ``past + tail`` is then the whole bar, whatever has been
closed meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from klinetrio.domain.kline import (
    FIELD_COUNT,
    FIRST_AGG_ID,
    FLAGS,
    LAST_AGG_ID,
    NO_ID,
    OPEN_TIME,
    Flag,
    has_row,
)
from klinetrio.engine.fold import fold_trade


if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from klinetrio.domain.interval import Interval
    from klinetrio.domain.trade import AggTrade


@attrs.frozen(slots=True)
class Past:
    """One interval's past up to the boundary.

    Attributes:
        closed: Bars that ended at or before the boundary, ascending, shape ``(n, 13)``.
        part: The part before the boundary of the bar that spans it; None if no bar does, or if
            the symbol did not exist yet.
    """

    closed: npt.NDArray[np.int64]
    part: Sequence[int] | None


@attrs.frozen(slots=True)
class Seed:
    """All intervals' past of one symbol.

    Attributes:
        until: The boundary, UTC ms.
        pasts: By period index.
    """

    until: int
    pasts: Sequence[Past]


class Tails:
    """The trades since the boundary, of the bars that span it."""

    __slots__ = ("_ends", "rows", "until")

    def __init__(self, until: int, intervals: Sequence[Interval]) -> None:
        self.until = until
        self.rows: list[list[int]] = []
        self._ends: list[int] = []
        for interval in intervals:
            row = [0] * FIELD_COUNT
            row[OPEN_TIME] = interval.open_of(until - 1)
            row[FIRST_AGG_ID] = row[LAST_AGG_ID] = NO_ID
            self.rows.append(row)
            self._ends.append(interval.next_open(row[OPEN_TIME]))

    def spans(self, period_index: int) -> bool:
        """Tell whether the interval has a bar that spans the boundary."""
        return self._ends[period_index] > self.until

    def fold(self, trade: AggTrade) -> None:
        """Add one trade to the tails it belongs to."""
        if trade.time < self.until:
            return
        for row, end in zip(self.rows, self._ends, strict=True):
            if trade.time < end:
                fold_trade(row, trade)


def newest_id_of(live: Sequence[Sequence[int]]) -> int:
    """Return the newest id of an earlier run's open bars; ``NO_ID`` if they cannot be trusted.

    They can if there is one of every interval, each is proved, and all agree on that id.
    """
    newest = max(row[LAST_AGG_ID] for row in live)
    proved = all(row[FLAGS] & Flag.COMPLETE and row[LAST_AGG_ID] == newest for row in live)
    return newest if proved and all(map(has_row, live)) else NO_ID
