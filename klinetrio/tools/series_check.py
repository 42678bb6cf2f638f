"""One series, page by page: holes, doubles, times off the grid, bars that cannot be.

Invariants (tested in tests/tools/test_doctor.py):
  I1  However the bars are cut into pages, the same is found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from klinetrio.domain.interval import MINUTE
from klinetrio.domain.kline import OPEN_TIME, Flag
from klinetrio.domain.moment import LAST_MOMENT
from klinetrio.tools.bar_checks import faults, has_flag, has_reversed_ids, is_possible
from klinetrio.tools.finding import Findings, Kind, note_bars, note_spans


if TYPE_CHECKING:
    from klinetrio.domain.interval import Interval
    from klinetrio.storage.protocol import Int64Array

# This machine's clock need not be the exchange's, by which bars are closed.
CLOCK_SLACK_MS = MINUTE


class SeriesCheck:
    """The checks of one series that need no other one.

    Args:
        interval: Of the bars.
        now_ms: The time by this machine's clock.
        whole: The span in which nothing is missing that the exchange has, if it is known.

    Attributes:
        findings: What has been found so far.
    """

    def __init__(self, interval: Interval, now_ms: int, whole: tuple[int, int] | None) -> None:
        self.findings: Findings = {}
        self._interval = interval
        self._latest_end = now_ms + CLOCK_SLACK_MS
        self._whole = whole
        self._last: int | None = None

    def take(self, page: Int64Array) -> Int64Array:
        """Check the next bars; return those in their place that can be, each once.

        Args:
            page: Not before the ones of earlier pages.
        """
        rows = page[np.argsort(page[:, OPEN_TIME], kind="stable")]
        rows = self._each_once(self._placed(rows))
        self._look_for_holes(rows[:, OPEN_TIME])
        opens = rows[:, OPEN_TIME]
        ends = self._interval.next_open_of_many(opens)
        for reason, wrong in faults(rows).items():
            note_bars(self.findings, Kind.IMPOSSIBLE, opens[wrong], ends[wrong], reason)
        for kind, mask in (
            (Kind.REVERSED, has_reversed_ids(rows)),
            (Kind.UNPROVED, ~has_flag(rows, Flag.COMPLETE)),
            (Kind.OPEN, ~has_flag(rows, Flag.FINAL)),
        ):
            note_bars(self.findings, kind, opens[mask], ends[mask])
        sound: Int64Array = rows[is_possible(rows)]
        return sound

    def _each_once(self, rows: Int64Array) -> Int64Array:
        """Take note of bars that are there again, and leave them out."""
        opens = rows[:, OPEN_TIME]
        again = np.r_[False, opens[1:] == opens[:-1]][: len(opens)]
        if len(opens):
            again[0] = opens[0] == self._last
        ends = self._interval.next_open_of_many(opens)
        note_bars(self.findings, Kind.DOUBLE, opens[again], ends[again])
        once: Int64Array = rows[~again]
        return once

    def _placed(self, rows: Int64Array) -> Int64Array:
        """Take note of bars at times at which there can be none, and leave them out."""
        opens = rows[:, OPEN_TIME]
        inside = (opens >= 0) & (opens <= LAST_MOMENT)
        aligned = inside & (self._interval.open_of_many(np.where(inside, opens, 0)) == opens)
        note_bars(self.findings, Kind.MISALIGNED, opens[~aligned], opens[~aligned] + 1)
        rows, opens = rows[aligned], opens[aligned]
        ends = self._interval.next_open_of_many(opens)
        late = ends > self._latest_end
        note_bars(self.findings, Kind.FUTURE, opens[late], ends[late])
        placed: Int64Array = rows[~late]
        return placed

    def _look_for_holes(self, opens: Int64Array) -> None:
        if not len(opens):
            return
        if self._last is not None:
            opens = np.r_[self._last, opens]
        self._last = int(opens[-1])
        starts, ends = self._interval.next_open_of_many(opens[:-1]), opens[1:]
        hole = starts < ends
        starts, ends = starts[hole], ends[hole]
        since, until = self._whole or (0, 0)
        for kind, low, high in (
            (Kind.MISSING, 0, since),
            (Kind.ABSENT, since, until),
            (Kind.MISSING, until, LAST_MOMENT),
        ):
            self._note_holes(kind, np.maximum(starts, low), np.minimum(ends, high))

    def _note_holes(self, kind: Kind, starts: Int64Array, ends: Int64Array) -> None:
        some = starts < ends
        starts, ends = starts[some], ends[some]
        counts = self._interval.ordinal_of_many(ends) - self._interval.ordinal_of_many(starts)
        note_spans(self.findings, kind, starts, ends, counts)
