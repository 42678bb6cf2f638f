"""The exchange's request weight, shared by every REST call.

Binance counts a weight per address and UTC minute and bans who does not stop at the limit, so all
calls ask here first.  The count starts over with the exchange's minute; what the server reports
in ``X-MBX-USED-WEIGHT-1M`` rules when it is higher than what we counted, because other programs
may share the address.  (Source: Binance's general info page; windows and weights measured
2026-10.)

Invariant (tested in tests/exchange/test_budget.py):
  I1  The weight granted in one minute of the exchange never exceeds ``limit * share``, although
      our clock may be half a second ahead or behind.
  I2  What can wait never uses up what live repair may need: history stops at 70 % of that.
"""

from __future__ import annotations

from enum import IntEnum
from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING

import trio

from klinetrio.domain.interval import MINUTE


if TYPE_CHECKING:
    from klinetrio.exchange.clock import ExchangeClock

LIMIT = 2_400

# What is left is for whoever else shares the address, and for calls counted late.
SHARE = 0.8

# Our clock may be ahead of the exchange's by this much; its minute must surely have begun.  What is
# granted this close to a turn counts in both minutes, because nobody knows in which it falls.
_MARGIN_MS = 500


class Priority(IntEnum):
    """Who goes first when the weight is short; lower is sooner."""

    LIVE = 0
    """The clock, the universe, repair of open bars."""

    SEED = 1
    """The past of symbols that have just started."""

    QUIET = 2
    """The newest trade of symbols that are silent: as dear as seven pasts, and most symbols trade
    before it is their turn."""

    AUDIT = 3
    """The comparison with the exchange's own klines."""

    HISTORY = 4
    """What has waited for years can wait another minute."""


# The part of our share that each may use up: what comes unforeseen must find some left.
_REACH = {
    Priority.LIVE: 1.0,
    Priority.SEED: 1.0,
    Priority.QUIET: 0.95,
    Priority.AUDIT: 0.85,
    Priority.HISTORY: 0.7,
}


class WeightBudget:
    """Grants request weight, at most ``limit * share`` per UTC minute of the exchange.

    Args:
        clock: The exchange's clock.
        limit: The exchange's limit per minute.
        share: The part of it that we may use.
    """

    def __init__(self, clock: ExchangeClock, *, limit: int = LIMIT, share: float = SHARE) -> None:
        self._clock = clock
        self._ceiling = int(limit * share)
        self._minute = 0
        self._used = 0
        self._used_at_turn = 0
        self._closed_until = 0.0
        self._order = count()
        self._waiting: list[tuple[int, int]] = []
        self.highest = 0

    @property
    def used(self) -> int:
        """Weight used in the current minute."""
        self._turn_minute()
        return self._used

    @property
    def spare(self) -> int:
        """Weight that could be granted at once."""
        return self._spare_for(Priority.LIVE)

    async def take(self, weight: int, priority: Priority = Priority.LIVE) -> None:
        """Wait until ``weight`` may be spent, and spend it.

        Whoever waits with a lower priority number goes first, then whoever came first.

        Cancellation: nothing has been spent.
        Blocking: until the exchange's next minute at least, if the weight is short.
        """
        weight = min(weight, int(self._ceiling * _REACH[priority]))
        ticket = (priority, next(self._order))
        heappush(self._waiting, ticket)
        try:
            # What is waited for is the minute's turn, not an event; nobody waits while weight
            # is to be had, because between push and pop there is no checkpoint.
            while not (self._waiting[0] == ticket and weight <= self._spare_for(priority)):  # noqa: ASYNC110
                await trio.sleep(self._pause(first=self._waiting[0] == ticket))
            heappop(self._waiting)
        except BaseException:
            self._waiting.remove(ticket)
            self._waiting.sort()
            raise
        self._used += weight
        if self._clock.now_ms() >= (self._minute + 1) * MINUTE - _MARGIN_MS:
            self._used_at_turn += weight
        self.highest = max(self.highest, self._used)

    def report(self, used: int) -> None:
        """Take note of the server's own count for the current minute."""
        self._turn_minute()
        self._used = max(self._used, used)

    def close_for(self, seconds: float) -> None:
        """Grant nothing for so long: the server told us to stay quiet."""
        self._closed_until = max(self._closed_until, trio.current_time() + seconds)

    def _spare_for(self, priority: Priority) -> int:
        if self._closed_until > trio.current_time():
            return 0
        return max(0, int(self._ceiling * _REACH[priority]) - self.used)

    def _turn_minute(self) -> None:
        minute = (self._clock.now_ms() - _MARGIN_MS) // MINUTE
        if minute != self._minute:
            self._used = self._used_at_turn if minute == self._minute + 1 else 0
            self._minute, self._used_at_turn = minute, 0

    def _pause(self, *, first: bool) -> float:
        """Return how long to wait before looking again."""
        closed = self._closed_until - trio.current_time()
        if closed > 0:
            return closed
        if not first:
            # Somebody before us is waiting; look again when it can have been served.
            return 0.05
        next_minute = (self._minute + 1) * MINUTE + _MARGIN_MS
        return max(0.01, self._clock.seconds_until(next_minute))
