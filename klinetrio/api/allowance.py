"""How much a client may say."""

from __future__ import annotations

import trio


class Allowance:
    """So much at once, so much per second in the long run."""

    def __init__(self, *, per_second: float, burst: float) -> None:
        self._per_second = per_second
        self._burst = burst
        self._left = burst
        self._asked_at = trio.current_time()

    def take(self, cost: float) -> bool:
        """Take ``cost`` of it, if so much is left."""
        now = trio.current_time()
        self._left = min(self._burst, self._left + (now - self._asked_at) * self._per_second)
        self._asked_at = now
        if self._left < cost:
            return False
        self._left -= cost
        return True
