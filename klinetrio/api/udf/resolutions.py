"""Intervals under the names that TradingView gives them: minutes are numbers, days ``1D``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from klinetrio.domain.interval import DAY, INTERVALS, MINUTE


if TYPE_CHECKING:
    from collections.abc import Sequence

    from klinetrio.domain.interval import Interval


def resolution_of(interval: Interval) -> str:
    """Return TradingView's name of an interval."""
    if interval.length < DAY:
        return str(interval.length // MINUTE)
    return interval.name if interval.is_calendar else interval.name.upper()


RESOLUTIONS = {resolution_of(each): each.name for each in INTERVALS.values()}
"""Names of intervals by resolution."""

# One of a unit may be written without its number.
_SHORT = {"D": "1D", "W": "1W", "M": "1M"}


def interval_name(resolution: str) -> str:
    """Return the name of an interval by its resolution; what is unknown comes back as it is."""
    return RESOLUTIONS.get(_SHORT.get(resolution, resolution), resolution)


def multipliers(intervals: Sequence[Interval], unit: str) -> list[str]:
    """Return how many of a unit the intervals have, as TradingView asks for them.

    Args:
        intervals: Those that can be asked for.
        unit: ``D``, ``W`` or ``M``; empty for minutes.
    """
    names = [resolution_of(each) for each in intervals]
    if not unit:
        return [name for name in names if name.isdigit()]
    return [name.removesuffix(unit) for name in names if name.endswith(unit)]
