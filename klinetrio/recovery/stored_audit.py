"""The audit on demand: stored minutes beside the exchange's, and what differs settled.

Longer bars are compared by themselves, so that they follow whatever was settled when, and however a
run before this one ended.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

import attrs
import numpy as np

from klinetrio.domain.interval import INTERVALS
from klinetrio.domain.kline import FIRST_AGG_ID, FLAGS, OPEN, OPEN_TIME, Flag
from klinetrio.exchange.budget import Priority
from klinetrio.insist import insist
from klinetrio.recovery.comparing import Comparison
from klinetrio.recovery.gaps import PAGE


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import numpy.typing as npt

    from klinetrio.domain.interval import Interval
    from klinetrio.domain.symbol import Symbol
    from klinetrio.engine.registry import SymbolPeriodRegistry
    from klinetrio.exchange.rest import BinanceRest

    Int64Array = npt.NDArray[np.int64]

T = TypeVar("T")

ONE_MINUTE = INTERVALS["1m"]


class StoredBars(Protocol):
    """The database; every method may raise StoreError, and nothing has changed then."""

    async def first_time(self, series: int) -> int | None:
        """Return the open time of a series' oldest stored bar, None if there is none."""
        ...

    async def read(self, series: int, start: int, end: int) -> Int64Array:
        """Return the bars of a series that open in ``[start, end)``, ascending."""
        ...

    async def settle(self, series: int, bars: Int64Array) -> int:
        """Put bars in the place of stored ones; return how many were written."""
        ...


@attrs.define(slots=True)
class StoredComparison(Comparison):
    """What the audit found of one symbol.

    Attributes:
        missing: Minutes that the exchange has and the database has not.
        longer: Longer bars that differ from the exchange's, or are not proved.
        settled: Bars of all intervals that were written.
    """

    missing: int = 0
    longer: int = 0
    settled: int = 0


class StoredAudit:
    """Audits stored bars.

    Args:
        store: Where they are.
        registry: The series, one of which is of minutes.
        rest: The exchange.
        settle: Whether what differs is replaced.
    """

    def __init__(
        self,
        store: StoredBars,
        registry: SymbolPeriodRegistry,
        rest: BinanceRest,
        *,
        settle: bool,
    ) -> None:
        self._store = store
        self._registry = registry
        self._rest = rest
        self._settle = settle

    async def audit(self, symbol: Symbol, since: int, until: int) -> StoredComparison:
        """Compare a symbol's bars that reach into ``[since, until)`` and are over by its end.

        What lies before the oldest stored bar of a series is none of the audit's business.

        Raises:
            Refused: The exchange will not answer that.

        Blocking: for as long as the exchange or the database cannot answer.
        Cancellation: what has been settled stays.
        """
        found = StoredComparison()
        for interval in self._registry.intervals:
            row = self._row(symbol, interval)
            first = await self._insist(partial(self._store.first_time, row))
            if first is None:
                continue
            start = max(first, interval.open_of(since))
            end = interval.open_of(until)
            while start < end:
                page = min(interval.open_of(start + PAGE * interval.length), end)
                await self._page(symbol, interval, start, page, found)
                start = page
        found.end()
        return found

    async def _page(
        self, symbol: Symbol, interval: Interval, start: int, end: int, found: StoredComparison
    ) -> None:
        """Compare the bars of a series in ``[start, end)``, and settle what differs."""
        row = self._row(symbol, interval)
        stored = await self._insist(partial(self._store.read, row, start, end))
        theirs = await self._ask(symbol, interval, start, end - 1)
        theirs = theirs[(theirs[:, OPEN_TIME] >= start) & (theirs[:, OPEN_TIME] < end)]
        ours = {bar[OPEN_TIME]: bar for bar in stored.tolist()}
        pairs = [(ours[bar[OPEN_TIME]], bar) for bar in theirs.tolist() if bar[OPEN_TIME] in ours]
        missing = [bar[OPEN_TIME] for bar in theirs.tolist() if bar[OPEN_TIME] not in ours]
        if interval is ONE_MINUTE:
            found.missing += len(missing)
            changed = found.take(pairs) + missing
        else:
            differing = [our[OPEN_TIME] for our, their in pairs if _differ(our, their)]
            found.longer += len(differing)
            changed = differing + missing
        if self._settle and changed:
            await self._write(row, theirs[np.isin(theirs[:, OPEN_TIME], changed)], found)

    async def _ask(self, symbol: Symbol, interval: Interval, start: int, end: int) -> Int64Array:
        ask = partial(
            self._rest.klines,
            symbol,
            interval,
            start=start,
            end=end,
            limit=PAGE,
            priority=Priority.AUDIT,
        )
        return await self._insist(ask)

    async def _write(self, row: int, bars: Int64Array, found: StoredComparison) -> None:
        bars[:, FLAGS] |= Flag.SETTLED
        written = await self._insist(partial(self._store.settle, row, bars))
        found.settled += written

    async def _insist(self, ask: Callable[[], Awaitable[T]]) -> T:
        return await insist("audit", ask)

    def _row(self, symbol: Symbol, interval: Interval) -> int:
        period = self._registry.intervals.index(interval)
        return self._registry.row(self._registry.index_of(symbol.name), period)


def _differ(ours: list[int], theirs: list[int]) -> bool:
    """Tell whether a bar is not as the exchange has it, or not proved."""
    same = ours[OPEN:FIRST_AGG_ID] == theirs[OPEN:FIRST_AGG_ID]
    return not (same and ours[FLAGS] & Flag.COMPLETE)
