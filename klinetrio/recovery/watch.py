"""Finds symbols that are silent out of proportion to their own trade rate.

An acknowledged subscription proves nothing: a wrong route, a name the exchange does not stream, or a
stream that died on its side while the connection goes on answering pings all look like a symbol that
nobody trades.  So a silence is compared with the symbol's own pace; when it is out of proportion the
book becomes unsure, its open bars stop claiming to be complete, and the repair desk asks the
exchange.  If that knows no newer trade either, the symbol is quiet and the next silence has to be
twice as long; else the stream is deaf, and its connection is opened again.

Invariants (tested in tests/recovery/test_watch.py):
  I1  A symbol that trades at its pace is never suspected.
  I2  A silence that stays confirmed is suspected ever more rarely: after 1, 3, 7, ... times its
      first patience, and never sooner than ``MOST_PATIENCE_S`` once that is reached.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import trio


if TYPE_CHECKING:
    from klinetrio.engine.engine import Engine
    from klinetrio.recovery.repair import RepairDesk

LOOK_EVERY_S = 1.0

# A silence of so many mean gaps.  Of independent trades one in 10**13 gaps is that long; real ones
# come in bursts, so it is many more, and each costs one request.
GAPS = 30.0

# A busy symbol is not suspected for less: a stall of the network or of this machine is none of its.
LEAST_PATIENCE_S = 15.0

# Nor is the quietest left alone for more: 500 symbols cost at most 84 of 2,400 weight a minute then.
MOST_PATIENCE_S = 7_200.0

# How long a symbol may take to show its pace.
FIRST_PATIENCE_S = 60.0

# The pace is the mean of about so many gaps, and known from so many on.
_MEMORY = 50.0
_KNOWN = 2.0


@attrs.define(slots=True)
class Pace:
    """What is known of one symbol's rhythm.

    Attributes:
        heard: Trades that the stream has brought until the last look.
        since: When it was last heard, or its feed came up, on Trio's clock.
        gap_s: Mean time between trades; 0 if not known.
        known: How many gaps that is the mean of.
        doublings: How often in a row its silence was suspected.
    """

    heard: int
    since: float
    gap_s: float = 0.0
    known: float = 0.0
    doublings: int = 0

    def hear(self, heard: int, now: float) -> bool:
        """Take note of how many trades have been heard in all; tell whether any is new."""
        new = heard - self.heard
        self.heard = heard
        if new <= 0:
            # A book that was replaced counts from 0.
            return False
        gap = (now - self.since) / new
        self.known = min(self.known + new, _MEMORY)
        weight = min(1.0, new / self.known)
        self.gap_s += (gap - self.gap_s) * weight
        self.since = now
        self.doublings = 0
        return True

    @property
    def patience_s(self) -> float:
        """How long a silence is in proportion."""
        first = FIRST_PATIENCE_S if self.known < _KNOWN else GAPS * self.gap_s
        longest = max(LEAST_PATIENCE_S, first) * (2.0 ** (self.doublings + 1) - 1)
        return min(longest, MOST_PATIENCE_S * (self.doublings + 1))


class SilenceWatch:
    """Looks at all symbols once a second.

    Args:
        engine: Whose books are watched.
        desk: Knows which trades it fetched itself: those prove nothing of the stream.

    Attributes:
        suspected: How often a silence was out of proportion.
    """

    def __init__(self, engine: Engine, desk: RepairDesk) -> None:
        self.suspected = 0
        self._engine = engine
        self._desk = desk
        self._paces: list[Pace] = []

    async def run(self) -> None:
        """Watch for ever."""
        now = trio.current_time()
        symbols = range(len(self._engine.registry.symbols))
        self._paces = [Pace(self._heard(index), now) for index in symbols]
        while True:
            await trio.sleep(LOOK_EVERY_S)
            self.look(trio.current_time())

    def look(self, now: float) -> None:
        """Suspect every symbol whose silence is out of proportion."""
        for index, pace in enumerate(self._paces):
            if pace.hear(self._heard(index), now):
                self._desk.deaf.discard(index)
            book = self._engine.book(index)
            if not book.feed_up:
                pace.since = now
            elif now - pace.since > pace.patience_s and book.sound and not book.needs_repair:
                pace.doublings += 1
                self.suspected += 1
                book.doubt()
                book.flush()

    def _heard(self, index: int) -> int:
        counts = self._engine.book(index).counts
        taken = counts.folded + counts.duplicates + counts.covered + counts.refused
        return taken - self._desk.fetched[index]
