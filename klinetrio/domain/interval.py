"""Kline intervals: the names of Binance and the time grid behind each.

A bar is the half-open span ``[open_time, next_open(open_time))`` in UTC milliseconds.  Minutes,
hours and days lie on the grid of the UTC epoch; weeks open on Monday 00:00 UTC; months follow
the calendar.  (Source: Binance's kline documentation, checked on recorded klines of every
length.)
"""

from __future__ import annotations

from calendar import timegm
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import attrs
import numpy as np


if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
WEEK = 7 * DAY

# 1970-01-01 was a Thursday; the first Monday 00:00 UTC came four days later.
FIRST_MONDAY = 4 * DAY

_LENGTHS = {
    "1m": MINUTE,
    "3m": 3 * MINUTE,
    "5m": 5 * MINUTE,
    "15m": 15 * MINUTE,
    "30m": 30 * MINUTE,
    "1h": HOUR,
    "2h": 2 * HOUR,
    "4h": 4 * HOUR,
    "6h": 6 * HOUR,
    "8h": 8 * HOUR,
    "12h": 12 * HOUR,
    "1d": DAY,
    "3d": 3 * DAY,
    "1w": WEEK,
    # Nominal only, for ordering: the grid of months is the calendar's.
    "1M": 30 * DAY,
}


@attrs.frozen(order=False, slots=True)
class Interval:
    """One kline interval.

    Attributes:
        name: Binance's name, as in ``1m`` or ``1w``.
        length: Milliseconds; nominal (30 days) for ``1M``.
        offset: Where the grid starts, in ms after the epoch.
    """

    name: str
    length: int
    offset: int

    @property
    def is_calendar(self) -> bool:
        """Whether bars follow the calendar instead of a fixed length."""
        return self.name == "1M"

    def open_of(self, time_ms: int) -> int:
        """Return the open time of the bar that contains ``time_ms``."""
        if self.is_calendar:
            moment = datetime.fromtimestamp(time_ms / 1000, UTC)
            return timegm((moment.year, moment.month, 1, 0, 0, 0)) * 1000
        return time_ms - (time_ms - self.offset) % self.length

    def next_open(self, open_time: int) -> int:
        """Return the open time of the bar after the one that opens at ``open_time``."""
        if self.is_calendar:
            # 32 days after the first of a month is always in the next month.
            return self.open_of(open_time + 32 * DAY)
        return open_time + self.length

    def previous_open(self, open_time: int) -> int:
        """Return the open time of the bar before the one that opens at ``open_time``."""
        return self.open_of(open_time - 1)

    def close_of(self, open_time: int) -> int:
        """Return the last millisecond of the bar: Binance's ``close_time``."""
        return self.next_open(open_time) - 1

    def ordinal(self, open_time: int) -> int:
        """Return the bar's number on its grid; consecutive bars have consecutive numbers."""
        if self.is_calendar:
            moment = datetime.fromtimestamp(open_time / 1000, UTC)
            return moment.year * 12 + moment.month
        return (open_time - self.offset) // self.length

    def open_of_many(self, times_ms: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return ``open_of`` of each time, vectorised."""
        if self.is_calendar:
            months = times_ms.astype("datetime64[ms]").astype("datetime64[M]")
            return months.astype("datetime64[ms]").astype(np.int64)
        return times_ms - (times_ms - self.offset) % self.length

    def next_open_of_many(self, open_times: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return ``next_open`` of each open time, vectorised."""
        if self.is_calendar:
            return self.open_of_many(open_times + 32 * DAY)
        return open_times + self.length

    def ordinal_of_many(self, open_times: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return ``ordinal`` of each open time, vectorised."""
        if self.is_calendar:
            months = open_times.astype("datetime64[ms]").astype("datetime64[M]").astype(np.int64)
            return months + 1970 * 12 + 1
        return (open_times - self.offset) // self.length

    def opens_between(self, start: int, end: int) -> npt.NDArray[np.int64]:
        """Return the open times in ``[start, end)``, ascending."""
        first = self.open_of(start)
        if first < start:
            first = self.next_open(first)
        if not self.is_calendar:
            return np.arange(first, max(first, end), self.length, dtype=np.int64)
        opens = []
        while first < end:
            opens.append(first)
            first = self.next_open(first)
        return np.array(opens, np.int64)

    def contains(self, other: Interval) -> bool:
        """Tell whether every bar of ``other`` lies inside one bar of this interval."""
        if self.is_calendar:
            return other.is_calendar or other.length <= DAY
        if other.is_calendar:
            return False
        return self.length % other.length == 0 and (self.offset - other.offset) % other.length == 0

    def __str__(self) -> str:
        return self.name


# Weeks hang on Monday; every other length, three days included, on the epoch.
INTERVALS: dict[str, Interval] = {
    name: Interval(name, length, FIRST_MONDAY if name == "1w" else 0)
    for name, length in _LENGTHS.items()
}

DEFAULT_INTERVALS = ("1m", "5m", "15m", "30m", "1h", "4h", "1d", "1w")


def parse_intervals(names: Iterable[str]) -> tuple[Interval, ...]:
    """Return the named intervals, shortest first.

    Raises:
        KeyError: An unknown name; its argument is that name.
    """
    return tuple(sorted({INTERVALS[name] for name in names}, key=lambda each: each.length))
