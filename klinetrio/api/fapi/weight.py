"""What requests would weigh at the exchange.

Programs made for it slow down by what its header says, and a monitor shows it.  Here it is counted and
told but nothing is refused for it: that everybody may ask as often as they like is what a copy of one's
own is for.  (Weights as measured by others in October 2026: the documentation is off by one at 100
and at 500.)

Invariants (tested in tests/api/fapi/test_weight.py):
  I1  The count begins anew with the UTC minute of the exchange's clock.
  I2  What is refused counts as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from klinetrio.domain.interval import MINUTE


if TYPE_CHECKING:
    from collections.abc import Mapping

HEADER = "X-MBX-USED-WEIGHT-1M"

AGG_TRADES = 20

_BY_LIMIT = ((100, 1), (500, 2), (1000, 5))
_ABOVE = 10
# 500 rows that were not asked for by number weigh more than those that were.
_WITHOUT_LIMIT = 5


class WeightMeter:
    """The weight of the requests of one minute, of all clients together."""

    def __init__(self) -> None:
        self._minute = 0
        self._used = 0

    def charge(self, weight: int, now_ms: int) -> int:
        """Count a request; return the minute's weight with it."""
        minute = now_ms // MINUTE
        if minute != self._minute:
            self._minute, self._used = minute, 0
        self._used += weight
        return self._used


def one(_: Mapping[str, str]) -> int:
    """Return the weight of most requests."""
    return 1


def agg_trades(_: Mapping[str, str]) -> int:
    """Return the weight of aggregate trades, however many."""
    return AGG_TRADES


def klines(given: Mapping[str, str]) -> int:
    """Return the weight of klines; a limit that is no number weighs like none."""
    limit = given.get("limit", "")
    if not (limit.isascii() and limit.isdigit()):
        return _WITHOUT_LIMIT
    return next((weight for highest, weight in _BY_LIMIT if int(limit) <= highest), _ABOVE)


def ticker_price(given: Mapping[str, str]) -> int:
    """Return the weight of prices: of one symbol, or of all."""
    return 1 if "symbol" in given else 2


def ticker_day(given: Mapping[str, str]) -> int:
    """Return the weight of 24 hours: of one symbol, or of all."""
    return 1 if "symbol" in given else 40
