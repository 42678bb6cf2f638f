"""The request weight of REST calls, as measured on Binance's side in October 2026.

Invariants:
  I1  used weight falls to zero at the UTC minute (of the exchange's clock), not in a sliding
      window.
  I2  whatever is answered has been charged, refusals included.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from klinetrio.domain.interval import MINUTE
from klinetrio.sim.instruments import WEIGHT_PER_MINUTE


if TYPE_CHECKING:
    from klinetrio.sim.clock import SimClock

# (highest limit, weight): the documentation is off by one at 100 and at 500.
_KLINES = ((100, 1), (500, 2), (1000, 5))
_KLINES_ABOVE = 10
_KLINES_WITHOUT_LIMIT = 5
AGG_TRADES_WEIGHT = 20


def klines_weight(limit: int | None) -> int:
    """Return the weight of a klines call; without a limit it is 5, though 500 rows cost 2."""
    if limit is None:
        return _KLINES_WITHOUT_LIMIT
    return next((weight for highest, weight in _KLINES if limit <= highest), _KLINES_ABOVE)


@attrs.frozen
class RateLimits:
    """How strict the exchange is.

    Attributes:
        weight_per_minute: Allowed per UTC minute.
        warnings: How many calls above that get a 429 before the address is banned.
        ban_s: How long a ban lasts, seconds of the exchange's clock.
        retry_after: Whether 429 and 418 carry the header ``Retry-After``.
    """

    weight_per_minute: int = WEIGHT_PER_MINUTE
    warnings: int = 3
    ban_s: int = 120
    retry_after: bool = True


@attrs.frozen
class Refusal:
    """The answer to a call that is not allowed; ``status`` is 429 or 418."""

    status: int
    message: str
    retry_after_s: int | None


@attrs.define
class WeightMeter:
    """Counts what one address uses.

    Attributes:
        used: Weight used in this minute.
        highest: The most that was used in any minute.
        refused: Calls refused for what they would have used, or during a ban.
        bans: How often the address was banned.
    """

    clock: SimClock
    limits: RateLimits
    used: int = 0
    highest: int = 0
    refused: int = 0
    bans: int = 0
    _minute: int = 0
    _warned: int = 0
    _banned_until: int = 0

    def charge(self, weight: int) -> Refusal | None:
        """Charge a call; return how to refuse it if it is one too many."""
        now = self.clock.now_ms()
        if now // MINUTE != self._minute:
            self._minute, self.used, self._warned = now // MINUTE, 0, 0
        self.used += weight
        self.highest = max(self.highest, self.used)
        if now < self._banned_until:
            self.refused += 1
            return self._banned(now)
        if self.used <= self.limits.weight_per_minute:
            return None
        self.refused += 1
        self._warned += 1
        if self._warned > self.limits.warnings:
            self.bans += 1
            self._banned_until = now + self.limits.ban_s * 1000
            return self._banned(now)
        message = (
            f"Too many requests; current limit is {self.limits.weight_per_minute} requests per "
            "minute. Please use the websocket for live updates to avoid polling the API."
        )
        return Refusal(429, message, self._retry_after(MINUTE - now % MINUTE))

    def _banned(self, now: int) -> Refusal:
        message = (
            f"Way too many requests; IP banned until {self._banned_until}. Please use the "
            "websocket for live updates to avoid bans."
        )
        return Refusal(418, message, self._retry_after(self._banned_until - now))

    def _retry_after(self, wait_ms: int) -> int | None:
        return -(-wait_ms // 1000) if self.limits.retry_after else None
