"""The auditor: compares closed minutes with the exchange's own klines, and has them settled.

All symbols take turns; one comparison costs weight 1, and the turns are spread so that the audit
spends no more than it may.  Where anything differs the symbol is settled: at the next minute boundary
the exchange's klines take the place of our bars, in every interval, the open ones included.  What is
compared is always what stood here before that.

Settling waits for more than a minute, so it has tasks of its own: repair goes on meanwhile.

Invariants (tested in tests/recovery/test_auditor.py):
  I1  A minute is judged once, and by the bar that was served, not by the one that replaced it.
  I2  No more weight is spent per minute than is set aside, but for what one symbol's turn costs.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import attrs
import trio

from klinetrio.domain.interval import INTERVALS, MINUTE
from klinetrio.domain.kline import FIRST_AGG_ID, OPEN, OPEN_TIME
from klinetrio.errors import DecodeError, ExchangeError, NetworkError, ScaleError
from klinetrio.exchange.budget import Priority
from klinetrio.logs import QuietLog, log_event
from klinetrio.recovery.comparing import Comparison
from klinetrio.recovery.judging import Agreement
from klinetrio.recovery.past import CHEAP_ROWS
from klinetrio.recovery.seeder import RIPE_MS, Seeder


if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    import numpy.typing as npt

    from klinetrio.domain.interval import Interval
    from klinetrio.engine.engine import Engine
    from klinetrio.exchange.clock import ExchangeClock
    from klinetrio.exchange.rest import BinanceRest
    from klinetrio.recovery.seeder import HistorySink

    Int64Array = npt.NDArray[np.int64]

log = logging.getLogger("klinetrio.audit")

ONE_MINUTE = INTERVALS["1m"]

# A look costs one request, settling three more.
LOOK_WEIGHT = 1
SETTLE_WEIGHT = 3

# However few symbols there are, each is looked at no more often than this.
ROUND_S = 300.0

# Minutes judged this long ago are compared once more, for nothing but whether they still agree.
AGAIN_MS = 30 * MINUTE

# After a round without anything to look at.
IDLE_S = 10.0

# Settlements whose requests are under way at once; all wait for the same minute boundary.
MAX_SETTLEMENTS = 2

# How far the turns may be behind and still catch up.
MOST_BEHIND_S = 60.0


@attrs.define(slots=True)
class SymbolAudit(Comparison):
    """What the audit knows of one symbol.

    Attributes:
        since: Open time of the first minute to be looked at next; 0 before the first look.
        skipped: Minutes that came into reach too late to be looked at.
        to_settle: Whether something differs that has not been replaced yet.
    """

    since: int = 0
    skipped: int = 0
    to_settle: bool = False


class Auditor:
    """Looks at one symbol after the other.

    Args:
        engine: Whose closed bars are compared.
        rest: The exchange.
        clock: The exchange's clock.
        history: Where the seeder writes; settling writes nothing there.
        settle: Whether what differs is replaced.
        weight_per_minute: What may be spent.

    Attributes:
        symbols: By symbol index.
        rounds: How often all symbols had their turn.
        failures: Looks and settlements that failed; the next turn makes up for them.
        settle: Whether what differs is replaced.
        settled: How often a symbol was settled.
        settling: Symbols that are being settled.
    """

    def __init__(
        self,
        engine: Engine,
        rest: BinanceRest,
        clock: ExchangeClock,
        history: HistorySink,
        *,
        settle: bool,
        weight_per_minute: int,
    ) -> None:
        self.symbols = [SymbolAudit() for _ in engine.registry.symbols]
        self.rounds = 0
        self.failures = 0
        self.settle = settle
        self.settled = 0
        self.settling: set[int] = set()
        self._engine = engine
        self._rest = rest
        self._clock = clock
        limiter = trio.CapacityLimiter(MAX_SETTLEMENTS)
        self._seeder = Seeder(engine, rest, clock, history, limiter)
        self._weight_per_minute = weight_per_minute
        self._quiet = QuietLog(log)
        intervals = engine.registry.intervals
        self._period = intervals.index(ONE_MINUTE) if ONE_MINUTE in intervals else None

    @property
    def is_on(self) -> bool:
        """Whether anything is compared: that takes weight, and an interval of a minute."""
        return self._weight_per_minute > 0 and self._period is not None

    @property
    def agreement(self) -> Agreement:
        """How all symbols' minutes stood to the exchange's."""
        return sum((each.agreement for each in self.symbols), Agreement())

    async def run(self) -> None:
        """Audit for ever."""
        if not self.is_on:
            await trio.sleep_forever()
        self.settling.clear()
        async with trio.open_nursery() as nursery:
            while True:
                started = trio.current_time()
                spent, over = await self._go_round(nursery)
                if not spent:
                    # Nobody's past is known yet.
                    await trio.sleep(IDLE_S)
                    continue
                self.rounds += 1
                await trio.sleep_until(max(over, started + ROUND_S))

    async def _go_round(self, nursery: trio.Nursery) -> tuple[int, float]:
        """Give every symbol its turn; return the weight spent and when the next may be."""
        deadline = trio.current_time()
        spent = 0
        for index, audit in enumerate(self.symbols):
            await trio.sleep_until(deadline)
            # What a look that fails has cost.
            weight = LOOK_WEIGHT
            with self._failing(index):
                weight = await self._look_at(index)
                if weight and self.settle and audit.to_settle and index not in self.settling:
                    weight += SETTLE_WEIGHT
                    self.settling.add(index)
                    nursery.start_soon(self._settle, index)
            spent += weight
            # An exchange that was slow is not made up for.
            deadline = max(deadline, trio.current_time() - MOST_BEHIND_S)
            deadline += weight * 60.0 / self._weight_per_minute
        return spent, deadline

    async def _settle(self, index: int) -> None:
        """Put the exchange's klines in the place of a symbol's bars."""
        book = self._engine.book(index)
        try:
            with self._failing(index):
                look = partial(self._compare_before, index)
                if await self._seeder.settle(index, book, look) is not None:
                    self.settled += 1
                    log_event(log, logging.INFO, "settled", symbol=book.symbol.name)
        finally:
            self.settling.discard(index)

    @contextmanager
    def _failing(self, index: int) -> Iterator[None]:
        """Leave to the next turn what the exchange cannot do now."""
        try:
            yield
        except (NetworkError, ExchangeError, DecodeError, ScaleError) as error:
            self.failures += 1
            name = self._engine.registry.symbols[index].name
            self._quiet.event(logging.WARNING, "audit_failed", "exchange", symbol=name, cause=error)

    async def _look_at(self, index: int) -> int:
        """Give a symbol its turn; return the weight that it costs."""
        book = self._engine.book(index)
        if not (book.sound and book.seeded and book.feed_up) or book.needs_repair or book.halted:
            # Its bars claim nothing, or will be replaced anyway.
            return 0
        audit = self.symbols[index]
        end = ONE_MINUTE.open_of(self._clock.now_ms() - RIPE_MS - int(self._clock.error_ms))
        first = end - (CHEAP_ROWS - 1) * MINUTE
        if audit.since >= end:
            return 0
        if 0 < audit.since < first:
            audit.skipped += (first - audit.since) // MINUTE
        start = max(audit.since - AGAIN_MS, first)
        theirs = await self._rest.klines(
            book.symbol,
            ONE_MINUTE,
            start=start,
            end=end - 1,
            limit=CHEAP_ROWS,
            priority=Priority.AUDIT,
        )
        self._compare(index, theirs)
        return LOOK_WEIGHT

    def _compare_before(self, index: int, rows: Mapping[Interval, Int64Array]) -> None:
        """Judge what is about to be replaced."""
        self._compare(index, rows[ONE_MINUTE])
        self.symbols[index].to_settle = False

    def _compare(self, index: int, theirs: Int64Array) -> None:
        """Judge the minutes that have not been judged yet."""
        audit = self.symbols[index]
        book = self._engine.book(index)
        since, pairs = audit.since, []
        for row in theirs.tolist():
            ours = book.closed_bar(self._period or 0, row[OPEN_TIME])
            if ours is None:
                # Not closed here yet, or never here: before the first seed.
                continue
            if row[OPEN_TIME] >= since:
                pairs.append((ours, row))
                audit.since = row[OPEN_TIME] + MINUTE
            elif ours[OPEN:FIRST_AGG_ID] != row[OPEN:FIRST_AGG_ID]:
                # Judged long ago, but one of both has changed since.
                audit.to_settle = True
        if audit.take(pairs):
            audit.to_settle = True
        name = book.symbol.name
        for each in audit.unexplained:
            facts = {"open_time": each.open_time, "difference": attrs.astuple(each.difference)}
            self._quiet.event(logging.WARNING, "unexplained", name, **facts)
        audit.unexplained.clear()
