"""The exchange's clock: Trio's clock, moved to any date and run at any speed.

Everything of the simulated exchange reads this clock and no other, so a test on
``autojump_clock`` or a replay at ten times the speed moves the whole exchange at once.

Invariants:
  I1  between hold() and release() time stands still; otherwise it runs at ``rate``.
  I2  the skew changes what the exchange *says* the time is, never what it does.
"""

from __future__ import annotations

import time

import attrs
import trio


@attrs.define
class SimClock:
    """A clock that starts at its first reading.

    Attributes:
        start_ms: What it shows at its first reading, UTC ms; ``None`` is the wall clock's time.
        rate: How many seconds pass on it in one second of Trio's clock.
        held: Whether time stands still until ``release``.
        skew_ms: A fault: how far the time told to clients is ahead.
    """

    start_ms: int | None = None
    rate: float = 1.0
    held: bool = attrs.field(default=False, kw_only=True)
    skew_ms: int = attrs.field(default=0, kw_only=True)
    _anchor: float | None = attrs.field(default=None, init=False)

    def now_ms(self) -> int:
        """Return the time, UTC ms."""
        start = self._start()
        if self.held:
            return start
        return start + int((trio.current_time() - self._anchor_time()) * 1000 * self.rate)

    def told_ms(self) -> int:
        """Return the time as clients are told it."""
        return self.now_ms() + self.skew_ms

    def trio_time_of(self, ms: int) -> float:
        """Return when Trio's clock will be at ``ms``; for a held clock, if it were released now."""
        base = trio.current_time() if self.held else self._anchor_time()
        return base + (ms - self._start()) / (1000 * self.rate)

    def hold(self) -> None:
        """Let time stand still."""
        self.start_ms = self.now_ms()
        self.held = True

    def release(self) -> None:
        """Let time run, from where it was held."""
        self.held = False
        self._anchor = trio.current_time()

    def _start(self) -> int:
        if self.start_ms is None:
            self.start_ms = time.time_ns() // 1_000_000
        return self.start_ms

    def _anchor_time(self) -> float:
        if self._anchor is None:
            self._anchor = trio.current_time()
        return self._anchor
