"""All stored series of one symbol, read page by page beside whoever writes them; it may block."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import attrs
import numpy as np

from klinetrio.domain.kline import OPEN_TIME
from klinetrio.engine.registry import SymbolPeriodRegistry
from klinetrio.errors import ScalesChanged
from klinetrio.tools.finding import Findings, Found
from klinetrio.tools.fold_check import FoldCheck
from klinetrio.tools.series_check import SeriesCheck


if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from klinetrio.domain.interval import Interval
    from klinetrio.domain.symbol import Symbol
    from klinetrio.storage.protocol import Int64Array, KlineStore

# 12 MB while they are read.
PAGE_BARS = 20_000

FIRST_TIME, LAST_TIME = -(2**63), 2**63 - 1


@attrs.define(slots=True)
class Diagnosis:
    """What has been found in one series.

    Attributes:
        symbol: The exchange's name.
        interval: Its name.
        bars: How many there are.
        findings: By kind; only kinds that there are.
    """

    symbol: str
    interval: str
    bars: int = 0
    findings: Findings = attrs.field(factory=dict)

    def add(self, findings: Findings) -> None:
        """Take over what a check has found."""
        for kind, found in findings.items():
            self.findings.setdefault(kind, Found()).join(found)


def examine(
    database: KlineStore,
    symbol: Symbol,
    intervals: Sequence[Interval],
    *,
    span: tuple[int, int],
    now_ms: int,
    page: int = PAGE_BARS,
) -> list[Diagnosis]:
    """Check the stored series of one symbol, and each with the longest shorter one that divides it.

    Args:
        database: Open.
        symbol: As it is stored.
        intervals: Those that it has, shortest first.
        span: The first and the last open time that is looked at.
        now_ms: The time by this machine's clock.
        page: Bars that are read at once.

    Raises:
        ScalesChanged: A daemon that has started since has multiplied the bars.
        StoreError: The database failed.
    """
    database.consult(SymbolPeriodRegistry((symbol,), intervals))
    checked = database.read_checked()
    found = {each: Diagnosis(symbol.name, each.name) for each in intervals}

    def reader(row: int) -> Callable[[int, int], Iterator[Int64Array]]:
        return partial(_pages, database, row, page)

    for row, interval in enumerate(intervals):
        series = SeriesCheck(interval, now_ms, checked.get(row))
        folds = {
            longer: FoldCheck(interval, longer, reader(intervals.index(longer)))
            for longer in intervals
            if part_of(longer, intervals) == interval
        }
        for rows in reader(row)(*span):
            found[interval].bars += len(rows)
            sound = series.take(rows)
            for fold in folds.values():
                fold.take(sound)
        found[interval].add(series.findings)
        for longer, fold in folds.items():
            found[longer].add(fold.findings)
    _expect_same_scales(database, symbol)
    return list(found.values())


def part_of(interval: Interval, intervals: Sequence[Interval]) -> Interval | None:
    """Return the longest shorter interval whose bars make those of an interval, if there is one."""
    shorter = [each for each in intervals if each != interval and interval.contains(each)]
    return max(shorter, key=lambda each: each.length, default=None)


def _pages(
    database: KlineStore, row: int, limit: int, first: int, last: int
) -> Iterator[Int64Array]:
    """Yield the bars of a series that open in a span, both ends inclusive.

    A page begins at the time at which the one before ended, so that nothing is passed by which is
    there more than once.
    """
    known = 0
    while first <= last:
        rows = database.read(row, start=first, end=last, limit=limit + known)
        if len(rows) > known:
            yield rows[known:]
        if len(rows) < limit + known:
            return
        first = int(rows[-1, OPEN_TIME])
        known = int(np.count_nonzero(rows[:, OPEN_TIME] == first))


def _expect_same_scales(database: KlineStore, symbol: Symbol) -> None:
    # Scales only grow, together with the bars: if they are the same after, they were before.
    now = database.known_symbols()[symbol.name]
    if (now.price_scale, now.quantity_scale) != (symbol.price_scale, symbol.quantity_scale):
        raise ScalesChanged(f"{symbol.name} has got more decimals meanwhile: start again")
