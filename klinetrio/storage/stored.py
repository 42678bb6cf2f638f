"""What is stored: in the database, or still in the spool.

A bar moves from the spool to the database and is in the new place before it leaves the old one.  So
the spool is read first: a bar that moves meanwhile is seen twice, never not at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from klinetrio.domain.kline import FLAGS, LAST_AGG_ID, OPEN_TIME, TRADE_COUNT, Flag
from klinetrio.storage.pending import rank


if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from klinetrio.storage.protocol import Int64Array
    from klinetrio.storage.spool import Spool


class BarReader(Protocol):
    """Where bars are read; the methods are those of ``KlineStore``."""

    def read(self, series: int, *, start: int | None, end: int | None, limit: int) -> Int64Array:
        """Return bars of one series, ascending, shape ``(n, 13)``."""
        ...

    def read_live(self) -> Mapping[int, Sequence[int]]:
        """Return the open bars as last written, by row."""
        ...


class StoredBars:
    """The database and the spool, read as one.

    Args:
        database: Where bars are kept for ever.
        spool: Where they wait for it.
    """

    def __init__(self, database: BarReader, spool: Spool) -> None:
        self._database = database
        self._spool = spool

    def read(self, series: int, *, start: int | None, end: int | None, limit: int) -> Int64Array:
        """Return bars of one series, ascending; of two states the better one."""
        if not self._spool.bars:
            return self._database.read(series, start=start, end=end, limit=limit)
        waiting = self._spool.read(series, start=start, end=end, limit=limit)
        stored = self._database.read(series, start=start, end=end, limit=limit)
        if not len(waiting):
            return stored
        bars = {row[OPEN_TIME]: row for row in stored.tolist()}
        for row in waiting.tolist():
            other = bars.get(row[OPEN_TIME])
            if other is None or rank(row) >= rank(other):
                bars[row[OPEN_TIME]] = row
        ascending = [bars[open_time] for open_time in sorted(bars)]
        chosen = ascending[-limit:] if start is None else ascending[:limit]
        return np.array(chosen, np.int64)

    def read_live(self) -> Mapping[int, Sequence[int]]:
        """Return the open bars as last written to either place, by row.

        The spool's are the younger ones, unless the daemon died between writing to the database and
        clearing the spool.
        """
        waiting = self._spool.read_live()
        stored = self._database.read_live()
        younger = {
            row: bar
            for row, bar in waiting.items()
            if row not in stored or _age(bar) >= _age(stored[row])
        }
        return {**stored, **younger}


def _age(bar: Sequence[int]) -> tuple[int, int, int, int]:
    """Return by what the younger of two states of one open bar is told: the higher one.

    Where wrong ids make it choose wrongly, the rows of a symbol do not agree on the newest id, and
    a start does not go on from any of them (``engine.seeding.newest_id_of``).
    """
    return bar[OPEN_TIME], bar[LAST_AGG_ID], bar[TRADE_COUNT], bar[FLAGS] & Flag.COMPLETE
