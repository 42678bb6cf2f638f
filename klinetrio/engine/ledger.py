"""Which aggregate ids of one symbol have been seen: duplicates, holes, proof.

The exchange numbers the aggregates of a symbol without gaps, so what has been seen is everything
up to ``newest`` except the holes.  A hole remembers between which trade times its trades must lie,
which is what tells which bars it touches.

Ids come from outside and may be wrong: garbled on their way, or numbered anew by the exchange.
Both show, because ids rise with trade times.  An id that jumps far ahead is not believed before a
second one comes near it.  An id that must be old, of a trade that is young, contradicts what has
been seen, and so does a new id of an old trade: one such trade is wrong itself, but when several in
a row agree, the ledger is.  And when another trade comes under an id that was seen, one of both is
wrong, which must be cleared up as well.

Invariants (tested in tests/engine/test_ledger.py):
  I1  ``see`` answers NEW or FILLS at most once per id.
  I2  Holes are disjoint, not empty, ascending, and end below ``newest``.
  I3  Seen ids and holes together are exactly ``[anchor, newest]``.
  I4  ``proves`` never answers True for a span of which a trade is missing.
  I5  RESTARTS is answered only for a trade that contradicts those seen before, and, but for trades
      that the exchange vouched for, at most once per ``RESTART_PAUSE_MS`` of trade time.
  I6  Nothing that opened before the youngest trade ever seen is proved by ids after a restart.
"""

from __future__ import annotations

from bisect import bisect_right
from enum import Enum, auto
from typing import TYPE_CHECKING

import attrs

from klinetrio.domain.kline import NO_ID


if TYPE_CHECKING:
    from klinetrio.domain.trade import AggTrade

# A hole is two ids and two times, about 200 bytes: 200 kB for a symbol at its worst.  More means
# that the feed is not worth repairing trade by trade.
MAX_HOLES = 1_000

# An id that jumps further than this is not believed until another one near it confirms it.  As many
# missing trades are fetched one by one at most (recovery/repair.py); a larger hole is mended by
# klines, so that dropping the trade behind it costs nothing more.
MAX_JUMP = 5_000

# How much younger than the newest a trade with an older id can be.  In 31,000 recorded trades times
# never fall where ids rise; a second leaves room for an exchange whose machines disagree a little.
MAX_DISORDER_MS = 1_000

# Trades remembered by id, to tell one that comes again from another under its id.  A wrong id within
# this reach shows when the right one comes; one beyond it leaves a hole that nothing fills.  64 pairs
# of 120 bytes: 8 kB per symbol.
_REMEMBERED = 64

# So many trades in a row, of rising ids near each other, show that not they are wrong.  One can be
# garbled and two can be a coincidence of that.
CONTRADICTIONS = 3

# A stream that contradicts itself for ever is not followed back and forth more often than this.
RESTART_PAUSE_MS = 10_000

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

    CONTRADICTS = auto()
    """Its id, its time and the trades seen before do not go together: drop it."""

    RESTARTS = auto()
    """It contradicts as those before it did, so the ledger is wrong: ``restart`` at it, fold it."""


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
        newest_time: The youngest trade time since the last restart, ms.
        horizon: The youngest trade time ever seen, ms; never falls.
        holes: Ascending by id.
        overflowed: Whether holes were given up because there were more than ``MAX_HOLES``.
        proved_from: Lowest time from which on nothing but the holes is missing, ms.
        covered_until: Up to here the exchange's own klines speak, and ids prove nothing, ms.
    """

    __slots__ = (
        "_against",
        "_latest",
        "_marks",
        "_restart_from",
        "_suspect",
        "_vouched",
        "covered_until",
        "holes",
        "horizon",
        "newest",
        "newest_time",
        "overflowed",
        "proved_from",
    )

    def __init__(self) -> None:
        self.newest: int | None = None
        self.newest_time = 0
        self.horizon = 0
        self.holes: list[Hole] = []
        self.overflowed = False
        self.proved_from = NEVER
        self.covered_until = 0
        self._latest = 0
        # By id modulo their number: the id, and a mark of its trade.
        self._marks = [(NO_ID, 0)] * _REMEMBERED
        # An id that jumped, and the newest then: once that has moved on, it confirms nothing.
        self._suspect = (NO_ID, NO_ID)
        # The last id that contradicted, how many did in a row, and the newest then.
        self._against = (NO_ID, 0, NO_ID)
        self._vouched = NO_ID
        self._restart_from = 0

    @property
    def newest_held(self) -> int:
        """The newest id that the open bars hold, ``NO_ID`` if it is not known.

        What the klines hold beyond the newest trade seen would be fetched, and folded once more,
        by whoever went on from these bars after a restart.
        """
        covered = self.newest_time < self.covered_until
        return NO_ID if self.newest is None or covered else self.newest

    @property
    def whole_until(self) -> int:
        """Time of the trade before the first that is missing, for all that is known, ms."""
        return self.holes[0].since if self.holes else self.newest_time

    def anchor(self, agg_id: int, time_ms: int, latest_ms: int = 0) -> None:
        """Start here: everything up to ``agg_id`` counts as seen, nothing as missing.

        Trades of the same millisecond may have come before, so a bar that opens at ``time_ms`` is
        not proved yet: the next one is.

        Args:
            agg_id: The newest id.
            time_ms: Its trade time, or a time that it is not older than.
            latest_ms: A time that it is not younger than, if its own is not known.
        """
        self.newest = agg_id
        self.newest_time = time_ms
        self.horizon = max(self.horizon, time_ms)
        self.proved_from = self.horizon + 1
        self.holes.clear()
        self.overflowed = False
        self._latest = latest_ms
        self._suspect = (NO_ID, NO_ID)
        self._against = (NO_ID, 0, NO_ID)
        self._vouched = NO_ID
        self._marks = [(NO_ID, 0)] * _REMEMBERED

    def restart(self, agg_id: int, time_ms: int) -> None:
        """Start anew here, because what has been seen was wrong or counts no more.

        Nothing before is proved, and all of it is left to the exchange's klines: a trade of before
        that comes once more under an id not known any more would count twice.
        """
        self.anchor(agg_id, time_ms)
        self.covered_until = max(self.covered_until, time_ms)
        self._restart_from = time_ms + RESTART_PAUSE_MS

    def vouch(self, agg_id: int) -> None:
        """Take note that the exchange itself, when asked, named this id as its newest.

        Should the id be hard to believe when it comes, it needs no others to confirm it.
        """
        self._vouched = agg_id

    def see(self, agg_id: int, time_ms: int, mark: int = 0) -> Verdict:
        """Take note of an id and say what to do with its trade.

        Args:
            agg_id: The id.
            time_ms: The trade's time.
            mark: A number that tells the trade from any other; 0 if it cannot be told.
        """
        newest = self.newest
        if newest is None:
            self.anchor(agg_id, time_ms)
            verdict = Verdict.NEW
        elif agg_id > newest:
            verdict = self._see_above(newest, agg_id, time_ms)
        else:
            verdict = self._see_below(newest, agg_id, time_ms, mark)
        if verdict is Verdict.NEW or verdict is Verdict.FILLS or verdict is Verdict.RESTARTS:
            self._marks[agg_id % _REMEMBERED] = (agg_id, mark)
        return verdict

    def _see_above(self, newest: int, agg_id: int, time_ms: int) -> Verdict:
        if time_ms < self.newest_time - MAX_DISORDER_MS:
            return self._contradict(newest, agg_id, time_ms, alone=False)
        if agg_id == newest + 1:
            self._rise(agg_id, time_ms)
            return Verdict.NEW
        return self._jump(newest, agg_id, time_ms)

    def _see_below(self, newest: int, agg_id: int, time_ms: int, mark: int) -> Verdict:
        remembered, before = self._marks[agg_id % _REMEMBERED]
        # Of two trades with one id one is wrong.  It may be the one that was folded, and if so the
        # next id will look right, so that no further contradiction would ever come.
        other = remembered == agg_id and before != mark != 0
        # The newest trade itself, when it comes again, is no younger than it was: no disorder here.
        room = 0 if agg_id == newest else MAX_DISORDER_MS
        young = time_ms > max(self.newest_time, self._latest) + room
        if other or young:
            return self._contradict(newest, agg_id, time_ms, alone=other or agg_id == newest)
        return self._fill(agg_id, time_ms) if self.holes else Verdict.DUPLICATE

    def _rise(self, agg_id: int, time_ms: int) -> None:
        self.newest = agg_id
        if time_ms > self.newest_time:
            self.newest_time = time_ms
            self.horizon = max(self.horizon, time_ms)

    def _jump(self, newest: int, agg_id: int, time_ms: int) -> Verdict:
        """An id above the next one: a hole opens, unless the jump is absurd and unconfirmed."""
        if agg_id - newest > MAX_JUMP and agg_id != self._vouched:
            before, suspect = self._suspect
            self._suspect = (newest, agg_id)
            if before != newest or not _is_near(suspect, agg_id):
                return Verdict.IMPLAUSIBLE
        self.holes.append(Hole(newest + 1, agg_id - 1, self.newest_time, time_ms))
        self._rise(agg_id, time_ms)
        if len(self.holes) > MAX_HOLES:
            # Not worth following any more: nothing up to its end is proved.
            self.proved_from = max(self.proved_from, self.holes.pop(0).until + 1)
            self.overflowed = True
        return Verdict.NEW

    def _contradict(self, newest: int, agg_id: int, time_ms: int, *, alone: bool) -> Verdict:
        """An id whose trade does not go with what has been seen.

        Args:
            newest: The newest id.
            agg_id: The id.
            time_ms: Its trade's time.
            alone: Whether this one is enough to show that the ledger may be wrong.
        """
        last, number, before = self._against
        number = number + 1 if before == newest and _is_near(last, agg_id) else 1
        self._against = (agg_id, number, newest)
        if agg_id == self._vouched:
            return Verdict.RESTARTS
        paced = time_ms >= self._restart_from
        agreed = number >= CONTRADICTIONS or alone
        return Verdict.RESTARTS if agreed and paced else Verdict.CONTRADICTS

    def _fill(self, agg_id: int, time_ms: int) -> Verdict:
        index = bisect_right(self.holes, agg_id, key=lambda hole: hole.first) - 1
        if index < 0 or agg_id > self.holes[index].last:
            return Verdict.DUPLICATE
        hole = self.holes[index]
        if self.covered_until < hole.since and time_ms < hole.since - MAX_DISORDER_MS:
            return Verdict.CONTRADICTS
        parts = []
        if hole.first < agg_id:
            parts.append(Hole(hole.first, agg_id - 1, hole.since, time_ms))
        if agg_id < hole.last:
            parts.append(Hole(agg_id + 1, hole.last, time_ms, hole.until))
        self.holes[index : index + 1] = parts
        self._against = (NO_ID, 0, NO_ID)
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


def mark_of(trade: AggTrade) -> int:
    """Return a number that tells a trade from any other, the same for stream and REST."""
    _, _, price, _, first_id, last_id, time_ms, _, _ = trade
    return hash((price, first_id, last_id, time_ms)) or 1


def _is_near(before: int, agg_id: int) -> bool:
    """Tell whether an id may well follow another one of the same stream."""
    return 0 < agg_id - before <= MAX_JUMP
