"""The shelf: closed bars that come with a past wait here for a database that is away.

Live bars do not wait for the database, and the history download leaves the youngest bars to the
books.  So a past that could not be stored would be nobody's, and a hole for hours.

Invariants (tested in tests/recovery/test_shelf.py):
  I1  What was handed over is stored in the order of its series, or waits, up to ``MAX_BARS``.
  I2  Nobody waits longer than ``PATIENCE_S`` for it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import trio

from klinetrio.errors import StoreError
from klinetrio.logs import QuietLog, log_event
from klinetrio.supervise import describe


if TYPE_CHECKING:
    import numpy.typing as npt

    from klinetrio.recovery.seeder import HistorySink

    Int64Array = npt.NDArray[np.int64]

log = logging.getLogger("klinetrio.history")
_quiet = QuietLog(log)

# How long a past waits for the database before it is used without having been stored.
PATIENCE_S = 5.0

# How often a database that is away is tried, and how long it may take.
RETRY_S = 5.0
_WRITE_S = 60.0

# 104 MB.  The past of a symbol has 100 bars of each interval, and those of the time in which nothing
# ran: 500 symbols in eight intervals have 400,000.
MAX_BARS = 1_000_000


class PastShelf:
    """Stores closed bars, at once or as soon as the database takes them.

    Args:
        history: The database.

    Attributes:
        bars: How many wait.
    """

    def __init__(self, history: HistorySink) -> None:
        self.bars = 0
        self._history = history
        self._waiting: dict[int, Int64Array] = {}
        self._bell = trio.Event()

    async def write_history(self, series: int, bars: Int64Array) -> int:
        """Store bars of one series, or have them wait; return how many were written at once."""
        if self._waiting:
            self._put(series, bars)
            return 0
        try:
            with trio.fail_after(PATIENCE_S):
                return await self._history.write_history(series, bars)
        except (StoreError, trio.TooSlowError) as error:
            self._put(series, bars)
            facts = {"cause": describe(error), "consequence": "they wait in memory"}
            _quiet.event(logging.WARNING, "past_not_stored", "past_not_stored", **facts)
        return 0

    async def run(self) -> None:
        """Store what waits, for ever."""
        stored = 0
        while True:
            if not self._waiting:
                if stored:
                    log_event(log, logging.INFO, "past_stored", bars=stored)
                stored, self._bell = 0, trio.Event()
                await self._bell.wait()
            count = await self._store_first()
            stored += count
            if not count:
                await trio.sleep(RETRY_S)

    async def _store_first(self) -> int:
        """Store the bars of the series whose turn it is; return how many, 0 if it failed."""
        series, bars = next(iter(self._waiting.items()))
        try:
            with trio.fail_after(_WRITE_S):
                await self._history.write_history(series, bars)
        except (StoreError, trio.TooSlowError):
            # The others' turn: it may be the trouble of one series alone, as a month that is gone.
            self._waiting[series] = self._waiting.pop(series)
            return 0
        # More may have come meanwhile.
        left = self._waiting.pop(series)[len(bars) :]
        if len(left):
            self._waiting[series] = left
        self.bars -= len(bars)
        return len(bars)

    def _put(self, series: int, bars: Int64Array) -> None:
        if self.bars + len(bars) > MAX_BARS:
            facts = {"bars": len(bars), "consequence": "the history download fetches them later"}
            _quiet.event(logging.WARNING, "past_given_up", "past_given_up", **facts)
            return
        before = self._waiting.get(series)
        self._waiting[series] = bars if before is None else np.concatenate([before, bars])
        self.bars += len(bars)
        self._bell.set()
