"""The history download: fills the database with the exchange's own klines, as far back as wanted.

Of every series the database keeps one span in which nothing is missing that the exchange has.  A
round extends it at both ends: forward to what has closed since, then backward to where history is
wanted from.  So it can be broken off at any moment and goes on where it stopped, and what years
hold is never looked through again.

Whatever the cause of a hole (a long outage, bars that could not be proved, a crash between two
repairs), the same round finds and fills it.  Bars that are proved stay as they are.

Invariants (tested in tests/recovery/test_download.py):
  I1  A span is extended only over bars that are stored and proved, or that the exchange does not
      have although it had a day to make them.
  I2  A proved bar is neither asked for nor changed (but for those between two that are missing).
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

import attrs
import numpy as np

from klinetrio.domain.interval import DAY, INTERVALS
from klinetrio.domain.kline import FIELD_COUNT, OPEN_TIME
from klinetrio.errors import Refused
from klinetrio.exchange.budget import Priority
from klinetrio.insist import insist
from klinetrio.logs import log_event
from klinetrio.recovery.gaps import PAGE, requests_for
from klinetrio.recovery.turns import in_turn


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping

    import numpy.typing as npt

    from klinetrio.domain.interval import Interval
    from klinetrio.domain.symbol import Symbol
    from klinetrio.engine.registry import SymbolPeriodRegistry
    from klinetrio.exchange.rest import BinanceRest
    from klinetrio.recovery.past import Span

    Int64Array = npt.NDArray[np.int64]

log = logging.getLogger("klinetrio.history")

# Bars that are looked at, and written in one transaction, at a time: some 20 ms of the database.
CHUNK = 4 * PAGE

# What the exchange does not have a day after, it never had.
_SETTLED_MS = DAY

T = TypeVar("T")


class HistoryStore(Protocol):
    """Where the bars go; every method may raise StoreError, and nothing has changed then."""

    async def read_checked(self) -> Mapping[int, tuple[int, int]]:
        """Return, by row, the span in which nothing is missing that the exchange has."""
        ...

    async def first_time(self, series: int) -> int | None:
        """Return the open time of a series' oldest stored bar, None if there is none."""
        ...

    async def proved_times(self, series: int, start: int, end: int) -> Int64Array:
        """Return the open times in ``[start, end)`` of a series' proved bars, ascending."""
        ...

    async def write_history(
        self, series: int, bars: Int64Array, checked: tuple[int, int] | None = None
    ) -> int:
        """Write bars of one series, and its new span; return how many were written."""
        ...


@attrs.define(slots=True)
class Progress:
    """How far a download is.

    Attributes:
        series: Series that are looked at.
        series_done: Those that are finished.
        bars: Bars in what is looked at, as far as it is known.
        bars_done: Those that are here, were here already, or that the exchange does not have.
        written: Bars that were missing and have been written.
        absent: Bars that the exchange does not have, as before a symbol's first trade.
        failures: Requests or writes that failed and were tried again.
    """

    series: int = 0
    series_done: int = 0
    bars: int = 0
    bars_done: int = 0
    written: int = 0
    absent: int = 0
    failures: int = 0


@attrs.define(slots=True)
class _Job:
    """One series: extend its span from ``[since, until)`` to ``[floor, end)``."""

    row: int
    symbol: Symbol
    interval: Interval
    since: int
    until: int
    floor: int
    end: int

    @property
    def size(self) -> int:
        """About how many bars there are to look at."""
        length = max(0, self.end - self.until) + max(0, self.since - self.floor)
        return length // self.interval.length

    @property
    def next_part(self) -> tuple[int, int] | None:
        """The next span to fill, None if there is none: forward first, then backward."""
        reach = CHUNK * self.interval.length
        if self.until < self.end:
            return self.until, min(self.end, self.interval.open_of(self.until + reach))
        if self.since > self.floor:
            return max(self.floor, self.interval.open_of(self.since - reach)), self.since
        return None


class HistoryDownload:
    """Downloads what is missing.

    Args:
        store: Where to.
        registry: The series, whose rows are the store's.
        rest: Where from.

    Attributes:
        progress: Of the round under way, or of the last one.
    """

    def __init__(
        self, store: HistoryStore, registry: SymbolPeriodRegistry, rest: BinanceRest
    ) -> None:
        self.progress = Progress()
        self._store = store
        self._registry = registry
        self._rest = rest

    async def round(
        self, symbols: Iterable[Symbol], until: int, since: int | None = None
    ) -> Progress:
        """Bring every series of some symbols up to date, the longest intervals first.

        Args:
            symbols: Of the registry.
            until: Bars that end at or before this time are wanted, UTC ms.
            since: Bars that open at or after it are wanted; from the oldest stored one on if None,
                or if it is not over yet.

        Raises:
            Refused: The exchange refuses whatever comes from here.

        Blocking: for as long as the exchange or the database cannot answer.
        Cancellation: what has been written stays, and need not be asked for again.
        """
        self.progress = progress = Progress()
        if since is not None and since >= until:
            # Nothing is that young yet, but holes may be there.
            since = None
        checked = await self._insist(self._store.read_checked)
        jobs: list[_Job] = []

        async def plan(symbol: Symbol) -> None:
            with _skipping(symbol):
                jobs.extend(await self._plan(symbol, until, since, checked))

        await in_turn(symbols, plan)
        jobs.sort(key=lambda job: (-job.interval.length, job.row))
        progress.series = len(jobs)
        progress.bars = sum(job.size for job in jobs)
        await in_turn(jobs, self._work_off)
        return progress

    async def _plan(
        self, symbol: Symbol, until: int, since: int | None, checked: Mapping[int, tuple[int, int]]
    ) -> list[_Job]:
        """Return what there is to do for one symbol."""
        begin = None
        if since is not None:
            begin = await self._insist(partial(self._first_day, symbol, since))
        jobs = []
        index = self._registry.index_of(symbol.name)
        for period, interval in enumerate(self._registry.intervals):
            row = self._registry.row(index, period)
            end = interval.open_of(until)
            if since is None:
                floor = await self._insist(partial(self._store.first_time, row))
            else:
                floor = _floor(interval, since, begin)
            if floor is None or floor >= end:
                continue
            known_since, known_until = checked.get(row, (end, end))
            if floor < known_since or known_until < end:
                jobs.append(_Job(row, symbol, interval, known_since, known_until, floor, end))
        return jobs

    async def _first_day(self, symbol: Symbol, since: int) -> int | None:
        """Return the first day at or after ``since`` of which the exchange has klines, if any."""
        day = INTERVALS["1d"]
        start, now = day.open_of(since), self._rest.now_ms()
        bars = await self._rest.klines(
            symbol, day, start=start, end=now, limit=1, priority=Priority.HISTORY
        )
        return int(bars[0, OPEN_TIME]) if len(bars) else None

    async def _work_off(self, job: _Job) -> None:
        """Extend one series' span until it is as wanted, or for as long as that is possible now."""
        with _skipping(job.symbol):
            while (part := job.next_part) is not None:
                if not await self._insist(partial(self._fill, job, *part)):
                    break
        self.progress.series_done += 1

    async def _fill(self, job: _Job, start: int, end: int) -> bool:
        """Have all bars of ``[start, end)`` stored; tell whether the span could be extended."""
        stored = await self._store.proved_times(job.row, start, end)
        expected = job.interval.opens_between(start, end)
        bars = await self._fetch(job, requests_for(expected, stored))
        missing = requests_for(expected, np.union1d(stored, bars[:, OPEN_TIME]))
        if missing:
            # One answer that falls short must not pass for all that the exchange has.
            bars = np.concatenate([bars, await self._fetch(job, missing)])
        absent = np.setdiff1d(expected, np.union1d(stored, bars[:, OPEN_TIME]))
        whole = bool((absent < self._rest.now_ms() - _SETTLED_MS).all())
        span = (min(job.since, start), max(job.until, end)) if whole else (job.since, job.until)
        # Not in one statement with the sum, which would be the one of before the await.
        written = await self._store.write_history(job.row, bars, span)
        self.progress.written += written
        self.progress.absent += len(absent)
        self.progress.bars_done += len(expected)
        job.since, job.until = span
        return whole

    async def _fetch(self, job: _Job, spans: Iterable[Span]) -> Int64Array:
        """Return the exchange's bars of some spans."""
        pages = [np.zeros((0, FIELD_COUNT), np.int64)]
        for span in spans:
            page = await self._rest.klines(
                job.symbol,
                job.interval,
                start=span.start,
                end=span.end,
                limit=PAGE,
                priority=Priority.HISTORY,
            )
            inside = (page[:, OPEN_TIME] >= span.start) & (page[:, OPEN_TIME] <= span.end)
            pages.append(page[inside])
        return np.concatenate(pages)

    async def _insist(self, ask: Callable[[], Awaitable[T]]) -> T:
        def note(_error: Exception) -> None:
            self.progress.failures += 1

        return await insist("history", ask, note)


@contextmanager
def _skipping(symbol: Symbol) -> Iterator[None]:
    """Go on with the next symbol if the exchange does not know this one, as since it was delisted."""
    try:
        yield
    except Refused as error:
        if error.is_for_us:
            raise
        log_event(log, logging.WARNING, "history_refused", symbol=symbol.name, cause=error)


def _floor(interval: Interval, since: int, begin: int | None) -> int | None:
    """Return the oldest open time that is wanted and can be had, None if there is none."""
    if begin is None:
        return None
    opened = interval.open_of(since)
    first = opened if opened == since else interval.next_open(opened)
    return max(first, interval.open_of(begin))
