"""Percentiles of delays, in constant memory and a fraction of a microsecond per sample."""

from __future__ import annotations

from bisect import bisect_left


# Bounds from 1 us to about 70 minutes, each 2**(1/4) times the one before: 19 % resolution.
_BOUNDS = tuple(1e-6 * 2 ** (step / 4) for step in range(128))


class LatencyHistogram:
    """Counts delays by size; percentiles are the upper bound of their bucket."""

    __slots__ = ("_buckets", "count")

    def __init__(self) -> None:
        self._buckets = [0] * (len(_BOUNDS) + 1)
        self.count = 0

    def record(self, seconds: float) -> None:
        """Add one delay."""
        self._buckets[bisect_left(_BOUNDS, seconds)] += 1
        self.count += 1

    def percentile(self, share: float) -> float:
        """Return the delay in seconds that ``share`` (0 to 1) of the samples do not exceed."""
        wanted = share * self.count
        seen = 0
        for index, number in enumerate(self._buckets):
            seen += number
            if number and seen >= wanted:
                return _BOUNDS[min(index, len(_BOUNDS) - 1)]
        return 0.0

    def take(self) -> LatencyHistogram:
        """Return what was recorded so far and start anew."""
        taken = LatencyHistogram()
        taken._buckets, self._buckets = self._buckets, taken._buckets
        taken.count, self.count = self.count, 0
        return taken
