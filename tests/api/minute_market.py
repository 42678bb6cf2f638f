"""A market in memory whose bars of every interval are the plain fold of given minutes.

The fold is written out bar by bar, without a look at the daemon's, so that comparing means something.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from klinetrio.domain.interval import INTERVALS, MINUTE
from klinetrio.domain.kline import (
    CLOSE,
    FIRST_AGG_ID,
    FLAGS,
    HIGH,
    LAST_AGG_ID,
    LOW,
    OPEN,
    TAKER_BUY_QUOTE_VOLUME,
    TRADE_COUNT,
    VOLUME,
    Flag,
)
from tests.api.memory_market import SYMBOLS, MemoryMarket


if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from klinetrio.domain.interval import Interval

    Bar = list[int]


def random_minutes(seed: int, opens: Iterable[int]) -> list[Bar]:
    """Return minute bars at these open times, a third of them without trades."""
    rng = Random(seed)  # noqa: S311  (made-up trades)
    price, agg_id, bars = 1000, 100, []
    for open_time in opens:
        count = rng.choice((0, 1, 3))
        bar = [open_time, price, price, price, price, 0, 0, 0, 0, 0, agg_id + 1, agg_id, 0]
        if count:
            prices = [max(1, price + rng.randint(-9, 9)) for _ in range(count)]
            volume = rng.randint(1, 50)
            bar[OPEN:VOLUME] = [prices[0], max(prices), min(prices), prices[-1]]
            bar[VOLUME:FIRST_AGG_ID] = [volume, volume * prices[0], count, volume // 2, volume]
            agg_id += count
            bar[LAST_AGG_ID] = agg_id
            price = prices[-1]
        bars.append(bar)
    return bars


def plain_fold(minutes: Sequence[Bar], interval: Interval) -> list[Bar]:
    """Return the bars of an interval that minutes add up to, without flags."""
    groups: dict[int, list[Bar]] = {}
    for minute in minutes:
        groups.setdefault(interval.open_of(minute[0]), []).append(minute)
    return [_plain_bar(open_time, groups[open_time]) for open_time in sorted(groups)]


def _plain_bar(open_time: int, parts: list[Bar]) -> Bar:
    traded = [part for part in parts if part[TRADE_COUNT]] or parts[-1:]
    bar = list(parts[-1])
    bar[0] = open_time
    bar[OPEN] = traded[0][OPEN]
    bar[HIGH] = max(part[HIGH] for part in traded)
    bar[LOW] = min(part[LOW] for part in traded)
    bar[CLOSE] = traded[-1][CLOSE]
    bar[FIRST_AGG_ID] = traded[0][FIRST_AGG_ID]
    for field in range(VOLUME, TAKER_BUY_QUOTE_VOLUME + 1):
        bar[field] = sum(part[field] for part in parts)
    return bar


class MinuteMarket(MemoryMarket):
    """A market of one symbol made of minutes, of which the last is open.

    Args:
        minutes: Ascending; there may be none before some time, and holes.
        intervals: Which ones the market keeps.
    """

    def __init__(self, minutes: Sequence[Bar], intervals: Sequence[str]) -> None:
        super().__init__(SYMBOLS[:1], intervals)
        self.minutes = minutes
        self.reads: list[int] = []
        newest = minutes[-1][0]
        self.now = newest + MINUTE // 2
        for row, name in enumerate(intervals):
            interval = INTERVALS[name]
            for bar in plain_fold(minutes, interval):
                final = interval.next_open(bar[0]) <= newest
                bar[FLAGS] = Flag.COMPLETE | (Flag.FINAL if final else 0)
                if final:
                    self._history[row][bar[0]] = tuple(bar)
                else:
                    self._write[row] = bar
        self.swap()

    async def klines(
        self, row: int, *, start: int | None, end: int | None, limit: int
    ) -> Sequence[Sequence[int]]:
        """Return bars, and take note of how many."""
        bars = await super().klines(row, start=start, end=end, limit=limit)
        self.reads.append(len(bars))
        return bars
