"""What memory alone can tell of a series: the open bar, and the closed ones before it.

For the time in which the database cannot be read.  Books keep two hours of closed bars to correct
them, which is all that most people ask for who ask again and again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from klinetrio.domain.kline import OPEN_TIME, has_row


if TYPE_CHECKING:
    from collections.abc import Sequence

    from klinetrio.engine.engine import Engine


class RememberedBars:
    """The bars in the memory of an engine.

    Args:
        engine: Whose.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def read(
        self, series: int, *, start: int | None, end: int | None, limit: int
    ) -> list[Sequence[int]] | None:
        """Return bars of one series as ``History.klines`` does; None if one of them is not here.

        Args:
            series: Its row.
            start: Lowest open time, inclusive.
            end: Highest open time, inclusive.
            limit: How many: the first ones from ``start`` if it is given, else the last ones.
        """
        registry = self._engine.registry
        live = self._engine.store.live_row(series)
        if not has_row(live):
            return None
        index, period = divmod(series, registry.period_count)
        recent, interval = self._engine.book(index).closed.recent, registry.intervals[period]
        open_time = live[OPEN_TIME] if end is None else min(interval.open_of(end), live[OPEN_TIME])
        bars: list[Sequence[int]] = []
        while (start is None and len(bars) < limit) or (start is not None and open_time >= start):
            bar = live if open_time == live[OPEN_TIME] else recent.get(period, open_time)
            if bar is None:
                return None
            bars.append(bar)
            open_time = interval.previous_open(open_time)
        bars.reverse()
        return bars[:limit]
