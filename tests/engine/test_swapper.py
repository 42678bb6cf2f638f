"""Ticks are moments of the exchange's clock; bars close on it, with a grace."""

from __future__ import annotations

from contextlib import asynccontextmanager
from time import perf_counter
from typing import TYPE_CHECKING

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from klinetrio.domain.interval import MINUTE, parse_intervals
from klinetrio.domain.kline import (
    CLOSE,
    HIGH,
    LOW,
    OPEN,
    OPEN_TIME,
    TRADE_COUNT,
    is_final,
    revision_of,
)
from klinetrio.domain.symbol import Symbol
from klinetrio.domain.trade import AggTrade
from klinetrio.engine.engine import Engine
from klinetrio.engine.registry import SymbolPeriodRegistry
from klinetrio.engine.swapper import Swapper
from klinetrio.exchange.clock import ExchangeClock
from tests.engine.strategies import BASE_TIME


if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio.testing import MockClock

    from klinetrio.engine.publication import Publication

GRACE_MS = 1_000


@attrs.define
class Stage:
    """An engine, its swapper, and what was published when."""

    engine: Engine
    clock: ExchangeClock
    swapper: Swapper = attrs.field(init=False)
    published: list[tuple[int, Publication]] = attrs.field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.swapper = Swapper(
            engine=self.engine,
            clock=self.clock,
            interval_ms=100,
            grace_ms=GRACE_MS,
            publish=lambda each: self.published.append((self.clock.now_ms(), each)),
        )

    def closings(self) -> list[tuple[int, int, int]]:
        """Return when which bar of which row was published as closed."""
        return [
            (moment - BASE_TIME, bar.row, bar.values[OPEN_TIME] - BASE_TIME)
            for moment, publication in self.published
            for bar in publication.closed
        ]

    async def trade(self, agg_id: int, time_ms: int, price: int = 100) -> None:
        """Have a trade happen at a moment after the start, and arrive then."""
        await self.clock.sleep_until(BASE_TIME + time_ms)
        trade = AggTrade("AUSDT", agg_id, price, 1, agg_id, agg_id, BASE_TIME + time_ms, False)
        await self.engine.deliver(trade, perf_counter())
        await wait_all_tasks_blocked()


@asynccontextmanager
async def open_stage(start_ms: int = 0, rate: float = 1.0) -> AsyncIterator[Stage]:
    """Run an engine and its swapper, on a clock that starts at ``BASE_TIME + start_ms``."""
    symbols = [Symbol("AUSDT", "A", "USDT", 0, 2, 3), Symbol("BUSDT", "B", "USDT", 0, 2, 3)]
    engine = Engine(SymbolPeriodRegistry.ranked(symbols, parse_intervals(["1m", "5m"])))
    clock = ExchangeClock(rate)
    now = trio.current_time()
    clock.observe(BASE_TIME + start_ms, now, now)
    stage = Stage(engine, clock)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run_actors)
        nursery.start_soon(stage.swapper.run)
        yield stage
        nursery.cancel_scope.cancel()


async def test_ticks_are_round_moments_of_the_exchange(autojump_clock: MockClock) -> None:
    """Every 100 ms of its clock, wherever in between the daemon started."""
    async with open_stage(start_ms=37) as stage:
        await stage.clock.sleep_until(BASE_TIME + 1_050)
        moments = [moment - BASE_TIME for moment, _ in stage.published]
        assert list(range(100, 1_100, 100)) == moments
        assert [*range(1, 11)] == [each.generation for _, each in stage.published]
        assert stage.swapper.counts.swaps == 10
        assert stage.swapper.counts.late == 0


async def test_ticks_do_not_drift(autojump_clock: MockClock) -> None:
    """Ten minutes of them, of which the last is where it must be."""
    async with open_stage(start_ms=50, rate=100.0) as stage:
        await stage.clock.sleep_until(BASE_TIME + 600_000 + 50)
        assert stage.published[-1][0] == BASE_TIME + 600_000
        assert stage.swapper.counts.swaps == 6_000


async def test_a_late_tick_is_counted_and_missed_ones_are_skipped(
    autojump_clock: MockClock,
) -> None:
    """After a stall there is one swap, not a burst of them, and then the grid again."""
    async with open_stage() as stage:
        await stage.clock.sleep_until(BASE_TIME + 250)
        autojump_clock.jump(0.54)
        await stage.clock.sleep_until(BASE_TIME + 1_050)
        moments = [moment - BASE_TIME for moment, _ in stage.published]
        assert moments == [100, 200, 790, 800, 900, 1_000]
        assert stage.swapper.counts.late == 1


async def test_a_tick_an_interval_late_is_not_yet_counted(autojump_clock: MockClock) -> None:
    """A little late is the way of every scheduler."""
    async with open_stage() as stage:
        await stage.clock.sleep_until(BASE_TIME + 250)
        autojump_clock.jump(0.1)
        await stage.clock.sleep_until(BASE_TIME + 450)
        assert [100, 200, 350, 400] == [moment - BASE_TIME for moment, _ in stage.published]
        assert stage.swapper.counts.late == 0


async def test_a_bar_closes_by_the_clock_when_its_grace_is_over(
    autojump_clock: MockClock,
) -> None:
    """Exactly one second after its end, no trade needed."""
    async with open_stage() as stage:
        await stage.trade(1, 30_000)
        await stage.clock.sleep_until(BASE_TIME + MINUTE + GRACE_MS - 1)
        assert stage.closings() == []
        await stage.clock.sleep_until(BASE_TIME + MINUTE + GRACE_MS + 50)
        assert stage.closings() == [(MINUTE + GRACE_MS, 0, 0)]


async def test_a_late_trade_within_the_grace_is_in_its_bar(autojump_clock: MockClock) -> None:
    """The closed bar is right the first time."""
    async with open_stage() as stage:
        await stage.trade(1, 30_000)
        await stage.clock.sleep_until(BASE_TIME + MINUTE + 160)
        late = AggTrade("AUSDT", 2, 777, 1, 2, 2, BASE_TIME + MINUTE - 1, False)
        await stage.engine.deliver(late, perf_counter())
        await stage.clock.sleep_until(BASE_TIME + MINUTE + GRACE_MS + 50)
        (_, publication) = next(each for each in stage.published if each[1].closed)
        bar = publication.closed[0].values
        assert (777, 2, 0) == (bar[CLOSE], bar[TRADE_COUNT], revision_of(bar))


async def test_a_later_trade_closes_a_bar_at_once(autojump_clock: MockClock) -> None:
    """At the very next tick, without the grace, and the clock does not close it again."""
    async with open_stage() as stage:
        await stage.trade(1, 30_000)
        await stage.trade(2, MINUTE + 20)
        await stage.clock.sleep_until(BASE_TIME + MINUTE + 2 * GRACE_MS)
        assert stage.closings() == [(MINUTE + 100, 0, 0)]


async def test_a_trade_after_a_silence_closes_all_bars_between(
    autojump_clock: MockClock,
) -> None:
    """A bar without trades closes by the clock, too, at the price before it."""
    async with open_stage() as stage:
        await stage.trade(1, 30_000, price=321)
        await stage.trade(2, 3 * MINUTE + 20, price=500)
        await stage.clock.sleep_until(BASE_TIME + 3 * MINUTE + 150)
        expected = [
            (MINUTE + GRACE_MS, 0, 0),
            (2 * MINUTE + GRACE_MS, 0, MINUTE),
            (3 * MINUTE + 100, 0, 2 * MINUTE),
        ]
        assert expected == stage.closings()
        bars = [bar.values for _, each in stage.published for bar in each.closed]
        for bar in bars[1:]:
            assert (321, 321, 321, 321, 0) == tuple(
                bar[field] for field in (OPEN, HIGH, LOW, CLOSE, TRADE_COUNT)
            )
            assert is_final(bar)


async def test_long_and_short_bars_close_together(autojump_clock: MockClock) -> None:
    """Where five minutes end, a minute ends; one publication has both."""
    async with open_stage() as stage:
        await stage.trade(1, 30_000)
        await stage.clock.sleep_until(BASE_TIME + 10 * MINUTE)
        together = [each.closed for _, each in stage.published if len(each.closed) == 2]
        assert together
        for closed in together:
            ends = {
                interval.next_open(bar.values[OPEN_TIME])
                for bar, interval in zip(
                    sorted(closed), stage.engine.registry.intervals, strict=True
                )
            }
            assert len(ends) == 1


async def test_there_is_no_bar_before_a_first_trade(autojump_clock: MockClock) -> None:
    """Time alone makes nothing of nothing."""
    async with open_stage() as stage:
        await stage.clock.sleep_until(BASE_TIME + 7 * MINUTE)
        assert stage.closings() == []
        assert all(each.changed.size == 0 for _, each in stage.published)
        await stage.trade(1, 7 * MINUTE + 1)
        await stage.clock.sleep_until(BASE_TIME + 7 * MINUTE + 150)
        assert stage.published[-1][1].changed.tolist() == [0, 1]
        assert not any(stage.engine.store.live_row(2))


@pytest.mark.parametrize("rate", [1.0, 60.0])
async def test_the_swapper_follows_a_corrected_clock(
    autojump_clock: MockClock, rate: float
) -> None:
    """A step forward skips ticks; none is ever repeated or out of order."""
    async with open_stage(rate=rate) as stage:
        await stage.clock.sleep_until(BASE_TIME + 550)
        now = trio.current_time()
        stage.clock.observe(BASE_TIME + 3_000, now - 1e-9, now - 1e-9)
        await stage.clock.sleep_until(BASE_TIME + 3_550)
        moments = [moment - BASE_TIME for moment, _ in stage.published]
        assert sorted(set(moments)) == moments
        assert moments[-5:] == [3_100, 3_200, 3_300, 3_400, 3_500]
