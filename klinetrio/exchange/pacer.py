"""Pacing of connection attempts.

Binance documents no limit for futures, but bans addresses that connect wildly (spot: 300 attempts
in 5 minutes), and 500 symbols lost together must not come back together.
"""

from __future__ import annotations

import trio


class Pacer:
    """Lets one through at a time, evenly spaced.

    Args:
        per_minute: Attempts per minute.
    """

    def __init__(self, per_minute: float) -> None:
        self._spacing = 60.0 / per_minute
        self._next = 0.0

    async def wait(self) -> None:
        """Wait for the next place in the row; always a checkpoint.

        Cancellation: the place stays empty.
        """
        start = max(self._next, trio.current_time())
        self._next = start + self._spacing
        await trio.sleep_until(start)
