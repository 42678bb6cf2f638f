"""Closed bars that never were live, on their way into the database: from threads, one series each.

They do not wait for the persister's turn: whoever brings them can bring them again.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple

import numpy as np
import trio

from klinetrio.storage.protocol import Batch
from klinetrio.storage.reading import in_thread


if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Unpack

    from klinetrio.storage.protocol import Int64Array, KlineStore


T = TypeVar("T")
A = TypeVarTuple("A")

# The caller bounds the span.
_ALL = 2**31


class PastBars:
    """Reads and writes what lies before the live bars.

    Args:
        database: Where.

    Every method raises StoreError if the database failed; nothing has changed then.

    Cancellation: what is read is stopped, what is written goes on by itself; a database that hangs
    holds nobody.
    """

    def __init__(self, database: KlineStore) -> None:
        self._database = database

    async def read_checked(self) -> Mapping[int, tuple[int, int]]:
        """Return, by row, the span in which nothing is missing that the exchange has."""
        return await in_thread(self._database.read_checked)

    async def first_time(self, series: int) -> int | None:
        """Return the open time of a series' oldest stored bar, None if there is none."""
        return await in_thread(partial(self._database.first_time, series))

    async def proved_times(self, series: int, start: int, end: int) -> Int64Array:
        """Return the open times in ``[start, end)`` of a series' proved bars, ascending."""
        return await in_thread(partial(self._database.proved_times, series, start, end))

    async def write_history(
        self, series: int, bars: Int64Array, checked: tuple[int, int] | None = None
    ) -> int:
        """Write closed bars of one series where nothing is stored or proved.

        Args:
            series: Its row.
            bars: Shape ``(n, 13)``.
            checked: The span in which nothing is missing with them; None leaves it as it is.

        Returns:
            How many bars were written.
        """
        batch = Batch(np.full(len(bars), series, np.int64), bars)
        spans = {} if checked is None else {series: checked}
        return await _write(self._database.write_history, batch, spans)

    async def read(self, series: int, start: int, end: int) -> Int64Array:
        """Return the bars of one series that open in ``[start, end)``, ascending."""
        return await in_thread(
            lambda: self._database.read(series, start=start, end=end - 1, limit=_ALL)
        )

    async def settle(self, series: int, bars: Int64Array) -> int:
        """Put the exchange's bars in the place of stored ones; return how many were written."""
        batch = Batch(np.full(len(bars), series, np.int64), bars)
        return await _write(self._database.settle, batch)


async def _write(work: Callable[[Unpack[A]], T], *arguments: *A) -> T:
    return await trio.to_thread.run_sync(work, *arguments, abandon_on_cancel=True)
