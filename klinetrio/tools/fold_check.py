"""Longer bars against the fold of the shorter ones that they are made of, page by page.

What is compared has to be equal: both proved, and both made of trades, or both the exchange's own
klines (whose longer ones are exactly the fold of its shorter ones, as all recorded ones show).  A
longer bar of the exchange over minutes made of trades may rightly differ until the audit has settled
the minutes: its klines are made of single fills.

Invariants (tested in tests/tools/test_doctor.py):
  I1  However the bars are cut into pages, the same is found.
  I2  A longer bar that stored shorter ones do not wholly cover is not compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from klinetrio.domain.kline import FIELD_COUNT, FIRST_AGG_ID, OPEN, OPEN_TIME, Flag
from klinetrio.engine.fold import SUMS, fold_klines
from klinetrio.errors import ScaleError
from klinetrio.tools.bar_checks import has_flag, is_own, is_possible, is_theirs
from klinetrio.tools.finding import Findings, Kind, note_bars


if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy.typing as npt

    from klinetrio.domain.interval import Interval
    from klinetrio.storage.protocol import Int64Array

    Mask = npt.NDArray[np.bool_]

_NO_ROWS = np.zeros((0, FIELD_COUNT), np.int64)

# Where a bar comes from as a whole.
_MIXED, _OWN, _THEIRS = 0, 1, 2


class FoldCheck:
    """Compares one series with the fold of a shorter one.

    Args:
        part: The interval of the shorter bars.
        interval: The longer one, which contains it.
        read: Returns the longer bars that open in a span, both ends inclusive, in parts.

    Attributes:
        findings: What has been found so far of the longer bars.
    """

    def __init__(
        self,
        part: Interval,
        interval: Interval,
        read: Callable[[int, int], Iterable[Int64Array]],
    ) -> None:
        self.findings: Findings = {}
        self._part = part
        self._interval = interval
        self._read = read
        self._pending = _NO_ROWS

    def take(self, rows: Int64Array) -> None:
        """Take the next shorter bars: in their place, possible, each once, ascending."""
        if not len(rows):
            return
        rows = np.concatenate((self._pending, rows))
        end = self._interval.open_of(self._part.next_open(int(rows[-1, OPEN_TIME])))
        cut = int(np.searchsorted(rows[:, OPEN_TIME], end))
        self._pending = rows[cut:].copy()
        parts = self._whole(rows[:cut])
        if len(parts):
            self._compare(*_fold(parts, self._interval))

    def _whole(self, rows: Int64Array) -> Int64Array:
        """Return those bars that wholly cover a longer one."""
        opens, counts = np.unique(
            self._interval.open_of_many(rows[:, OPEN_TIME]), return_counts=True
        )
        needed = (self._interval.next_open_of_many(opens) - opens) // self._part.length
        covering: Int64Array = rows[np.repeat(counts == needed, counts)]
        return covering

    def _compare(self, folded: Int64Array, sources: Int64Array) -> None:
        for page in self._read(int(folded[0, OPEN_TIME]), int(folded[-1, OPEN_TIME])):
            stored = page[np.isin(page[:, OPEN_TIME], folded[:, OPEN_TIME])]
            stored = stored[is_possible(stored)]
            index = np.searchsorted(folded[:, OPEN_TIME], stored[:, OPEN_TIME])
            values = slice(OPEN, FIRST_AGG_ID)
            differs = (stored[:, values] != folded[index, values]).any(axis=1)
            differs &= has_flag(stored, Flag.COMPLETE) & has_flag(folded[index], Flag.COMPLETE)
            source = _sources(stored)
            alike = (source == sources[index]) & (source != _MIXED)
            for kind, mask in ((Kind.DIFFERENT, differs & alike), (Kind.APART, differs & ~alike)):
                opens = stored[mask, OPEN_TIME]
                ends = self._interval.next_open_of_many(opens)
                note_bars(self.findings, kind, opens, ends, f"against {self._part}")


def _sources(rows: Int64Array) -> Int64Array:
    return np.where(is_own(rows), _OWN, np.where(is_theirs(rows), _THEIRS, _MIXED))


def _fold(parts: Int64Array, interval: Interval) -> tuple[Int64Array, Int64Array]:
    """Return the longer bars, and where all parts of each come from."""
    try:
        folded = fold_klines(parts, interval)
    except ScaleError:
        folded = _fold_one_by_one(parts, interval)
    opens = interval.open_of_many(parts[:, OPEN_TIME])
    starts = np.searchsorted(opens, folded[:, OPEN_TIME])
    sources = _sources(parts)
    least = np.minimum.reduceat(sources, starts)
    alike = least == np.maximum.reduceat(sources, starts)
    return folded, np.where(alike, least, _MIXED)


def _fold_one_by_one(parts: Int64Array, interval: Interval) -> Int64Array:
    """Return the longer bars of which some do not fit 64 bits: these get sums that no bar has."""
    opens = interval.open_of_many(parts[:, OPEN_TIME])
    folded = []
    for group in np.split(parts, np.flatnonzero(np.diff(opens)) + 1):
        try:
            folded.append(fold_klines(group, interval))
        except ScaleError:
            group[:, SUMS] = 0
            one = fold_klines(group, interval)
            one[:, SUMS] = -1
            folded.append(one)
    return np.concatenate(folded)
