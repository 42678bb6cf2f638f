"""What the exchange says, to compare with what its clients get from the daemon."""

from __future__ import annotations

import time
from typing import Any

import httpx2


# Within it a minute of six seconds has ended on any machine.
LIMIT_S = 120.0

# Where the columns of REST stand in the events of streams.
_COLUMNS = ("t", "o", "h", "l", "c", "v", "T", "q", "n", "V", "Q", "B")


class Exchange:
    """The simulated exchange, asked directly.

    Args:
        url: Where its REST interface is.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def get(self, route: str, **params: Any) -> Any:
        """Return the answer to a GET under ``/fapi/v1``."""
        reply = httpx2.get(f"{self._url}/fapi/v1/{route}", params=params, trust_env=False)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def klines(self, symbol: str, interval: str, start: int, end: int) -> list[list[Any]]:
        """Return the bars that open within a span."""
        bars: list[list[Any]] = self.get(
            "klines", symbol=symbol, interval=interval, startTime=start, endTime=end, limit=1500
        )
        return bars

    def assert_told(self, bar: dict[str, Any], symbol: str) -> None:
        """Fail unless a closed bar of a stream is the exchange's, to the last digit."""
        (truth,) = self.klines(symbol, bar["i"], bar["t"], bar["t"])
        assert [bar[key] for key in _COLUMNS] == truth


def numbers(bars: list[list[Any]]) -> list[list[float]]:
    """Return open time, prices and volume as libraries that deal in floats do."""
    return [[bar[0], *map(float, bar[1:6])] for bar in bars]


def closed(bars: list[list[Any]], now_ms: int) -> list[list[Any]]:
    """Return the bars whose time is over, and has been for long enough to be settled."""
    return [bar for bar in bars if bar[6] < now_ms - 60_000]


def deadline() -> float:
    """Return when whatever is waited for has failed."""
    return time.monotonic() + LIMIT_S
