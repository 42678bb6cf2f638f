"""Bars of intervals that are not kept, as they move.

The open bar of three minutes is the closed minutes of it and the open one.  The closed ones are read
from the history once, when somebody begins to follow; from then on each comes with the swap in which
it closes.  What closes while they are being read comes both ways, and counts once.

Invariants (tests/api/test_folding.py):
  I1  Once read, the open bar of any swap is what ``derived.open_bar`` would return.
  I2  Of each bar that ends after it was read one final is told: the fold of its parts as they are then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from klinetrio.api.pages import in_time
from klinetrio.api.problems import ApiError
from klinetrio.domain.kline import FLAGS, OPEN_TIME, Flag, has_row, is_final, revision_of
from klinetrio.engine.fold import join


if TYPE_CHECKING:
    from collections.abc import Iterable

    from klinetrio.api.hub import PushHub
    from klinetrio.api.names import OpenMarket
    from klinetrio.api.ports import Row
    from klinetrio.api.topics import Topic
    from klinetrio.domain.interval import Interval

# A month of days are 31.  As numbers 100 bars are 60 KB, of each series that somebody follows.
MAX_PARTS = 100

# What could not be read is tried again so long after.
RETRY_S = 1.0


class Folding:
    """The bar of one series that is told now, in parts.

    Args:
        interval: Of the bar.
        source: Of its parts.

    Attributes:
        is_read: Whether its closed parts are all here; nothing is told before.
        resets: How often everything was forgotten.
    """

    def __init__(self, interval: Interval, source: Interval) -> None:
        self.is_read = False
        self.resets = 0
        self._interval = interval
        self._source = source
        self._opens = 0
        self._parts: dict[int, Row] = {}
        # The fold of all parts, until there is another one.
        self._closed: Row | None = None

    def reset(self) -> None:
        """Forget everything, as nobody follows any more."""
        self.is_read = False
        self.resets += 1
        self._begin(0)

    def opens_at(self, live: Row) -> int:
        """Return the open time of the bar to which the open bar of the source belongs."""
        return self._interval.open_of(live[OPEN_TIME])

    def take(self, opens: int, bars: Iterable[Row]) -> None:
        """Take what was read: closed bars of the source, from the open time of a bar on."""
        if opens > self._opens:
            self._begin(opens)
        for bar in bars:
            if is_final(bar) and self._interval.open_of(bar[OPEN_TIME]) == self._opens:
                self._put(bar)
        self.is_read = True

    def close(self, bar: Row) -> Row | None:
        """Take a closed bar of the source; return the bar that ends with it, if one does."""
        opens = self._interval.open_of(bar[OPEN_TIME])
        if opens < self._opens:
            return None  # of a bar that has been told already
        if opens > self._opens:
            self._begin(opens)
        self._put(bar)
        over = self._interval.next_open(opens)
        if self._source.next_open(bar[OPEN_TIME]) < over:
            return None
        ended = self._fold()
        self._begin(over)
        return [*ended[:FLAGS], int(Flag.FINAL)] if self.is_read else None

    def live(self, live: Row) -> Row | None:
        """Return the open bar, None as long as its past is not here."""
        if not self.is_read:
            return None
        if self.opens_at(live) != self._opens or not self._parts:
            return [self.opens_at(live), *live[1:]]
        return join(self._fold(), live)

    def _begin(self, opens: int) -> None:
        self._opens = opens
        self._parts.clear()
        self._closed = None

    def _put(self, bar: Row) -> None:
        known = self._parts.get(bar[OPEN_TIME])
        if known is None or revision_of(bar) >= revision_of(known):
            self._parts[bar[OPEN_TIME]] = bar
            self._closed = None

    def _fold(self) -> Row:
        if self._closed is None:
            first, *others = (self._parts[each] for each in sorted(self._parts))
            folded: Row = [self._opens, *first[1:]]
            for part in others:
                folded = join(folded, part)
            self._closed = folded
        return self._closed


class Unread:
    """The topics of folded series whose past has to be read before anything is told."""

    def __init__(self) -> None:
        self._folds: dict[Topic, Folding] = {}
        self._some = trio.Event()

    def add(self, topic: Topic, fold: Folding) -> None:
        """Have the past of a topic read."""
        self._folds[topic] = fold
        self._some.set()

    def discard(self, topic: Topic) -> None:
        """Leave a topic alone."""
        if self._folds.pop(topic, None) and not self._folds:
            self._some = trio.Event()

    def __contains__(self, topic: Topic) -> bool:
        return topic in self._folds

    async def some(self) -> list[tuple[Topic, Folding]]:
        """Wait until there are any, and return all."""
        await self._some.wait()
        return list(self._folds.items())


class FoldReader:
    """Reads the parts of series that somebody has begun to follow.

    Args:
        opened: Where the bars are.
        hub: Whose followers.
    """

    def __init__(self, opened: OpenMarket, hub: PushHub) -> None:
        self._opened = opened
        self._hub = hub

    async def run(self) -> None:
        """Read, for ever."""
        while True:
            read = 0
            try:
                for topic, fold in await self._hub.unread.some():
                    read += await self._read(topic, fold)
            except ApiError:
                read = 0
            if not read:
                await trio.sleep(RETRY_S)

    async def _read(self, topic: Topic, fold: Folding) -> bool:
        """Read one; tell whether it could be."""
        market = self._opened.market
        live = market.live_row(topic.index)
        if not has_row(live):
            return False  # its past is still being fetched, if it has any
        opens, resets = fold.opens_at(live), fold.resets
        with in_time():
            bars = await market.klines(topic.index, start=opens, end=None, limit=MAX_PARTS + 1)
        if topic in self._hub.unread and fold.resets == resets:
            fold.take(opens, bars)
            self._hub.now_read(topic)
        return True
