"""All bars of one symbol: the only place where its rows change.

A book is plain synchronous state.  Its actor applies trades to it; the swapper closes its bars
when their time is up.  Both run to the end without a checkpoint, so no task ever sees a book in
the middle of a change.  ``sound`` is False from the start of a change to its end: a book on which
it stays False died in between, and is not to be trusted again.

Invariants (tested in tests/engine/test_book.py):
  I1  Any order and any repetition of the same trades gives the same bars, as long as the bars
      they belong to are still in memory.
  I2  A trade is in the bar of its own time ``T``, in every interval, also when that bar is closed.
  I3  A bar is COMPLETE only if its ids are contiguous from before its start to its newest trade,
      and, once closed, to the first trade after its end; or if the exchange's own kline says so.
  I4  A closed bar changes only together with its revision, and whoever follows the outbox sees
      every state that a swap could show.
  I5  Bars without trades carry the close before them, also when that close changes late.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import trio

from klinetrio.domain.interval import HOUR
from klinetrio.domain.kline import (
    CLOSE,
    FIELD_COUNT,
    FLAGS,
    LAST_AGG_ID,
    NO_ID,
    OPEN_TIME,
    TRADE_COUNT,
    Flag,
    has_row,
    make_flags,
    revision_of,
)
from klinetrio.engine.closed import ClosedBars
from klinetrio.engine.fold import empty_row, fold_trade, join
from klinetrio.engine.ledger import NEVER, IdLedger, Verdict
from klinetrio.engine.seeding import Past, Seed, Tails


if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from klinetrio.domain.interval import Interval
    from klinetrio.domain.symbol import Symbol
    from klinetrio.domain.trade import AggTrade
    from klinetrio.engine.outbox import Outbox
    from klinetrio.engine.store import DoubleBufferedKlineStore


@attrs.define(slots=True)
class BookCounts:
    """What has happened to the trades of one symbol since the start.

    Attributes:
        folded: Added to their bars.
        duplicates: Seen before, dropped.
        late: Belonged to a bar that was already closed, which was corrected.
        too_late: Belonged to a bar that is no longer in memory.
        covered: Older than the klines that already hold them.
        refused: Could not be believed, or came after the symbol was halted.
        gaps: Holes that opened in the ids.
    """

    folded: int = 0
    duplicates: int = 0
    late: int = 0
    too_late: int = 0
    covered: int = 0
    refused: int = 0
    gaps: int = 0


class SymbolBook:
    """All bars of one symbol.

    Args:
        symbol: The symbol.
        intervals: By period index, shortest first.
        store: Where the open bars are shown.
        outbox: Where closed bars go.
        first_row: The symbol's first row in the store.

    Attributes:
        sound: Whether no change broke off in the middle.
        halted: Why the symbol takes no more trades; empty if it does.
        feed_up: Whether the symbol's stream is connected.
        unsure: Whether more may have happened than is known: set while the feed is down, cleared
            by the next trade.
        seeded: Whether the past is known: restored, or taken over from the exchange.
        anchored: Set once an aggregate id is known from which proof can start.
        known_until: End of the newest bar that an earlier run left, of the interval below an hour
            that has the oldest such bar; 0 if there is none.
    """

    def __init__(
        self,
        symbol: Symbol,
        intervals: Sequence[Interval],
        *,
        store: DoubleBufferedKlineStore,
        outbox: Outbox,
        first_row: int,
    ) -> None:
        self.symbol = symbol
        self.ledger = IdLedger()
        self.counts = BookCounts()
        self.sound = True
        self.halted = ""
        self.feed_up = False
        self.unsure = True
        self.seeded = False
        self.anchored = trio.Event()
        self.known_until = 0
        self._intervals = intervals
        self._store = store
        self._first_row = first_row
        self._closed = ClosedBars(intervals, self.ledger, outbox, first_row)
        self._bars = [[0] * FIELD_COUNT for _ in intervals]
        self._ends = [0] * len(intervals)
        self._tails: Tails | None = None
        self._next_end = NEVER
        self._everything = frozenset(range(len(intervals)))
        self._dirty: frozenset[int] = frozenset()

    @property
    def seeding_until(self) -> int | None:
        """The boundary of the seeding under way, None if there is none."""
        return self._tails.until if self._tails else None

    def open_bar(self, period_index: int) -> list[int]:
        """Return a copy of an open bar as it is now; all zeros if there is none."""
        return list(self._bars[period_index])

    def closed_bar(self, period_index: int, open_time: int) -> list[int] | None:
        """Return a copy of a closed bar, None if it is not in memory."""
        return self._closed.recent.get(period_index, open_time)

    def apply(self, trade: AggTrade) -> None:
        """Fold one trade into all its bars, once."""
        if self.halted:
            self.counts.refused += 1
            return
        if not self.sound:
            raise RuntimeError(f"the book of {self.symbol.name} broke off in a change")
        self.sound = False
        self.unsure = False
        ledger = self.ledger
        holes = len(ledger.holes)
        if ledger.newest is None:
            self.anchored.set()
        verdict = ledger.see(trade.agg_id, trade.time)
        if verdict is Verdict.DUPLICATE:
            self.counts.duplicates += 1
        elif verdict is Verdict.IMPLAUSIBLE:
            self.counts.refused += 1
        else:
            if verdict is Verdict.NEW and len(ledger.holes) > holes:
                self.counts.gaps += 1
            self._fold_or_halt(trade)
        self.sound = True

    def anchor(self, agg_id: int, time_ms: int) -> None:
        """Start proving from the exchange's newest trade, because none has come by itself."""
        if self.ledger.newest is None:
            self.ledger.anchor(agg_id, time_ms)
        self.anchored.set()

    def set_feed(self, *, up: bool) -> None:
        """Take note that the symbol's feed came up or went down.

        What happened while it was down only the next trade tells, or the exchange if it is asked.
        """
        self.feed_up = up
        self.unsure = True
        self._dirty = self._everything

    def confirm(self, agg_id: int) -> None:
        """Take note that the exchange's newest aggregate has this id."""
        if agg_id == self.ledger.newest:
            self.unsure = False
            self._dirty = self._everything

    def halt(self, reason: str) -> None:
        """Take no more trades; what was shown last stays, without the claim to be complete."""
        self.halted = reason
        for index in self._everything:
            shown = self._store.live_row(self._first_row + index)
            if has_row(shown):
                shown[FLAGS] &= ~Flag.COMPLETE
                self._store.write(self._first_row + index, [shown])

    def close_due(self, before_ms: int) -> bool:
        """Close every bar that ended at or before ``before_ms``; tell whether any did."""
        if self._next_end > before_ms or self.halted:
            return False
        self.sound = False
        for index in self._everything:
            if has_row(self._bars[index]):
                self._roll(index, before_ms)
        self._find_next_end()
        self.sound = True
        return True

    def flush(self) -> None:
        """Show the changed open bars on the write side of the store."""
        self._closed.prove()
        if not self._dirty or self.halted:
            return
        state = 0 if self.feed_up and not self.unsure else Flag.FEED_DOWN
        for index in self._dirty:
            row = self._bars[index]
            complete = Flag.COMPLETE if self.ledger.proves_since(row[OPEN_TIME]) else 0
            row[FLAGS] = row[FLAGS] & Flag.BACKFILLED | complete | state
        try:
            self._write_dirty()
        except OverflowError:
            self._halt()
        self._dirty = frozenset()

    def restore(self, live: Sequence[Sequence[int]]) -> bool:
        """Continue from the open bars of an earlier run; tell whether they can be trusted.

        They can if every interval has one, each is proved, and all agree on the newest id.

        Args:
            live: One row per interval, by period index.
        """
        newest = max(row[LAST_AGG_ID] for row in live)
        proved = all(row[FLAGS] & Flag.COMPLETE and row[LAST_AGG_ID] == newest for row in live)
        if newest == NO_ID or not proved or not all(map(has_row, live)):
            return False
        self._bars = [list(row) for row in live]
        pairs = zip(self._intervals, self._bars, strict=True)
        self._ends = [interval.next_open(row[OPEN_TIME]) for interval, row in pairs]
        self._find_next_end()
        # When exactly the newest trade came is not stored; not before its shortest bar's start.
        traded = [row[OPEN_TIME] for row in live if row[TRADE_COUNT]]
        self.ledger.anchor(newest, max(traded, default=0))
        self.ledger.proved_from = min(row[OPEN_TIME] for row in live)
        self.seeded = True
        self.anchored.set()
        self._dirty = self._everything
        return True

    def remember(self, period_index: int, closed: npt.NDArray[np.int64]) -> None:
        """Keep closed bars of an earlier run at hand, so that corrections know their revision."""
        interval = self._intervals[period_index]
        if interval.length < HOUR and len(closed):
            end = interval.next_open(int(closed[-1, OPEN_TIME]))
            self.known_until = min(self.known_until or end, end)
        for row in closed[-self._closed.recent.slots(period_index) :].tolist():
            self._closed.remember(period_index, row)

    def begin_seed(self, until: int) -> None:
        """Make ready to take over the past up to ``until``, a minute boundary still to come."""
        self._tails = Tails(until, self._intervals)

    def seed(self, seed: Seed) -> bool:
        """Take over the past; tell whether the seed was the one that was being waited for."""
        tails = self._tails
        if tails is None or tails.until != seed.until:
            return False
        self.sound = False
        self._tails = None
        self.ledger.cover(seed.until, min(row[OPEN_TIME] for row in tails.rows))
        try:
            for index, past in enumerate(seed.pasts):
                for row in past.closed[-self._closed.recent.slots(index) :].tolist():
                    self._closed.take_over(index, row)
                if tails.spans(index):
                    self._join_past(index, past.part, tails.rows[index])
                else:
                    self._continue_after(index, past, seed.until)
        except OverflowError:
            self._halt()
        self._find_next_end()
        self.seeded = True
        self._dirty = self._everything
        self.sound = True
        return True

    def _fold_or_halt(self, trade: AggTrade) -> None:
        if trade.time < self.ledger.covered_until:
            self.counts.covered += 1
            return
        self.counts.folded += 1
        rolls = trade.time >= self._next_end or not has_row(self._bars[0])
        try:
            for index, row in enumerate(self._bars):
                if trade.time >= self._ends[index]:
                    self._roll(index, trade.time)
                    fold_trade(self._bars[index], trade)
                elif trade.time >= row[OPEN_TIME]:
                    fold_trade(row, trade)
                else:
                    self._fold_late(index, trade)
        except OverflowError:
            self._halt()
        if rolls:
            self._find_next_end()
        if self._tails is not None:
            self._tails.fold(trade)
        self._dirty = self._everything

    def _fold_late(self, index: int, trade: AggTrade) -> None:
        open_time = self._intervals[index].open_of(trade.time)
        bar = self._bars[index]
        row = self._closed.find(index, open_time, bar[OPEN_TIME])
        if row is None:
            self.counts.too_late += 1
            return
        self.counts.late += 1
        before = row[CLOSE], row[LAST_AGG_ID]
        fold_trade(row, trade)
        self._closed.correct(index, row)
        if before != (row[CLOSE], row[LAST_AGG_ID]):
            self._closed.carry(index, row, bar)

    def _roll(self, index: int, time_ms: int) -> None:
        """Close bars of one interval until the open one contains ``time_ms``."""
        interval = self._intervals[index]
        row = self._bars[index]
        self._dirty |= {index}
        if not has_row(row):
            open_time = interval.open_of(time_ms)
            self._bars[index] = empty_row(open_time, 0, NO_ID)
            self._ends[index] = interval.next_open(open_time)
        while self._ends[index] <= time_ms:
            self._closed.close(index, row)
            row = empty_row(self._ends[index], row[CLOSE], row[LAST_AGG_ID])
            self._bars[index] = row
            self._ends[index] = interval.next_open(row[OPEN_TIME])

    def _join_past(self, index: int, part: Sequence[int] | None, tail: list[int]) -> None:
        """Join the past of the bar that spans the boundary with what has been folded since."""
        whole = tail if part is None else join(part, tail)
        if part is None and not tail[TRADE_COUNT]:
            return
        if self._bars[index][OPEN_TIME] <= whole[OPEN_TIME]:
            whole[LAST_AGG_ID] = self._newest_id()
            self._bars[index] = whole
            self._ends[index] = self._intervals[index].next_open(whole[OPEN_TIME])
            return
        ours = self._closed.recent.get(index, whole[OPEN_TIME])
        if ours is not None:
            whole[LAST_AGG_ID] = max(whole[LAST_AGG_ID], ours[LAST_AGG_ID])
            whole[FLAGS] = make_flags(whole[FLAGS], revision_of(ours))
            self._closed.correct(index, whole)
            self._closed.carry(index, whole, self._bars[index])

    def _continue_after(self, index: int, past: Past, until: int) -> None:
        """Open the bar after the newest closed one, which ended exactly at the boundary."""
        if len(past.closed) == 0:
            return
        newest: list[int] = past.closed[-1].tolist()
        if not has_row(self._bars[index]):
            self._bars[index] = empty_row(until, newest[CLOSE], self._newest_id())
            self._ends[index] = self._intervals[index].next_open(until)
            return
        # The bars after the boundary know their ids; only the price may be news to them.
        follower = self._closed.recent.get(index, until) or self._bars[index]
        newest[LAST_AGG_ID] = follower[LAST_AGG_ID]
        self._closed.carry(index, newest, self._bars[index])

    def _find_next_end(self) -> None:
        """Remember when the first of the open bars ends, which the swapper asks at every tick."""
        self._next_end = min((end for end in self._ends if end), default=NEVER)

    def _newest_id(self) -> int:
        newest = self.ledger.newest
        return NO_ID if newest is None else newest

    def _write_dirty(self) -> None:
        if len(self._dirty) == len(self._bars) and all(map(has_row, self._bars)):
            self._store.write(self._first_row, self._bars)
            return
        for index in self._dirty:
            if has_row(self._bars[index]):
                self._store.write(self._first_row + index, [self._bars[index]])

    def _halt(self) -> None:
        self.halt(f"a sum of {self.symbol.name} does not fit 64 bits at its scales")
