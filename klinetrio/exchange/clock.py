"""The exchange's time, as well as it can be known here.

Bars close on the exchange's clock, not on this machine's.  The base is Trio's monotonic clock, so
a wall clock that is set or steps changes nothing.  Each observation of the server's time is
trusted according to its round trip: of the last few, the one with the shortest wins.

Invariant (tested in tests/exchange/test_clock.py):
  I1  ``now_ms`` never goes back: after a correction backwards it stands still until time has
      caught up.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import trio

from klinetrio.logs import log_event


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

log = logging.getLogger("klinetrio.clock")

# Beyond this the machine's own clock deserves a warning (DESIGN: the exchange's clock rules all
# the same).
SKEW_WARNING_MS = 500

SYNC_INTERVAL_S = 60.0

# Two good clocks drift apart by up to 100 ppm: 30 ms in the five minutes that samples are kept.
DRIFT_MS = 30
_SAMPLES = 5

# Drift is told once it stands out from the round trips, and over so long at most.
DRIFT_AFTER_S = 600.0
DRIFT_FORGET_S = 6 * 3600.0


class _Sample(NamedTuple):
    round_trip_s: float
    offset_ms: float
    at: float


class ExchangeClock:
    """The exchange's time in ms.

    Args:
        rate: How many exchange seconds pass per second here; other than 1 only where a simulated
            exchange runs fast.
        wall: The machine's clock in seconds, which only serves until the first observation and
            for telling the skew.

    Attributes:
        observed: Whether the exchange has been asked at least once.
        error_ms: By how much the time can be wrong: half the round trip that it is based on.
        drift_ppm: By how many parts in a million this machine's clock runs slower than the
            exchange's, over the last hours; None for the first ten minutes.
    """

    def __init__(self, rate: float = 1.0, wall: Callable[[], float] = time.time) -> None:
        self._rate = rate
        self._wall = wall
        self._samples: deque[_Sample] = deque(maxlen=_SAMPLES)
        self._offset_ms = wall() * 1000 - self._elapsed_ms()
        self._latest = 0
        self.observed = False
        self.error_ms = 0.0
        self.drift_ppm: float | None = None
        self._reference: _Sample | None = None

    def _elapsed_ms(self) -> float:
        return trio.current_time() * 1000 * self._rate

    def now_ms(self) -> int:
        """Return the exchange's time, UTC ms."""
        now = int(self._elapsed_ms() + self._offset_ms)
        self._latest = max(self._latest, now)
        return self._latest

    def seconds_until(self, time_ms: int) -> float:
        """Return the seconds from now to a moment of the exchange; negative if it is past."""
        return (time_ms - self._offset_ms - self._elapsed_ms()) / 1000 / self._rate

    async def sleep_until(self, time_ms: int) -> None:
        """Sleep until the exchange's clock shows ``time_ms``; always a checkpoint."""
        await trio.sleep(max(0.0, self.seconds_until(time_ms)))

    def observe(self, server_ms: int, sent: float, received: float) -> None:
        """Take an observation of the exchange's time.

        Args:
            server_ms: What the exchange said.
            sent: Trio time at which it was asked.
            received: Trio time at which the answer was here.
        """
        middle_ms = (sent + received) / 2 * 1000 * self._rate
        newest = _Sample(received - sent, server_ms - middle_ms, received)
        # A sample that contradicts the newest beyond what both can err is from before a step, as
        # after the machine was suspended.
        agreeing = [each for each in self._samples if self._agree(each, newest)]
        self._samples.clear()
        self._samples.extend([*agreeing, newest])
        best = min(self._samples)
        self._offset_ms = best.offset_ms
        self.error_ms = best.round_trip_s / 2 * 1000 * self._rate
        self._measure_drift(best)
        if not self.observed:
            # What the machine's own clock said until now binds nobody.
            self._latest = 0
        self.observed = True

    def _measure_drift(self, sample: _Sample) -> None:
        """Compare two observations that lie far apart."""
        if self._reference is None:
            self._reference = sample
        apart = sample.at - self._reference.at
        if apart >= DRIFT_AFTER_S:
            gained_ms = sample.offset_ms - self._reference.offset_ms
            self.drift_ppm = round(gained_ms / apart * 1000, 1)
        if apart >= DRIFT_FORGET_S:
            self._reference = sample

    def _agree(self, one: _Sample, other: _Sample) -> bool:
        error_ms = (one.round_trip_s + other.round_trip_s) / 2 * 1000 * self._rate
        return abs(one.offset_ms - other.offset_ms) <= error_ms + DRIFT_MS

    def skew_ms(self) -> float:
        """Return how far the machine's wall clock is ahead of the exchange's, ms."""
        return self._wall() * 1000 - (self._elapsed_ms() + self._offset_ms)


async def run_clock_sync(clock: ExchangeClock, ask: Callable[[], Awaitable[int]]) -> None:
    """Keep the clock in step for ever; ``ask`` returns the exchange's time in ms."""
    while True:
        sent = trio.current_time()
        server_ms = await ask()
        clock.observe(server_ms, sent, trio.current_time())
        skew = clock.skew_ms()
        if abs(skew) > SKEW_WARNING_MS:
            log_event(log, logging.WARNING, "clock_skew", skew_ms=round(skew))
        await trio.sleep(SYNC_INTERVAL_S)
