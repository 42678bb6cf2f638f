"""One series from all places where its bars may be: database, spool, pending, open.

A bar moves from open to pending, from there to the spool if need be, and to the database, never
back.  So the memory is copied first, at one moment, and what is stored is read after it
(``storage/stored.py``): whatever moves meanwhile is seen twice, never not at all, and of two states
of one bar the better one is shown.  That goes for the bars of that moment: of those that close during
the read one may be seen and the one before it not, so then the read ends where that moment did.

While the database cannot be read, or takes too long, memory alone answers what it wholly can.

Invariant (tested in tests/storage/test_history.py):
  I1  The result is ascending, without a double, and without a hole that the bars themselves do
      not have.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import trio

from klinetrio.domain.kline import OPEN_TIME, has_row
from klinetrio.errors import StoreError
from klinetrio.storage.pending import rank
from klinetrio.storage.reading import in_thread


if TYPE_CHECKING:
    from collections.abc import Sequence

    from klinetrio.engine.store import DoubleBufferedKlineStore
    from klinetrio.storage.pending import PendingBars
    from klinetrio.storage.remembered import RememberedBars
    from klinetrio.storage.stored import BarReader

# Threads that read at once; more requests wait for their turn.
MAX_READERS = 4

# How long the database is waited for with what memory can tell as well.
PATIENCE_S = 3.0


class History:
    """Reads bars of any age.

    Args:
        stored: Where most of them are, with the spool if there is one.
        pending: What waits in memory to be written.
        store: The engine's rows.
        remembered: What memory alone can tell, should nothing be readable; None if it cannot.
    """

    def __init__(
        self,
        stored: BarReader,
        pending: PendingBars,
        store: DoubleBufferedKlineStore,
        remembered: RememberedBars | None = None,
    ) -> None:
        self._stored = stored
        self._pending = pending
        self._store = store
        self._remembered = remembered
        self._limiter = trio.CapacityLimiter(MAX_READERS)

    async def klines(
        self, series: int, *, start: int | None, end: int | None, limit: int
    ) -> Sequence[Sequence[int]]:
        """Return bars of one series, ascending by open time.

        Args:
            series: Its row.
            start: Lowest open time, inclusive, UTC ms.
            end: Highest open time, inclusive, UTC ms.
            limit: How many: the first ones from ``start`` if it is given, else the last ones.

        Raises:
            StoreError: The database or the spool could not be read, and memory has not all of it.
        """
        recall = partial(self._recall, series, start=start, end=end, limit=limit)
        patience_s = math.inf if recall() is None else PATIENCE_S
        try:
            with trio.fail_after(patience_s):
                return await self._joined(series, start=start, end=end, limit=limit)
        except (StoreError, trio.TooSlowError):
            # Not what was there before: bars may have closed meanwhile.
            bars = recall()
            if bars is None:
                raise
            return bars

    def _recall(
        self, series: int, *, start: int | None, end: int | None, limit: int
    ) -> Sequence[Sequence[int]] | None:
        if self._remembered is None:
            return None
        return self._remembered.read(series, start=start, end=end, limit=limit)

    async def _joined(
        self, series: int, *, start: int | None, end: int | None, limit: int
    ) -> Sequence[Sequence[int]]:
        """Return what is stored and what is in memory, put together."""
        memory: list[Sequence[int]] = [*self._pending.of_series(series)]
        live = self._store.live_row(series)
        if has_row(live):
            memory.append(live)
        stored = await self._read(series, start=start, end=end, limit=limit)
        if has_row(live) and self._store.live_row(series)[OPEN_TIME] != live[OPEN_TIME]:
            end = live[OPEN_TIME] if end is None else min(end, live[OPEN_TIME])
            stored = await self._read(series, start=start, end=end, limit=limit)
        bars: dict[int, Sequence[int]] = {row[OPEN_TIME]: row for row in stored}
        for row in memory:
            open_time = row[OPEN_TIME]
            if (start is not None and open_time < start) or (end is not None and open_time > end):
                continue
            other = bars.get(open_time)
            if other is None or rank(row) >= rank(other):
                bars[open_time] = row
        ascending = [bars[open_time] for open_time in sorted(bars)]
        return ascending[-limit:] if start is None else ascending[:limit]

    async def _read(
        self, series: int, *, start: int | None, end: int | None, limit: int
    ) -> list[list[int]]:
        """Return what is stored."""
        return await in_thread(
            lambda: self._stored.read(series, start=start, end=end, limit=limit).tolist(),
            self._limiter,
        )
