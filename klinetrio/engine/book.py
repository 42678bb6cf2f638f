"""All bars of one symbol: the only place where its rows change.

A book is plain synchronous state.  Its actor applies trades to it, the swapper closes bars that are
over, both without a checkpoint, so that no task sees a change half done.  ``sound`` is False during
one: where it stays so, the change broke off.

Invariants (tested in tests/engine/test_book.py):
  I1  Any order and repetition of the same trades gives the same bars, while these are in memory.
  I2  A trade is in the bar of its own time ``T``, in every interval, also when that bar is closed.
  I3  A bar is COMPLETE only if its ids are contiguous from before its start to its newest trade,
      and, once closed, to the first trade after its end; or if the exchange's own kline says so.
  I4  A closed bar changes only together with its revision, and whoever follows the outbox sees
      every state that a swap could show.
  I5  Bars without trades carry the close and the id before them, also when these change late.
  I6  A trade that cannot be believed changes no bar, but no open bar is shown as complete until
      one comes that can, or the exchange has been asked.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from klinetrio.domain.interval import HOUR
from klinetrio.domain.kline import (
    CLOSE,
    FIELD_COUNT,
    FIRST_AGG_ID,
    FLAGS,
    LAST_AGG_ID,
    NO_ID,
    OPEN_TIME,
    TRADE_COUNT,
    Flag,
    has_row,
)
from klinetrio.engine.closed import ClosedBars
from klinetrio.engine.counts import BookCounts
from klinetrio.engine.fold import empty_row, fold_trade, join
from klinetrio.engine.ledger import NEVER, IdLedger, Verdict, mark_of
from klinetrio.engine.seeding import Past, Seed, Tails, newest_id_of
from klinetrio.engine.shown import ShownRows
from klinetrio.logs import log_event


if TYPE_CHECKING:
    from collections.abc import Sequence

    from klinetrio.domain.interval import Interval
    from klinetrio.domain.symbol import Symbol
    from klinetrio.domain.trade import AggTrade
    from klinetrio.engine.fold import Int64Array
    from klinetrio.engine.outbox import Outbox
    from klinetrio.engine.store import DoubleBufferedKlineStore

log = logging.getLogger("klinetrio.engine")


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
        feed_up: Whether the symbol's stream is connected; ``heard`` is set once it has been.
        unsure: Whether more may have happened than is known: set while the feed is down, by a trade
            that cannot be believed and by a long silence, cleared by the next new trade.
        seeded: Whether the past is known: restored, or taken over from the exchange.
        anchored: Set once an aggregate id is known from which proof can start.
        known_until: While the past is not known, a time up to which all intervals below an hour
            have it in the database, proved as far as books prove it; 0 if there is none.
        closed: Its closed bars.
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
        self.heard = trio.Event()
        self.unsure = True
        self.seeded = False
        self.anchored = trio.Event()
        self.known_until = 0
        self._intervals = intervals
        self._shown = ShownRows(store, first_row, len(intervals))
        self.closed = ClosedBars(intervals, self.ledger, outbox, first_row)
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

    @property
    def needs_repair(self) -> bool:
        """Whether something is not known that the exchange could tell."""
        ids = self.ledger
        lost = self.unsure and self.feed_up and ids.newest is not None
        return not self.halted and bool(lost or not self.seeded or ids.holes or ids.overflowed)

    @property
    def trusted_until(self) -> int:
        """Time from which on the past is in doubt should the ids turn out wrong; 0 if unknown."""
        known = [] if self.seeded or not self.known_until else [self.known_until]
        whole = [] if self.ledger.newest is None else [self.ledger.whole_until]
        return min(known + whole, default=0)

    def open_bar(self, period_index: int) -> list[int]:
        """Return a copy of an open bar as it is now; all zeros if there is none."""
        return list(self._bars[period_index])

    def closed_bar(self, period_index: int, open_time: int) -> list[int] | None:
        """Return a copy of a closed bar, None if it is not in memory."""
        return self.closed.recent.get(period_index, open_time)

    def apply(self, trade: AggTrade) -> Verdict | None:
        """Fold one trade into all its bars, once; return what the ids say of it, None if halted."""
        if self.halted:
            self.counts.refused += 1
            return None
        if not self.sound:
            raise RuntimeError(f"the book of {self.symbol.name} broke off in a change")
        self.sound = False
        ledger = self.ledger
        holes = len(ledger.holes)
        if ledger.newest is None:
            self.anchored.set()
        verdict = ledger.see(trade.agg_id, trade.time, mark_of(trade))
        if verdict is Verdict.DUPLICATE:
            self.counts.duplicates += 1
        elif verdict is Verdict.IMPLAUSIBLE or verdict is Verdict.CONTRADICTS:
            self.counts.refused += 1
            self.doubt()
        else:
            if verdict is Verdict.RESTARTS:
                self._restart_ids(trade)
            elif verdict is Verdict.NEW:
                self.unsure = False
                if len(ledger.holes) > holes:
                    self.counts.gaps += 1
            self._fold_or_halt(trade)
        self.sound = True
        return verdict

    def anchor(self, agg_id: int, time_ms: int) -> None:
        """Start proving from the exchange's newest trade, because none has come by itself."""
        if self.ledger.newest is None:
            self.ledger.anchor(agg_id, time_ms)
            if any(map(has_row, self._bars)):
                # Bars that were taken over carry a close that may be older than that trade.
                self.ledger.proved_from = NEVER
        self.anchored.set()

    def set_feed(self, *, up: bool) -> None:
        """Take note that the symbol's feed came up or went down.

        What happened while it was down only the next trade tells, or the exchange if it is asked.
        """
        self.feed_up = up
        if up:
            self.heard.set()
        self.doubt()

    def doubt(self) -> None:
        """Take note that more may have happened than is known."""
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
        self._shown.withdraw()

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
        self.closed.prove()
        if not self._dirty or self.halted:
            return
        state = 0 if self.feed_up and not self.unsure else Flag.FEED_DOWN
        for index in self._dirty:
            row = self._bars[index]
            complete = Flag.COMPLETE if self.ledger.proves_since(row[OPEN_TIME]) else 0
            row[FLAGS] = row[FLAGS] & Flag.BACKFILLED | complete | state
        try:
            self._shown.write(self._bars, self._dirty)
        except OverflowError:
            self._halt()
        self._dirty = frozenset()

    def restore(self, live: Sequence[Sequence[int]]) -> bool:
        """Continue from the open bars of an earlier run; tell whether they can be trusted.

        Args:
            live: One row per interval, by period index.
        """
        newest = newest_id_of(live)
        if newest == NO_ID:
            return False
        for index, row in enumerate(live):
            self._open(index, list(row))
        self._find_next_end()
        # When exactly the newest trade came is not stored; not before its shortest bar's start.
        traded = [row[OPEN_TIME] for row in live if row[TRADE_COUNT]]
        self.ledger.anchor(newest, max(traded, default=0), self._ends[0])
        self.ledger.proved_from = min(row[OPEN_TIME] for row in live)
        self.seeded = True
        self.anchored.set()
        self._dirty = self._everything
        return True

    def remember(self, period_index: int, closed: Int64Array) -> None:
        """Keep closed bars of an earlier run at hand, so that corrections know their revision."""
        known = self.closed.remember(period_index, closed)
        if known and self._intervals[period_index].length < HOUR:
            self.known_until = min(self.known_until or known, known)

    def succeed(self, broken: SymbolBook) -> None:
        """Go on where another book of the symbol broke off, with what cannot be half done there.

        That are its closed bars, the open times of its open ones, and what is shown of these; its
        ids are not.  So nothing is proved before the klines are here, but bars close on time.
        """
        self.known_until = broken.trusted_until
        self.ledger.covered_until = broken.ledger.covered_until
        # A seed ends, and proof begins, only after every trade that it has seen.
        self.ledger.horizon = broken.ledger.horizon
        self.closed.recent = broken.closed.recent
        for index, bar in enumerate(broken._bars):
            row = self.closed.follow(index, bar[OPEN_TIME], self._shown.row(index))
            if row is not None:
                self._open(index, row)
        self._find_next_end()
        self.set_feed(up=broken.feed_up)
        self.flush()

    def begin_seed(self, until: int) -> None:
        """Make ready to take over the past up to ``until``, a minute boundary still to come."""
        self._tails = Tails(until, self._intervals)

    def abandon_seed(self, until: int) -> None:
        """Go on without the past up to ``until``, which does not come."""
        if self.seeded and self.seeding_until == until:
            self._tails = None

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
                self.closed.take_over(index, past.closed)
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

    def _restart_ids(self, trade: AggTrade) -> None:
        """Begin anew at this trade, because the ids seen so far were wrong or count no more.

        What was dropped as seen comes with the exchange's klines, for which repair is asked.
        """
        facts = {"newest": self.ledger.newest, "new_id": trade.agg_id}
        log_event(log, logging.WARNING, "ids_restarted", symbol=self.symbol.name, **facts)
        self.known_until = self.trusted_until
        self.ledger.restart(trade.agg_id, trade.time)
        self.unsure = self.seeded = False
        # A seeding under way has not been told of the trades that were dropped.
        self._tails = None
        for row in self._bars:
            # Else no id of the new count would ever be a later one than those of the old.
            row[FIRST_AGG_ID] = row[LAST_AGG_ID] = NO_ID

    def _fold_or_halt(self, trade: AggTrade) -> None:
        self._dirty = self._everything
        if trade.time < self.ledger.covered_until:
            self.counts.covered += 1
            self.closed.pass_id(trade, self._bars)
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
                elif self.closed.fold_late(index, trade, row):
                    self.counts.late += 1
                else:
                    self.counts.too_late += 1
        except OverflowError:
            self._halt()
        if rolls:
            self._find_next_end()
        if self._tails is not None:
            self._tails.fold(trade)

    def _roll(self, index: int, time_ms: int) -> None:
        """Close bars of one interval until the open one contains ``time_ms``."""
        interval = self._intervals[index]
        row = self._bars[index]
        self._dirty |= {index}
        if not has_row(row):
            self._open(index, empty_row(interval.open_of(time_ms), 0, NO_ID))
        while self._ends[index] <= time_ms:
            self.closed.close(index, row)
            row = empty_row(self._ends[index], row[CLOSE], row[LAST_AGG_ID])
            self._open(index, row)

    def _open(self, index: int, row: list[int]) -> None:
        """Make a row the open bar of one interval."""
        self._bars[index] = row
        self._ends[index] = self._intervals[index].next_open(row[OPEN_TIME])

    def _join_past(self, index: int, part: Sequence[int] | None, tail: list[int]) -> None:
        """Join the past of the bar that spans the boundary with what has been folded since."""
        whole = tail if part is None else join(part, tail)
        if part is None and not tail[TRADE_COUNT]:
            return
        if self._bars[index][OPEN_TIME] <= whole[OPEN_TIME]:
            whole[LAST_AGG_ID] = self.ledger.newest_held
            self._open(index, whole)
            return
        self.closed.join(index, whole, self._bars[index])

    def _continue_after(self, index: int, past: Past, until: int) -> None:
        """Open the bar after the newest closed one, which ended exactly at the boundary."""
        if len(past.closed) == 0:
            return
        newest: list[int] = past.closed[-1].tolist()
        if not has_row(self._bars[index]):
            self._open(index, empty_row(until, newest[CLOSE], self.ledger.newest_held))
            return
        self.closed.bridge(index, newest, self._bars[index])
        # The bars after the boundary know their ids; only the price may be news to them.
        follower = self.closed.recent.get(index, until) or self._bars[index]
        newest[LAST_AGG_ID] = follower[LAST_AGG_ID]
        self.closed.carry(index, newest, self._bars[index])

    def _find_next_end(self) -> None:
        """Remember when the first of the open bars ends, which the swapper asks at every tick."""
        self._next_end = min((end for end in self._ends if end), default=NEVER)

    def _halt(self) -> None:
        self.halt(f"a sum of {self.symbol.name} does not fit 64 bits at its scales")
