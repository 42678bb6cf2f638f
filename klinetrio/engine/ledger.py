"""Which aggregate ids of one symbol have been seen: duplicates, holes, proof.

The exchange numbers the aggregates of a symbol without gaps, so what has been seen is everything
up to ``newest`` except the holes.  A hole remembers between which trade times its trades must lie,
which is what tells which bars it touches.

Invariants (tested in tests/engine/test_ledger.py):
  I1  ``see`` answers NEW or FILLS at most once per id.
  I2  Holes are disjoint, not empty, ascending, and end below ``newest``.
  I3  Seen ids and holes together are exactly ``[anchor, newest]``.
  I4  ``proves`` never answers True for a span of which a trade is missing.
"""

from __future__ import annotations

from bisect import bisect_right
from enum import Enum, auto

import attrs


# A hole is two ids and two times, about 200 bytes: 200 kB for a symbol at its worst.  More means
# that the feed is not worth repairing trade by trade.
MAX_HOLES = 1_000

# An id that jumps further than this is not believed until the next one confirms it.  The busiest
# symbol of 2026 makes about 3 million aggregates a day, so a day's outage stays below.
MAX_JUMP = 5_000_000

NEVER = 2**62
"""A time that does not come."""


class Verdict(Enum):
    """What the ledger says of an id."""

    NEW = auto()
    """The next id, or one above a new hole: fold it."""

    FILLS = auto()
    """It was missing: fold it."""

    DUPLICATE = auto()
    """It has been seen: drop it."""

    IMPLAUSIBLE = auto()
    """It jumps absurdly far: drop it, and ask for it should it turn out true."""


@attrs.define(slots=True)
class Hole:
    """Ids that were not seen.

    Attributes:
        first: Lowest missing id.
        last: Highest missing id.
        since: Time of the trade before the hole, ms; missing trades are not older.
        until: Time of the trade after the hole, ms; missing trades are not younger.
    """

    first: int
    last: int
    since: int
    until: int

    @property
    def size(self) -> int:
        """Number of missing ids."""
        return self.last - self.first + 1


class IdLedger:
    """The ids seen of one symbol.

    Attributes:
        newest: Highest id seen, None before the first.
        newest_time: Its trade time, ms.
        holes: Ascending by id.
        overflowed: Whether holes were given up because there were more than ``MAX_HOLES``.
        proved_from: Lowest time from which on nothing but the holes is missing, ms.
        covered_until: Up to here the exchange's own klines speak, and ids prove nothing, ms.
    """

    __slots__ = (
        "_suspect",
        "covered_until",
        "holes",
        "newest",
        "newest_time",
        "overflowed",
        "proved_from",
    )

    def __init__(self) -> None:
        self.newest: int | None = None
        self.newest_time = 0
        self.holes: list[Hole] = []
        self.overflowed = False
        self.proved_from = NEVER
        self.covered_until = 0
        self._suspect: int | None = None

    def anchor(self, agg_id: int, time_ms: int) -> None:
        """Start here: everything up to ``agg_id`` counts as seen, nothing as missing.

        Trades of the same millisecond may have come before, so a bar that opens at ``time_ms`` is
        not proved yet: the next one is.
        """
        self.newest = agg_id
        self.newest_time = time_ms
        self.proved_from = time_ms + 1
        self.holes.clear()
        self.overflowed = False
        self._suspect = None

    def see(self, agg_id: int, time_ms: int) -> Verdict:
        """Take note of an id and say what to do with its trade."""
        newest = self.newest
        if newest is None:
            self.anchor(agg_id, time_ms)
            return Verdict.NEW
        if agg_id == newest + 1:
            self.newest = agg_id
            self.newest_time = max(self.newest_time, time_ms)
            return Verdict.NEW
        if agg_id <= newest:
            return self._fill(agg_id, time_ms) if self.holes else Verdict.DUPLICATE
        return self._jump(newest, agg_id, time_ms)

    def _jump(self, newest: int, agg_id: int, time_ms: int) -> Verdict:
        """An id above the next one: a hole opens, unless the jump is absurd and unconfirmed."""
        if agg_id - newest > MAX_JUMP and self._suspect != agg_id - 1:
            self._suspect = agg_id
            return Verdict.IMPLAUSIBLE
        self._suspect = None
        self.holes.append(Hole(newest + 1, agg_id - 1, self.newest_time, time_ms))
        self.newest = agg_id
        self.newest_time = max(self.newest_time, time_ms)
        if len(self.holes) > MAX_HOLES:
            # Not worth following any more: nothing up to its end is proved.
            self.proved_from = max(self.proved_from, self.holes.pop(0).until + 1)
            self.overflowed = True
        return Verdict.NEW

    def _fill(self, agg_id: int, time_ms: int) -> Verdict:
        index = bisect_right(self.holes, agg_id, key=lambda hole: hole.first) - 1
        if index < 0 or agg_id > self.holes[index].last:
            return Verdict.DUPLICATE
        hole = self.holes[index]
        parts = []
        if hole.first < agg_id:
            parts.append(Hole(hole.first, agg_id - 1, hole.since, time_ms))
        if agg_id < hole.last:
            parts.append(Hole(agg_id + 1, hole.last, time_ms, hole.until))
        self.holes[index : index + 1] = parts
        return Verdict.FILLS

    def cover(self, until_ms: int, from_ms: int) -> None:
        """Take note that the exchange's klines hold every trade of ``[from_ms, until_ms)``.

        Holes that lie before ``until_ms`` are closed by that.
        """
        self.covered_until = until_ms
        self.holes = [hole for hole in self.holes if hole.until >= until_ms]
        for hole in self.holes:
            hole.since = max(hole.since, until_ms)
        if self.overflowed and self.proved_from > until_ms:
            # A hole that was given up lies beyond, so this did not mend everything.
            return
        self.overflowed = False
        if self.newest is not None:
            self.proved_from = from_ms

    def proves(self, open_time: int, end: int) -> bool:
        """Tell whether no trade of ``[open_time, end)`` is missing.

        Args:
            open_time: Start of the span, ms.
            end: End of the span, ms, which a younger trade must have passed.
        """
        if self.proved_from > open_time or not self.covered_until < end <= self.newest_time:
            return False
        return not any(hole.since < end and hole.until >= open_time for hole in self.holes)

    def proves_since(self, open_time: int) -> bool:
        """Tell whether no trade is missing from ``open_time`` to the newest one."""
        if self.proved_from > open_time:
            return False
        # The newest hole ends last, but holes are few and usually none.
        return not self.holes or all(hole.until < open_time for hole in self.holes)
