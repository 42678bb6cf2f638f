"""Consecutive files of one symbol's trades, as one stream with carried state, to closed bars.

Trades are folded to minutes, which all intervals consist of, and these to the intervals.  A minute
is settled once a trade ``MAX_DISORDER_MS`` younger than its end has come: nothing that could still
come belongs in it (``trades.I1``).  The trades of the last minutes wait for the next file.

A run is a value: to take trades gives a new run, so a file that is refused half way has changed
nothing.

Invariants (tested in tests/archive/test_trade_run.py):
  I1  The bars are those that the live path makes of the same trades, field by field.  (Should a
      trade be older than one of a lower id, across a minute's end, then so are the minutes; longer
      bars open and close with their minutes, as the exchange's own do, where the live path goes
      by id.  No recording at hand has such trades.)
  I2  A bar is COMPLETE only if ids are contiguous from before its start to the first trade after
      its end.
  I3  A bar that the files do not wholly cover is never made.
  I4  However trades are cut into files, the bars are the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np

from klinetrio.archive.longer import NO_ROWS, Longer, rescaled_rows
from klinetrio.archive.minutes import dense, mark_proved
from klinetrio.archive.trades import scaled
from klinetrio.domain.interval import INTERVALS
from klinetrio.engine.batch import TradeColumns, fold_trades
from klinetrio.engine.ledger import MAX_DISORDER_MS


if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from klinetrio.archive.longer import Bars
    from klinetrio.archive.rows import Int64Array
    from klinetrio.domain.interval import Interval

_MINUTE = INTERVALS["1m"]
_NO_HOLES = np.zeros((0, 2), np.int64)

# Trades folded at a time, so that temporaries stay small beside the file itself.
_SLICE = 1 << 18


@attrs.frozen(slots=True)
class TradeRun:
    """What is carried from one file of trades to the next.

    Attributes:
        covered: From when until when the files are there, as their names say, ms.
        proved_from: Lowest time from which on nothing but the holes is missing, ms.
        first_id: Lowest id.
        newest_id: Highest id.
        newest_time: Youngest trade time, ms.
        tail: Trades of minutes that are not settled.
        holes: Between which times the trades of each id hole lie, shape ``(n, 2)``; only those
            that touch minutes not settled.
        last: The newest settled minute, in an array of one row; empty if there is none.
        longer: What is folded of the settled minutes.
    """

    covered: tuple[int, int]
    proved_from: int
    first_id: int
    newest_id: int
    newest_time: int
    tail: TradeColumns
    holes: Int64Array
    last: Int64Array
    longer: Longer

    @classmethod
    def starting(
        cls, trades: TradeColumns, covered: tuple[int, int], intervals: Sequence[Interval]
    ) -> TradeRun:
        """Return a run that has taken nothing yet and is about to begin with these trades."""
        first_id, first_time = int(trades.agg_id[0]), int(trades.time[0])
        return cls(
            covered=covered,
            # Trades of the same millisecond may have come before (see ``IdLedger.anchor``).
            proved_from=first_time + 1,
            first_id=first_id,
            newest_id=first_id - 1,
            newest_time=first_time,
            tail=_part(trades, slice(0)),
            holes=_NO_HOLES,
            last=NO_ROWS,
            longer=Longer.of(_MINUTE, intervals),
        )

    def joins(self, trades: TradeColumns, since: int) -> bool:
        """Tell whether the trades of a file that covers the time from ``since`` belong to the run.

        They do not after a time that no file covers, unless ids show that nothing is missing, nor
        if ids begin anew or are those of before the run.
        """
        if trades.agg_id[0] < self.first_id:
            return False
        anew = trades.time[trades.agg_id <= self.newest_id] > self.newest_time + MAX_DISORDER_MS
        if anew.any():
            return False
        return since <= self.covered[1] or self.newest_id + 1 in trades.agg_id[:1]

    def contradicts(self, trades: TradeColumns) -> bool:
        """Tell whether trades of newer ids are older than what the run has seen."""
        times = trades.time[trades.agg_id > self.newest_id]
        return bool((times < self.newest_time - MAX_DISORDER_MS).any())

    def extend(self, trades: TradeColumns, until: int) -> Iterator[tuple[TradeRun, Bars]]:
        """Take the trades of the next file bit by bit; yield each state with the bars done.

        Args:
            trades: By id, no two of one id.
            until: The file's end.
        """
        new = int(np.searchsorted(trades.agg_id, self.newest_id, "right"))
        run = attrs.evolve(self, covered=(self.covered[0], max(self.covered[1], until)))
        yield run, {}
        for start in range(new, len(trades.agg_id), _SLICE):
            run, bars = run.take(_part(trades, slice(start, start + _SLICE)))
            yield run, bars

    def finish(self) -> Bars:
        """Return the bars that are covered, but that no trade has come after."""
        end = _MINUTE.next_open(_MINUTE.open_of(self.newest_time))
        run, bars = self.settle(end)
        for name, rows in run.longer.finish(self.covered).items():
            bars[name] = np.concatenate((bars.get(name, NO_ROWS), rows))
        return bars

    def rescaled(self, price: int, quantity: int) -> TradeRun:
        """Return the same with numbers multiplied, because the symbol's scales have grown."""
        tail = scaled(self.tail, price, quantity)
        last = rescaled_rows(self.last, price, quantity)
        longer = self.longer.rescaled(price, quantity)
        return attrs.evolve(self, tail=tail, last=last, longer=longer)

    def take(self, trades: TradeColumns) -> tuple[TradeRun, Bars]:
        """Take some more trades, all newer by id; return what is left, and bars done."""
        ids = np.r_[self.newest_id, trades.agg_id]
        times = np.maximum.accumulate(np.r_[self.newest_time, trades.time])
        gaps = np.flatnonzero(np.diff(ids) > 1)
        bounds = np.sort(np.stack((times[gaps], trades.time[gaps]), axis=1))
        run = attrs.evolve(
            self,
            newest_id=int(ids[-1]),
            newest_time=int(times[-1]),
            tail=_joined(self.tail, trades),
            holes=np.concatenate((self.holes, bounds)),
        )
        return run.settle(_MINUTE.open_of(run.newest_time - MAX_DISORDER_MS))

    def settle(self, before: int) -> tuple[TradeRun, Bars]:
        """Fold the minutes that open before ``before``; return what is left, and bars done."""
        settled, tail = _split(self.tail, before)
        minutes = dense(self.last, fold_trades(settled, (_MINUTE,))[0], before)
        if len(minutes) == 0:
            return self, {}
        mark_proved(minutes, self.proved_from, self.newest_time, self.holes)
        longer, bars = self.longer.extend(minutes, self.covered)
        holes = self.holes[self.holes[:, 1] >= before]
        run = attrs.evolve(self, tail=tail, holes=holes, last=minutes[-1:].copy(), longer=longer)
        return run, bars


def _part(trades: TradeColumns, part: slice) -> TradeColumns:
    return TradeColumns(*(column[part] for column in attrs.astuple(trades, recurse=False)))


def _joined(before: TradeColumns, after: TradeColumns) -> TradeColumns:
    pairs = zip(
        attrs.astuple(before, recurse=False), attrs.astuple(after, recurse=False), strict=True
    )
    return TradeColumns(*(np.concatenate(pair) for pair in pairs))


def _split(trades: TradeColumns, before: int) -> tuple[TradeColumns, TradeColumns]:
    """Return the trades older than ``before``, and the others."""
    older = trades.time < before
    count = int(np.count_nonzero(older))
    if older[:count].all():
        return _part(trades, slice(count)), _part(trades, slice(count, None))
    return trades.take(np.flatnonzero(older)), trades.take(np.flatnonzero(~older))
