"""The persister: every 5 s one transaction with all closed bars and the changed open ones.

Closed bars are never dropped: they stay pending until a transaction that held them has committed,
through any number of failures.  Open bars are only a snapshot; a lost one is overwritten by the
next.
"""

from __future__ import annotations

import logging
from time import perf_counter
from typing import TYPE_CHECKING

import attrs
import numpy as np
import trio

from klinetrio.domain.kline import OPEN_TIME
from klinetrio.errors import GaveUp
from klinetrio.logs import log_event
from klinetrio.storage.pending import MAX_PENDING, PendingBars
from klinetrio.storage.protocol import Batch


if TYPE_CHECKING:
    from klinetrio.engine.publication import Publication
    from klinetrio.engine.store import DoubleBufferedKlineStore
    from klinetrio.storage.protocol import KlineStore

log = logging.getLogger("klinetrio.storage")


@attrs.define(slots=True)
class PersistCounts:
    """What the persister has done since the start.

    Attributes:
        batches: Transactions committed.
        rows: Bars written, closed and open.
        failures: Transactions that failed.
        failures_in_a_row: Those since the last success.
        last_rows: Bars in the last transaction.
        last_s: How long the last transaction took, in seconds.
        size: The database's size after it, in bytes.
    """

    batches: int = 0
    rows: int = 0
    failures: int = 0
    failures_in_a_row: int = 0
    last_rows: int = 0
    last_s: float = 0.0
    size: int = 0


class Persister:
    """Writes what the swapper publishes.

    Args:
        database: Where to.
        store: The engine's rows, of which the read side is copied.
        flush_interval_s: Between transactions.
    """

    def __init__(
        self, database: KlineStore, store: DoubleBufferedKlineStore, flush_interval_s: float
    ) -> None:
        self.pending = PendingBars()
        self.counts = PersistCounts()
        self._database = database
        self._store = store
        self._interval_s = flush_interval_s
        self._dirty = np.zeros(store.capacity, np.bool_)

    def take(self, publication: Publication) -> None:
        """Take note of a swap; cheap and synchronous."""
        self._dirty[publication.changed] = True
        self.pending.add(publication.closed)
        self.pending.add(publication.proved)

    async def run(self) -> None:
        """Flush at every interval for ever.

        Raises:
            StoreError: A transaction failed; everything is still pending.
            GaveUp: More bars are pending than memory is set aside for.

        Cancellation: a transaction under way is finished first.
        """
        deadline = trio.current_time()
        while True:
            deadline = max(deadline + self._interval_s, trio.current_time())
            await trio.sleep_until(deadline)
            if len(self.pending) > MAX_PENDING:
                text = f"expected at most {MAX_PENDING} closed bars to wait for the database"
                raise GaveUp(f"{text}, were {len(self.pending)}")
            await self.flush()

    async def flush(self) -> None:
        """Write everything that waits.

        Raises:
            StoreError: A transaction failed; what it held is still pending.
        """
        while not self.pending.fit_one_batch:
            # Open bars only with the last of the closed ones: a restart from open bars whose
            # closed neighbours are missing would never look for these.
            await self._write_batch(with_live=False)
        await self._write_batch(with_live=True)

    async def _write_batch(self, *, with_live: bool) -> None:
        closed = self.pending.batch()
        rows = np.flatnonzero(self._dirty & with_live)
        self._dirty[rows] = False
        bars = self._store.live_rows(rows)
        shown = bars[:, OPEN_TIME] > 0
        live = Batch(rows[shown], bars[shown])
        started = perf_counter()
        try:
            size = await trio.to_thread.run_sync(self._write, closed, live)
        except BaseException:
            self._dirty[rows] = True
            self.counts.failures += 1
            self.counts.failures_in_a_row += 1
            raise
        self.pending.forget(closed)
        self._note(len(closed) + len(live), perf_counter() - started, size)

    def _write(self, closed: Batch, live: Batch) -> int:
        if len(closed) or len(live):
            self._database.write(closed, live)
        return self._database.size()

    def _note(self, rows: int, seconds: float, size: int) -> None:
        counts = self.counts
        counts.batches += 1
        counts.rows += rows
        counts.failures_in_a_row = 0
        counts.last_rows, counts.last_s, counts.size = rows, seconds, size
        log_event(log, logging.DEBUG, "flushed", rows=rows, seconds=seconds)
