"""The closed bars of one symbol: corrected in place, proved later, handed to the outbox.

Only the symbol's book calls this, as a part of its own changes.

Invariant (tested in tests/engine/test_succession.py):
  I1  What is in ``recent`` is what was published last: a bar enters both in one step, and a step
      that fails enters neither.  So the closed bars of a book that broke off can be relied upon,
      and so can their revisions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from klinetrio.domain.interval import HOUR
from klinetrio.domain.kline import (
    CLOSE,
    FIRST_AGG_ID,
    FLAGS,
    LAST_AGG_ID,
    NO_ID,
    OPEN,
    OPEN_TIME,
    TRADE_COUNT,
    Flag,
    bits_of,
    has_row,
    make_flags,
    revision_of,
)
from klinetrio.engine.fold import empty_row, fold_trade
from klinetrio.engine.ledger import NEVER
from klinetrio.engine.recent import RecentBars


if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from klinetrio.domain.interval import Interval
    from klinetrio.domain.trade import AggTrade
    from klinetrio.engine.ledger import IdLedger
    from klinetrio.engine.outbox import Outbox


# How far before the end of an earlier run bars that it could not prove are its successor's to mend;
# older ones are left to the history download.
_REACH = 2 * HOUR


class ClosedBars:
    """What a book keeps of the bars it has closed.

    Args:
        intervals: By period index.
        ledger: What proves a bar.
        outbox: Where every new state of a closed bar goes.
        first_row: The symbol's first row.
    """

    __slots__ = ("_first_row", "_intervals", "_ledger", "_outbox", "_unproved", "recent")

    def __init__(
        self, intervals: Sequence[Interval], ledger: IdLedger, outbox: Outbox, first_row: int
    ) -> None:
        self.recent = RecentBars(intervals)
        self._intervals = intervals
        self._ledger = ledger
        self._outbox = outbox
        self._first_row = first_row
        # Every entry has its bar in ``recent``, whose slots bound this list.
        self._unproved: list[tuple[int, int]] = []

    @property
    def unproved_since(self) -> int | None:
        """Open time of the oldest bar that is not proved yet and may still be."""
        return min((open_time for _, open_time in self._unproved), default=None)

    def remember(self, index: int, closed: npt.NDArray[np.int64]) -> int:
        """Keep closed bars of an earlier run, which may still be proved.

        Returns:
            A time up to which they are proved, as far as books prove it; 0 if there are none.
        """
        for row in closed[-self.recent.slots(index) :].tolist():
            self.recent.put(index, row)
            if not row[FLAGS] & Flag.COMPLETE:
                self._unproved.append((index, row[OPEN_TIME]))
        if len(closed) == 0:
            return 0
        end = self._intervals[index].next_open(int(closed[-1, OPEN_TIME]))
        young = closed[closed[:, OPEN_TIME] >= end - _REACH]
        doubtful = young[young[:, FLAGS] & Flag.COMPLETE == 0]
        return int(doubtful[0, OPEN_TIME]) if len(doubtful) else end

    def close(self, index: int, row: list[int]) -> None:
        """Make an open bar a closed one."""
        self._publish(index, row, bits_of(row) & Flag.BACKFILLED, 0)

    def correct(self, index: int, row: list[int]) -> None:
        """Publish a closed bar whose values changed, with a higher revision."""
        published = not self._outbox.holds(self._first_row + index, row[OPEN_TIME])
        bits = bits_of(row) & Flag.BACKFILLED
        self._publish(index, row, bits, revision_of(row) + published)

    def fold_late(self, index: int, trade: AggTrade, bar: list[int]) -> bool:
        """Add a trade to the closed bar of its time; tell whether that bar is still here.

        Args:
            index: Period index.
            trade: Older than the open bar.
            bar: The open bar, which may carry the closed one's close.
        """
        row = self.find(index, self._intervals[index].open_of(trade.time), bar[OPEN_TIME])
        if row is None:
            return False
        before = row[CLOSE], row[LAST_AGG_ID]
        fold_trade(row, trade)
        self.correct(index, row)
        if before != (row[CLOSE], row[LAST_AGG_ID]):
            self.carry(index, row, bar)
        return True

    def follow(self, index: int, open_time: int, shown: list[int]) -> list[int] | None:
        """Return the open bar to go on with after a book broke off.

        Args:
            index: Period index.
            open_time: Of the open bar as the broken book knew it, 0 if there was none.  It may have
                been closed since, if the book broke off between closing and opening.
            shown: The open bar as it was shown last.

        Returns:
            What was shown, if that bar is still open; else an empty bar that carries the close
            before it; None if there never was a bar.
        """
        interval = self._intervals[index]
        if open_time == 0:
            return None
        while self.recent.get(index, open_time) is not None:
            open_time = interval.next_open(open_time)
        if shown[OPEN_TIME] == open_time:
            return shown
        before = self.recent.get(index, interval.previous_open(open_time))
        return None if before is None else empty_row(open_time, before[CLOSE], before[LAST_AGG_ID])

    def find(self, index: int, open_time: int, before: int) -> list[int] | None:
        """Return a copy of the closed bar that opens at ``open_time``, None if it is too old.

        Bars that could be in memory but never existed, because the first trade seen was a later
        one, are made now, up to ``before``.
        """
        row = self.recent.get(index, open_time)
        if row is not None:
            return row
        interval = self._intervals[index]
        age = interval.ordinal(before) - interval.ordinal(open_time)
        if age >= self.recent.slots(index):
            return None
        made = empty_row(open_time, 0, NO_ID)
        missing = interval.next_open(open_time)
        while missing < before and self.recent.get(index, missing) is None:
            self.close(index, empty_row(missing, 0, NO_ID))
            missing = interval.next_open(missing)
        self.close(index, made)
        return made

    def carry(self, index: int, row: Sequence[int], bar: list[int]) -> bool:
        """Let the bars without trades after ``row`` carry its close.

        Args:
            index: Period index.
            row: A closed bar whose close or newest id changed.
            bar: The open bar, which is changed in place if it is reached.

        Returns:
            Whether the open bar changed.
        """
        interval = self._intervals[index]
        open_time = interval.next_open(row[OPEN_TIME])
        while open_time < bar[OPEN_TIME]:
            follower = self.recent.get(index, open_time)
            if follower is None or follower[TRADE_COUNT]:
                return False
            carried = empty_row(open_time, row[CLOSE], row[LAST_AGG_ID])
            carried[FLAGS] = follower[FLAGS]
            if carried != follower:
                self.correct(index, carried)
            open_time = interval.next_open(open_time)
        if bar[OPEN_TIME] != open_time or bar[TRADE_COUNT]:
            return False
        bar[OPEN:FLAGS] = empty_row(open_time, row[CLOSE], row[LAST_AGG_ID])[OPEN:FLAGS]
        return True

    def pass_id(self, trade: AggTrade, bars: Sequence[list[int]]) -> None:
        """Let the bars that a covered trade lies in or before know of its id, and nothing else.

        The exchange's klines, which told the values, tell no ids.

        Args:
            trade: One that the klines hold.
            bars: The open bars by period index, which are changed in place if they are reached.
        """
        for index, bar in enumerate(bars):
            if not has_row(bar):
                continue
            interval = self._intervals[index]
            oldest = bar[OPEN_TIME] - (self.recent.slots(index) - 1) * interval.length
            open_time = interval.open_of(max(trade.time, oldest))
            while open_time < bar[OPEN_TIME]:
                row = self.recent.get(index, open_time)
                if row is not None:
                    if open_time > trade.time and row[TRADE_COUNT]:
                        break
                    if _raise_ids(row, trade.agg_id):
                        self._renumber(index, row)
                open_time = interval.next_open(open_time)
            else:
                if bar[OPEN_TIME] <= trade.time or not bar[TRADE_COUNT]:
                    _raise_ids(bar, trade.agg_id)

    def _renumber(self, index: int, row: list[int]) -> None:
        """Publish a closed bar of which only the ids changed: it is proved as it was."""
        published = not self._outbox.holds(self._first_row + index, row[OPEN_TIME])
        row[FLAGS] = make_flags(bits_of(row), revision_of(row) + published)
        self.recent.put(index, row)
        self._outbox.put(self._first_row + index, row, announce=True)

    def prove(self) -> None:
        """Mark the closed bars that have become proved since they were closed."""
        if not self._unproved:
            return
        waiting = []
        for index, open_time in self._unproved:
            row = self.recent.get(index, open_time)
            # While nothing is proved at all, what will be is not known.
            hopeless = open_time < self._ledger.proved_from < NEVER
            if row is None or row[FLAGS] & Flag.COMPLETE or hopeless:
                continue
            if not self._proves(index, open_time):
                waiting.append((index, open_time))
                continue
            row[FLAGS] |= Flag.COMPLETE
            self.recent.put(index, row)
            self._outbox.put(self._first_row + index, row, announce=False)
        self._unproved = waiting

    def join(self, index: int, whole: list[int], bar: list[int]) -> None:
        """Replace a closed bar, or make it, by what its past and its trades make.

        Args:
            index: Period index.
            whole: The bar as it should be; changed in place.
            bar: The open bar, which may carry its close.
        """
        ours = self.recent.get(index, whole[OPEN_TIME])
        if ours is not None:
            whole[LAST_AGG_ID] = max(whole[LAST_AGG_ID], ours[LAST_AGG_ID])
            whole[FLAGS] = make_flags(whole[FLAGS], revision_of(ours))
            self.correct(index, whole)
            self.carry(index, whole, bar)
        elif self._reaches(index, whole[OPEN_TIME], bar):
            # Over before its first trade that was seen, so that it was never open here.
            self.close(index, whole)
            self.bridge(index, whole, bar)

    def bridge(self, index: int, row: Sequence[int], bar: list[int]) -> None:
        """Make the bars between a closed one and the first that is known: nothing traded in them.

        Args:
            index: Period index.
            row: The closed bar, whose close they carry.
            bar: The open bar.
        """
        interval = self._intervals[index]
        missing = []
        open_time = interval.next_open(row[OPEN_TIME])
        if not self._reaches(index, open_time, bar):
            return
        while open_time < bar[OPEN_TIME] and self.recent.get(index, open_time) is None:
            missing.append(open_time)
            open_time = interval.next_open(open_time)
        follower = self.recent.get(index, open_time) or bar
        before = NO_ID if follower[FIRST_AGG_ID] == NO_ID else follower[FIRST_AGG_ID] - 1
        for each in missing:
            self.close(index, empty_row(each, row[CLOSE], before))

    def _reaches(self, index: int, open_time: int, bar: Sequence[int]) -> bool:
        """Tell whether a closed bar is young enough to be in memory beside the open one."""
        interval = self._intervals[index]
        age = interval.ordinal(bar[OPEN_TIME]) - interval.ordinal(open_time)
        return age < self.recent.slots(index)

    def take_over(self, index: int, closed: npt.NDArray[np.int64]) -> None:
        """Let the exchange's own closed bars stand where ours say less or something else."""
        for row in closed[-self.recent.slots(index) :].tolist():
            self._take_over(index, row)

    def _take_over(self, index: int, row: list[int]) -> None:
        ours = self.recent.get(index, row[OPEN_TIME])
        if ours is None:
            self.recent.put(index, row)
            if row[FLAGS] & Flag.SETTLED:
                self._outbox.put(self._first_row + index, row, announce=False)
            return
        same = ours[OPEN:FIRST_AGG_ID] == row[OPEN:FIRST_AGG_ID]
        if same and ours[FLAGS] & Flag.COMPLETE:
            return
        series = self._first_row + index
        published = not self._outbox.holds(series, row[OPEN_TIME])
        taken = ours if same else row
        bits = bits_of(taken) | bits_of(ours) & Flag.SETTLED | Flag.FINAL | Flag.COMPLETE
        taken[FLAGS] = make_flags(bits, revision_of(ours) + (published and not same))
        self.recent.put(index, taken)
        self._outbox.put(series, taken, announce=not same)

    def _publish(self, index: int, row: list[int], bits: int, revision: int) -> None:
        open_time = row[OPEN_TIME]
        proved = self._proves(index, open_time)
        row[FLAGS] = make_flags(bits | Flag.FINAL | (Flag.COMPLETE if proved else 0), revision)
        self.recent.put(index, row)
        self._outbox.put(self._first_row + index, row, announce=True)
        if not proved and (index, open_time) not in self._unproved:
            self._unproved.append((index, open_time))

    def _proves(self, index: int, open_time: int) -> bool:
        return self._ledger.proves(open_time, self._intervals[index].next_open(open_time))


def _raise_ids(row: list[int], agg_id: int) -> bool:
    """Let a bar know of an id that is in it or before it; tell whether that was news."""
    if not NO_ID < row[LAST_AGG_ID] < agg_id:
        return False
    row[LAST_AGG_ID] = agg_id
    if not row[TRADE_COUNT]:
        row[FIRST_AGG_ID] = agg_id + 1
    return True
