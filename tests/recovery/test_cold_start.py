"""A cold start of many symbols within the weight of a minute; on virtual time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import attrs
import pytest
import trio

from klinetrio.domain.interval import MINUTE, parse_intervals
from klinetrio.domain.symbol import Symbol
from klinetrio.domain.trade import AggTrade
from klinetrio.engine.engine import Engine
from klinetrio.engine.registry import SymbolPeriodRegistry
from klinetrio.errors import StoreError
from klinetrio.exchange.budget import Priority, WeightBudget
from klinetrio.exchange.clock import ExchangeClock
from klinetrio.exchange.rest import AGG_TRADES_WEIGHT
from klinetrio.recovery.repair import RepairDesk
from klinetrio.recovery.seeder import ANCHOR_PATIENCE_S
from klinetrio.recovery.shelf import PastShelf
from tests.recovery.test_repair import START, Exchange


if TYPE_CHECKING:
    import numpy.typing as npt
    from trio.testing import MockClock

    from klinetrio.exchange.rest import BinanceRest

LIVELY, QUIET = 8, 12
INTERVALS = parse_intervals(["1m", "1h"])
SYMBOLS = [Symbol(f"A{n:02}USDT", f"A{n:02}", "USDT", START, 2, 3) for n in range(LIVELY + QUIET)]

# Enough for all pasts of the lively and two questions to quiet ones in a minute.
LIMIT = 2 * LIVELY + 2 * AGG_TRADES_WEIGHT


@attrs.define
class Exchanges:
    """One exchange per symbol, and one budget for all; each symbol has a trade of before."""

    clock: ExchangeClock
    budget: WeightBudget
    each: dict[str, Exchange]
    asked: list[str] = attrs.Factory(list)

    async def klines(self, symbol: Symbol, *args: Any, priority: Priority, **given: Any) -> Any:
        """As ``BinanceRest.klines``."""
        await self.budget.take(1, priority)
        return await self.each[symbol.name].klines(symbol, *args, **given)

    async def agg_trades(self, symbol: Symbol, *, priority: Priority, **given: Any) -> Any:
        """As ``BinanceRest.agg_trades``."""
        self.asked.append(symbol.name)
        await self.budget.take(AGG_TRADES_WEIGHT, priority)
        return await self.each[symbol.name].agg_trades(symbol, **given)


class Sink:
    """Takes closed bars as the database does."""

    async def write_history(self, _series: int, bars: npt.NDArray[Any]) -> int:
        """Take them."""
        await trio.lowlevel.checkpoint()
        return len(bars)


class Away(Sink):
    """Fails as a database whose server is down."""

    async def write_history(self, _series: int, bars: npt.NDArray[Any]) -> int:
        """Refuse them."""
        await trio.lowlevel.checkpoint()
        raise StoreError(f"{len(bars)} bars refused")


class Stuck(Sink):
    """Never answers."""

    async def write_history(self, _series: int, bars: npt.NDArray[Any]) -> int:
        """Wait for ever."""
        await trio.sleep_forever()
        return len(bars)


@pytest.mark.parametrize("sink", [Sink(), Away(), Stuck()])
async def test_a_past_does_not_wait_for_the_database(sink: Sink, autojump_clock: MockClock) -> None:
    """Live bars are whole without it; what was not stored waits."""
    engine = Engine(SymbolPeriodRegistry.ranked(SYMBOLS[:LIVELY], INTERVALS))
    clock = ExchangeClock()
    clock.observe(START + MINUTE, trio.current_time(), trio.current_time())
    exchanges = Exchanges(clock, WeightBudget(clock), {s.name: Exchange(clock) for s in SYMBOLS})
    shelf = PastShelf(sink)
    desk = RepairDesk(engine, cast("BinanceRest", exchanges), clock, shelf)
    for index, symbol in enumerate(SYMBOLS[:LIVELY]):
        made = AggTrade(symbol.name, 999, 100, 1, 999, 999, START, False)
        exchanges.each[symbol.name].trades.append(made)
        engine.set_feed(symbol, up=True)
        engine.book(index).anchor(999, START)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run_actors)
        nursery.start_soon(desk.run)
        await trio.sleep(119)
        assert all(engine.book(index).seeded for index in range(LIVELY))
        assert (shelf.bars > 0) == isinstance(sink, Away | Stuck)
        nursery.cancel_scope.cancel()


async def test_quiet_symbols_do_not_keep_the_lively_ones_waiting(
    autojump_clock: MockClock,
) -> None:
    """Those know their past two minutes after the start; the others as fast as the weight allows."""
    engine = Engine(SymbolPeriodRegistry.ranked(SYMBOLS, INTERVALS))
    clock = ExchangeClock()
    clock.observe(START + MINUTE, trio.current_time(), trio.current_time())
    budget = WeightBudget(clock, limit=LIMIT, share=1.0)
    exchanges = Exchanges(clock, budget, {each.name: Exchange(clock) for each in SYMBOLS})
    desk = RepairDesk(engine, cast("BinanceRest", exchanges), clock, Sink())
    engine.on_trouble = desk.report

    def trade(symbol: Symbol, agg_id: int, time_ms: int) -> AggTrade:
        made = AggTrade(symbol.name, agg_id, 100, 1, agg_id, agg_id, time_ms, False)
        exchanges.each[symbol.name].trades.append(made)
        return made

    async def live() -> None:
        for second in range(10**6):
            for symbol in SYMBOLS[:LIVELY]:
                made = trade(symbol, 1_000 + second, clock.now_ms())
                await engine.deliver(made, 0.0)
            await trio.sleep(1)

    def seeded() -> list[bool]:
        return [engine.book(index).seeded for index in range(len(SYMBOLS))]

    for symbol in SYMBOLS:
        trade(symbol, 999, START)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run_actors)
        nursery.start_soon(desk.run)
        for symbol in SYMBOLS:
            engine.set_feed(symbol, up=True)
        nursery.start_soon(live)
        await trio.sleep(119)
        assert seeded() == [True] * LIVELY + [False] * QUIET
        assert budget.highest <= LIMIT
        await trio.sleep(ANCHOR_PATIENCE_S + 60 * QUIET)
        assert all(seeded())
        assert budget.highest <= LIMIT
        nursery.cancel_scope.cancel()


async def test_symbols_that_wait_for_their_connection_are_not_asked_for(
    autojump_clock: MockClock,
) -> None:
    """Of many the last ones connect after minutes: they are not quiet, nobody has listened yet."""
    engine = Engine(SymbolPeriodRegistry.ranked(SYMBOLS, INTERVALS))
    clock = ExchangeClock()
    clock.observe(START + MINUTE, trio.current_time(), trio.current_time())
    budget = WeightBudget(clock)
    exchanges = Exchanges(clock, budget, {each.name: Exchange(clock) for each in SYMBOLS})
    desk = RepairDesk(engine, cast("BinanceRest", exchanges), clock, Sink())
    engine.on_trouble = desk.report
    for symbol in SYMBOLS:
        made = AggTrade(symbol.name, 999, 100, 1, 999, 999, START, False)
        exchanges.each[symbol.name].trades.append(made)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run_actors)
        nursery.start_soon(desk.run)
        await trio.sleep(3 * ANCHOR_PATIENCE_S)
        assert exchanges.asked == []
        engine.set_feed(SYMBOLS[0], up=True)
        await trio.sleep(ANCHOR_PATIENCE_S - 1)
        assert exchanges.asked == []
        await trio.sleep(ANCHOR_PATIENCE_S)
        assert exchanges.asked == [SYMBOLS[0].name]
        nursery.cancel_scope.cancel()
