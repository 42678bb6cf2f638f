"""Bars of intervals that are not kept, as they move.

The open bar of three minutes is the closed minutes of it and the open one.  The closed ones are read
from the history once, when somebody begins to follow; from then on each comes with the swap in which
it closes.  What closes while they are being read comes both ways, and counts once.

Invariants (tests/api/test_folding.py):
  I1  Once read, the open bar of any swap is what ``derived.open_bar`` would return.  It is not read
      before the symbol's past is here, and again as long as it has holes.
  I2  Of each bar that ends after it was read one final is told: the fold of its parts as they are then.
"""

from __future__ import annotations

import math
from contextlib import suppress
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

# What could not be read is tried again so long after; what has a hole, which the history download may
# fill, so long after.
RETRY_S = 1.0
REREAD_S = 30.0


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

    def is_whole(self, live: Row) -> bool:
        """Tell whether no part is missing before the open bar of the source."""
        opens, until = self.opens_at(live), live[OPEN_TIME]
        while opens in self._parts and opens < until:
            opens = self._source.next_open(opens)
        return opens >= until

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
    """The topics of folded series whose past has to be read, and when."""

    def __init__(self) -> None:
        self._folds: dict[Topic, tuple[Folding, float]] = {}
        self._added = trio.Event()

    def add(self, topic: Topic, fold: Folding, *, in_s: float = 0.0) -> None:
        """Have the past of a topic read, after some time."""
        self._folds[topic] = fold, trio.current_time() + in_s
        self._added.set()

    def discard(self, topic: Topic) -> None:
        """Leave a topic alone."""
        self._folds.pop(topic, None)

    def __contains__(self, topic: Topic) -> bool:
        return topic in self._folds

    async def due(self) -> list[tuple[Topic, Folding]]:
        """Wait until the time of some has come, and return them."""
        while True:
            now = trio.current_time()
            ready = [(topic, fold) for topic, (fold, at) in self._folds.items() if at <= now]
            if ready:
                return ready
            self._added = trio.Event()
            with trio.move_on_after(RETRY_S if self._folds else math.inf):
                await self._added.wait()


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
        unread = self._hub.unread
        while True:
            for topic, fold in await unread.due():
                again_s: float | None = RETRY_S
                resets = fold.resets
                with suppress(ApiError):  # the history cannot be read just now
                    again_s = await self._read(topic, fold)
                if topic not in unread or fold.resets != resets:
                    continue  # nobody follows any more, or somebody anew
                unread.discard(topic)
                if again_s is not None:
                    unread.add(topic, fold, in_s=again_s)

    async def _read(self, topic: Topic, fold: Folding) -> float | None:
        """Read one; tell after how long it has to be read again, None if it is whole.

        Raises:
            ApiError: It could not be read.
        """
        market = self._opened.market
        live = market.live_row(topic.index)
        if not has_row(live) or not market.is_seeded(topic.index // len(market.intervals)):
            return RETRY_S  # its past is still being fetched, if it has any
        opens, resets = fold.opens_at(live), fold.resets
        with in_time():
            bars = await market.klines(topic.index, start=opens, end=None, limit=MAX_PARTS + 1)
        if topic not in self._hub.unread or fold.resets != resets:
            return None
        fold.take(opens, bars)
        self._hub.now_read(topic)
        return None if fold.is_whole(market.live_row(topic.index)) else REREAD_S
