"""The desk gives symbols a past again when their ids turn out wrong, and cannot be made to waste.

On virtual time; the exchange is a list of trades behind the interface of ``BinanceRest``.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import attrs
import numpy as np
import trio

from klinetrio.domain.interval import HOUR, MINUTE, parse_intervals
from klinetrio.domain.kline import (
    CLOSE,
    FIRST_AGG_ID,
    NO_ID,
    OPEN,
    OPEN_TIME,
    Flag,
    is_complete,
    revision_of,
)
from klinetrio.domain.symbol import Symbol
from klinetrio.domain.trade import AggTrade
from klinetrio.engine.engine import Engine
from klinetrio.engine.registry import SymbolPeriodRegistry
from klinetrio.engine.swapper import Swapper
from klinetrio.exchange.clock import ExchangeClock
from klinetrio.exchange.rest import AGG_TRADES_WEIGHT, klines_weight
from klinetrio.recovery.repair import RepairDesk
from tests.engine.reference import reference_bars
from tests.engine.strategies import BASE_TIME


if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import numpy.typing as npt
    import pytest
    from trio.testing import MockClock

    from klinetrio.domain.interval import Interval
    from klinetrio.engine.publication import Publication
    from klinetrio.exchange.rest import BinanceRest

INTERVALS = parse_intervals(["1m", "5m", "1h", "1d"])
# The first minute of an hour, so that a test's bars have all their trades in it.
START = BASE_TIME - BASE_TIME % HOUR
SYMBOL = Symbol("AUSDT", "A", "USDT", START, 2, 3)


@attrs.define
class Budget:
    """As much weight as anybody likes, counted."""

    used: int = 0
    spare: int = 10**6


@attrs.define
class Exchange:
    """One symbol's trades in the order in which they happened, whatever their ids say."""

    clock: ExchangeClock
    trades: list[AggTrade] = attrs.field(factory=list)
    since: int = 0
    budget: Budget = attrs.field(factory=Budget)

    def bars(self, interval: Interval) -> dict[int, list[int]]:
        """Return the true bars until now."""
        numbered = [trade._replace(agg_id=n) for n, trade in enumerate(self.trades)]
        bars = reference_bars(numbered, interval)
        now = self.clock.now_ms()
        newest = max(bars, default=now)
        while bars and (newest := interval.next_open(newest)) <= now:
            close = bars[interval.previous_open(newest)][CLOSE - OPEN]
            bars[newest] = [close] * 4 + [0] * 5
        return bars

    async def klines(
        self, _symbol: Symbol, interval: Interval, *, start: int, end: int, **_: Any
    ) -> npt.NDArray[np.int64]:
        """As ``BinanceRest.klines``."""
        await trio.sleep(0.1)
        self.budget.used += klines_weight((end - start) // interval.length + 1)
        flags = Flag.FINAL | Flag.COMPLETE | Flag.BACKFILLED
        bars = self.bars(interval).items()
        rows = [[opened, *values, NO_ID, NO_ID, flags] for opened, values in bars]
        chosen = [row for row in rows if start <= row[0] <= end]
        return np.array(chosen, np.int64).reshape(len(chosen), 13)

    async def agg_trades(
        self, _symbol: Symbol, *, from_id: int | None = None, limit: int = 1_000, **_: Any
    ) -> list[AggTrade]:
        """As ``BinanceRest.agg_trades``; ids of before ``since`` are not known any more."""
        await trio.sleep(0.1)
        self.budget.used += AGG_TRADES_WEIGHT
        known = self.trades[self.since :]
        if from_id is None:
            return known[-limit:]
        return [trade for trade in known if trade.agg_id >= from_id][:limit]


@attrs.define
class Stage:
    """An engine with swapper and desk, an exchange, and what was told."""

    clock: ExchangeClock
    exchange: Exchange
    engine: Engine
    desk: RepairDesk
    told: dict[tuple[int, int], tuple[int, ...]] = attrs.field(factory=dict)

    def publish(self, publication: Publication) -> None:
        """Note what was told, and check each claim against the truth."""
        for bar in [*publication.closed, *publication.proved]:
            key = bar.row, bar.values[OPEN_TIME]
            if key in self.told and self.told[key][:FIRST_AGG_ID] != bar.values[:FIRST_AGG_ID]:
                assert revision_of(bar.values) > revision_of(self.told[key])
            self.told[key] = bar.values
            if is_complete(bar.values):
                truth = self.exchange.bars(INTERVALS[bar.row])
                assert truth[key[1]] == list(bar.values[OPEN:FIRST_AGG_ID])

    async def write_history(self, series: int, bars: npt.NDArray[np.int64]) -> int:
        """Take closed bars that never were live, as the database does."""
        await trio.lowlevel.checkpoint()
        for row in bars.tolist():
            self.told.setdefault((series, row[OPEN_TIME]), tuple(row))
        return len(bars)

    async def trade(self, agg_id: int, price: int, pause_s: float = 1.0) -> None:
        """Have a trade happen now and arrive, then let time pass."""
        trade = self.make(agg_id, price)
        self.exchange.trades.append(trade)
        await self.engine.deliver(trade, 0.0)
        await trio.sleep(pause_s)

    async def garbage(self, agg_id: int, pause_s: float = 0.0) -> None:
        """Have a trade arrive that never was."""
        await self.engine.deliver(self.make(agg_id, 10**6), 0.0)
        await trio.sleep(pause_s)

    def make(self, agg_id: int, price: int) -> AggTrade:
        """Return a trade of now."""
        return AggTrade("AUSDT", agg_id, price, 1, agg_id, agg_id, self.clock.now_ms(), False)

    def shows_truth(self) -> bool:
        """Tell whether every bar is complete; if so, it must be true."""
        whole = True
        for index, interval in enumerate(INTERVALS):
            truth = self.exchange.bars(interval)
            rows = [each for (row, _), each in self.told.items() if row == index]
            for row in [*rows, tuple(self.engine.store.live_row(index))]:
                whole = whole and is_complete(row)
                if is_complete(row):
                    assert truth[row[OPEN_TIME]] == list(row[OPEN:FIRST_AGG_ID])
        return whole


@asynccontextmanager
async def open_stage(
    make_exchange: Callable[[ExchangeClock], Exchange] = Exchange, make_stage: type[Stage] = Stage
) -> AsyncIterator[Stage]:
    """Run everything for one symbol, listed at this minute; it is known when the block begins."""
    engine = Engine(SymbolPeriodRegistry.ranked([SYMBOL], INTERVALS))
    clock = ExchangeClock()
    now = trio.current_time()
    clock.observe(START, now, now)
    exchange = make_exchange(clock)
    rest = cast("BinanceRest", exchange)
    stage = make_stage(clock, exchange, engine, cast("RepairDesk", None))
    stage.desk = RepairDesk(engine, rest, clock, stage)
    engine.on_trouble = stage.desk.report
    swapper = Swapper(
        engine=engine, clock=clock, interval_ms=100, grace_ms=1_000, publish=stage.publish
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run_actors)
        nursery.start_soon(swapper.run)
        nursery.start_soon(stage.desk.run)
        engine.set_feed(SYMBOL, up=True)
        for number in range(70):
            await stage.trade(5_000 + number, 100 + number)
        assert stage.shows_truth()
        exchange.budget.used = 0
        yield stage
        nursery.cancel_scope.cancel()


async def test_ids_that_start_over(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is claimed from the first new trade on; within two minutes all is right again."""
    async with open_stage() as stage:
        stage.exchange.since = len(stage.exchange.trades)
        await trio.sleep(1)
        for number in range(1, 120):
            await stage.trade(number, 200 + number)
            whole = stage.shows_truth()
            assert not (number < 10 and whole)
            assert whole or number < 110
        assert stage.desk.counts.seeds == 2
        assert stage.exchange.budget.used == 3
    assert caplog.text.count("ids_restarted symbol=AUSDT newest=5069") == 1


async def test_ids_that_start_over_in_a_quiet_symbol(autojump_clock: MockClock) -> None:
    """One trade is enough, because the exchange is asked whether it is its newest."""
    async with open_stage() as stage:
        await trio.sleep(100)
        stage.exchange.since = len(stage.exchange.trades)
        await stage.trade(1, 999, pause_s=9)
        assert not stage.shows_truth()
        await trio.sleep(120)
        assert stage.engine.book(0).ledger.newest == 1
        assert stage.engine.book(0).seeded
        live = stage.engine.store.live_row(0)
        assert (999, True) == (live[CLOSE], is_complete(live))
        assert stage.exchange.budget.used == AGG_TRADES_WEIGHT + 3


async def test_a_wrong_id_ahead(autojump_clock: MockClock) -> None:
    """By more than trades would be fetched for it changes nothing; by less it is got over."""
    for ahead in (10**9, 6_000, 4_000, 40, 2):
        async with open_stage() as stage:
            await stage.garbage(5_069 + ahead)
            for number in range(70, 300):
                await stage.trade(5_000 + number, 100 + number)
                if (number, ahead) == (70, 2):
                    # Just now it cannot be told from a right one that overtook another.
                    continue
                whole = stage.shows_truth()
                assert whole or number < 70 + 130
            assert stage.exchange.budget.used < 10 * AGG_TRADES_WEIGHT
            assert stage.desk.counts.seeds == (1 if ahead > 5_000 else 2)


async def test_right_and_wrong_ids_in_turns_cost_little(autojump_clock: MockClock) -> None:
    """However they are mixed: a bounded weight and few lines, and right again afterwards."""
    for wrong in (1, 2, 3, 5):
        async with open_stage() as stage:
            agg_id = 5_069
            minutes = 10
            for number in range(minutes * 60 // 2):
                for each in range(wrong):
                    await stage.garbage(1 + number * wrong + each, pause_s=1 / wrong)
                agg_id += 1
                trade = stage.make(agg_id, 300)
                await stage.engine.deliver(trade, 0.0)
                stage.exchange.trades.append(trade)
                await trio.sleep(1)
            spent = stage.exchange.budget.used
            assert spent <= minutes * (AGG_TRADES_WEIGHT + 3 + 2)
            for _ in range(200):
                agg_id += 1
                await stage.trade(agg_id, 400)
            assert stage.engine.book(0).seeded


async def test_a_feed_that_comes_and_goes_costs_little(autojump_clock: MockClock) -> None:
    """A quiet symbol's newest trade is asked for once a minute, however often it reconnects."""
    async with open_stage() as stage:
        for _ in range(60):
            stage.engine.set_feed(SYMBOL, up=False)
            await trio.sleep(1)
            stage.engine.set_feed(SYMBOL, up=True)
            await trio.sleep(14)
        assert stage.exchange.budget.used <= 15 * AGG_TRADES_WEIGHT
        await trio.sleep(70)
        assert stage.shows_truth() or is_complete(stage.engine.store.live_row(3))
        assert MINUTE * 15 < stage.clock.now_ms() - START
