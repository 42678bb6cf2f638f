"""The persister: every 5 s one transaction with all closed bars and the changed open ones.

Closed bars are never dropped: they wait until a transaction that held them has committed, through
any number of failures.  Open bars are only a snapshot; a lost one is overwritten by the next.

While the database fails, or takes longer than ``SPOOL_AFTER_S``, what waits moves from memory to the
spool (``storage/spool.py``), at most every flush interval; so ``kill -9`` during an outage costs at
most that interval and ``SPOOL_AFTER_S``, which a restart fetches again.  Only if the spool cannot be
written either does memory fill up to its bound, and then bars are given up, counted and logged: the
exchange still has them, and the next round of the history download finds them missing.

Invariants (tested in tests/storage/test_persister.py and test_outage.py):
  I1  A closed bar is in memory, in the spool or in the database, or it was counted in ``given_up``.
  I2  Open bars are written only together with the last of the closed ones: a restart from open bars
      whose closed neighbours are missing would never look for these.
  I3  At most one write to the database and one to the spool are under way, however long they take,
      and nobody who is cancelled waits for them.
"""

from __future__ import annotations

import logging
import math
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import trio

from klinetrio.domain.kline import OPEN_TIME
from klinetrio.errors import StoreError
from klinetrio.logs import QuietLog, log_event
from klinetrio.storage.courier import Courier
from klinetrio.storage.delivery import NOTHING, Delivered, Load, deliver
from klinetrio.storage.pending import MAX_BATCH, MAX_PENDING, PendingBars
from klinetrio.storage.persist_counts import PersistCounts
from klinetrio.storage.protocol import Batch


if TYPE_CHECKING:
    from klinetrio.engine.publication import Publication
    from klinetrio.engine.store import DoubleBufferedKlineStore
    from klinetrio.storage.protocol import Int64Array, KlineStore
    from klinetrio.storage.spool import Spool

log = logging.getLogger("klinetrio.storage")
_quiet = QuietLog(log)

# A flush takes well under a second; what takes longer is not waited for with bars in memory alone.
SPOOL_AFTER_S = 1.0

# A write to the spool takes some 20 ms; after that long its disk hangs.
_SPOOL_PATIENCE_S = 5.0

# Of what has to be given up so much at once: choosing costs 20 ms at the bound.
_GIVE_UP = MAX_PENDING // 50


class Persister:
    """Writes what the swapper publishes.

    Args:
        database: Where to.
        store: The engine's rows, of which the read side is copied.
        flush_interval_s: Between transactions.
        spool: Where closed bars wait while the database does not take them.
    """

    def __init__(
        self,
        database: KlineStore,
        store: DoubleBufferedKlineStore,
        flush_interval_s: float,
        spool: Spool,
    ) -> None:
        self.pending = PendingBars()
        self.counts = PersistCounts()
        self.spool = spool
        self._database = database
        self._store = store
        self.flush_interval_s = flush_interval_s
        # Open bars that the database does not have as they are: not yet taken, and on their way.
        self._dirty = np.zeros(store.capacity, np.bool_)
        self._in_flight = np.zeros(store.capacity, np.bool_)
        self._writing = Courier()
        self._spooling = Courier()
        self._waiting_since: float | None = trio.current_time() if spool.bars else None

    @property
    def backlog(self) -> int:
        """Closed bars that are not known to be in the database."""
        return len(self.pending) + self.spool.bars

    @property
    def waiting_s(self) -> float:
        """For how long, at most, the oldest of them has waited in this run, in seconds."""
        since = self._waiting_since
        return 0.0 if since is None or not self.backlog else trio.current_time() - since

    @property
    def writing_s(self) -> float:
        """For how long the transaction under way has been, in seconds; 0 if there is none."""
        return self._writing.busy_s

    @property
    def in_trouble(self) -> bool:
        """Whether closed bars should not wait in memory alone."""
        overdue = self._writing.busy_s > SPOOL_AFTER_S or len(self.pending) > MAX_BATCH
        return overdue or self.counts.failures_in_a_row > 0

    def take(self, publication: Publication) -> None:
        """Take note of a swap; cheap and synchronous."""
        self._dirty[publication.changed] = True
        self.pending.add(publication.closed)
        self.pending.add(publication.proved)
        if self._waiting_since is None and len(self.pending):
            self._waiting_since = trio.current_time()

    async def run(self) -> None:
        """Flush at every interval for ever.

        Raises:
            StoreError: A transaction failed; everything still waits.

        Cancellation: a transaction under way goes on by itself.
        """
        deadline = trio.current_time()
        while True:
            deadline = max(deadline + self.flush_interval_s, trio.current_time())
            await trio.sleep_until(deadline)
            await self.flush()

    async def run_spool(self) -> None:
        """Move what waits to the spool, for ever, whenever the database is in trouble.

        Cancellation: a write under way goes on by itself.
        """
        due = -math.inf
        while True:
            await trio.sleep(min(SPOOL_AFTER_S / 2, self.flush_interval_s))
            now = trio.current_time()
            if self.in_trouble and now >= due:
                due = now + self.flush_interval_s
                # One that hangs shall not keep memory from being bounded.
                with trio.move_on_after(_SPOOL_PATIENCE_S):
                    await self._try_spool()
            self._keep_bound()

    async def flush(self) -> None:
        """Write everything that waits.

        Raises:
            StoreError: A transaction failed, and what it held still waits; or all but the spool's
                bars are written, because the spool failed.

        Blocking: for as long as the database takes.
        Cancellation: a transaction under way goes on by itself, and is taken note of.
        """
        while True:
            delivered = await self._write_batch()
            if delivered.spool_error is not None:
                raise delivered.spool_error
            if delivered.whole:
                return

    async def finish(self, grace_s: float) -> bool:
        """Write everything that waits, to the spool what the database does not take in time.

        Args:
            grace_s: For the database.

        Returns:
            Whether the database has it all; else the spool has the rest.

        Raises:
            StoreError: Neither took all of it.
        """
        if self.in_trouble:
            # Whoever stops us may lose patience while the database is asked once more.
            with trio.move_on_after(_SPOOL_PATIENCE_S):
                await self._try_spool()
        with trio.move_on_after(grace_s):
            try:
                await self.flush()
            except StoreError:
                pass
            else:
                return True
        await self.spool_all()
        return False

    async def spool_all(self) -> None:
        """Move all closed bars from memory to the spool, and copy the open ones to it.

        Raises:
            StoreError: The spool does not take them; they are still in memory.

        Cancellation: a write under way goes on by itself, and is taken note of.
        """
        while True:
            await self._spooling.until_free()
            closed = self.pending.batch(MAX_BATCH)
            last = len(closed) == len(self.pending)
            rows = np.flatnonzero((self._dirty | self._in_flight) & last)
            live = self._shown(rows)
            if len(closed) or len(live):
                put = partial(self.spool.put, closed, live)
                done = partial(self._note_spooled, closed)
                await self._spooling.do(put, done=done, failed=self.counts.note_spool_failure)
            if last:
                return

    async def _try_spool(self) -> None:
        try:
            await self.spool_all()
        except StoreError as error:
            _quiet.event(logging.ERROR, "not_spooled", "not_spooled", cause=error)

    async def _write_batch(self) -> Delivered:
        """Write one transaction: first what is in the spool, then memory, then the open bars."""
        await self._writing.until_free()
        spooled = min(self.spool.bars, MAX_BATCH)
        # While the spool cannot be emptied, memory must not wait for it.
        closed = self.pending.batch(MAX_BATCH - spooled * (not self.counts.spool_error))
        whole = self.backlog <= MAX_BATCH
        rows = np.flatnonzero(self._dirty & whole)
        live = self._shown(rows) if whole else NOTHING
        load = Load(
            closed, live, MAX_BATCH if spooled else 0, whole, self.spool.live_mark if whole else 0
        )
        self._dirty[rows] = False
        self._in_flight[rows] = True
        return await self._writing.do(
            partial(self._write, load),
            done=partial(self._note_written, load, rows, trio.current_time()),
            failed=partial(self._note_failed, rows),
        )

    def _write(self, load: Load) -> Delivered:
        return deliver(self._database, self.spool, load)

    def _shown(self, rows: Int64Array) -> Batch:
        """Return those of some rows that hold an open bar."""
        bars = self._store.live_rows(rows)
        shown = bars[:, OPEN_TIME] > 0
        return Batch(rows[shown], bars[shown])

    def _note_failed(self, rows: Int64Array, error: BaseException) -> None:
        """Take note of a transaction that failed."""
        self._in_flight[rows] = False
        self._dirty[rows] = True
        self.counts.note_failure(error)

    def _note_written(
        self, load: Load, rows: Int64Array, started: float, delivered: Delivered
    ) -> None:
        """Take note of a transaction that was committed."""
        self._in_flight[rows] = False
        self.pending.forget(load.closed)
        self.counts.note(delivered)
        if delivered.whole:
            # What waits now has come since.
            self._waiting_since = started if self.backlog else None
        else:
            self._dirty[rows] = True
        facts = {"rows": delivered.rows, "seconds": delivered.seconds}
        log_event(log, logging.DEBUG, "flushed", **facts)

    def _note_spooled(self, closed: Batch, _nothing: None) -> None:
        """Take note of bars that are in the spool now."""
        self.pending.forget(closed)
        self.counts.note_spooled(len(closed))
        cause = self.counts.last_error or f"a write takes {self.writing_s:.1f} s"
        facts = {"closed_bars": len(closed), "in_spool": self.spool.bars, "cause": cause}
        # The open bars go there as well, in every interval of an outage.
        if len(closed):
            _quiet.event(logging.WARNING, "spooled", "closed_bars", **facts)

    def _keep_bound(self) -> None:
        """Give up bars that neither the database nor the spool takes, before memory ends."""
        excess = len(self.pending) - MAX_PENDING
        if excess <= 0:
            return
        lost = self.pending.give_up(excess + _GIVE_UP)
        self.counts.given_up += len(lost)
        facts = {
            "closed_bars": len(lost),
            "in_all": self.counts.given_up,
            "oldest": min(open_time for _, open_time in lost),
            "newest": max(open_time for _, open_time in lost),
        }
        log_event(log, logging.ERROR, "gave_up_bars", **facts)
