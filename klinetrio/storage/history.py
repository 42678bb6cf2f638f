"""One series from all places where its bars may be: database, pending, open.

A bar moves from open to pending to the database, never back.  So the memory is copied first, at
one moment, and the database is read after it: whatever moves meanwhile is seen twice, never not
at all, and of two states of one bar the better one is shown.

Invariant (tested in tests/storage/test_history.py):
  I1  The result is ascending, without a double, and without a hole that the bars themselves do
      not have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from klinetrio.domain.kline import OPEN_TIME, has_row
from klinetrio.storage.pending import rank


if TYPE_CHECKING:
    from collections.abc import Sequence

    from klinetrio.engine.store import DoubleBufferedKlineStore
    from klinetrio.storage.pending import PendingBars
    from klinetrio.storage.protocol import KlineStore

# Threads that read at once; more requests wait for their turn.
MAX_READERS = 4


class History:
    """Reads bars of any age.

    Args:
        database: Where most of them are.
        pending: What waits to be written.
        store: The engine's rows.
    """

    def __init__(
        self, database: KlineStore, pending: PendingBars, store: DoubleBufferedKlineStore
    ) -> None:
        self._database = database
        self._pending = pending
        self._store = store
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
            StoreError: The database could not be read.
        """
        memory: list[Sequence[int]] = [*self._pending.of_series(series)]
        live = self._store.live_row(series)
        if has_row(live):
            memory.append(live)
        stored = await trio.to_thread.run_sync(
            lambda: self._database.read(series, start=start, end=end, limit=limit).tolist(),
            limiter=self._limiter,
            # Whoever asks may stop waiting; the thread ends by itself and returns what it holds.
            abandon_on_cancel=True,
        )
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
