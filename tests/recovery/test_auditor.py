"""The audit finds every difference, tells what it is, and has it settled in every interval.

On virtual time; the exchange is a list of trades that its klines know better than its stream.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import attrs
import trio

from klinetrio.domain.interval import HOUR, MINUTE, parse_intervals
from klinetrio.domain.kline import (
    FIRST_AGG_ID,
    FLAGS,
    OPEN,
    OPEN_TIME,
    Flag,
    is_complete,
    is_final,
    origin_of,
    revision_of,
)
from klinetrio.engine.engine import Engine
from klinetrio.engine.registry import SymbolPeriodRegistry
from klinetrio.errors import NetworkError
from klinetrio.recovery import auditor as auditor_module
from klinetrio.recovery.auditor import Auditor
from klinetrio.recovery.judging import Agreement
from tests.engine.reference import reference_bars
from tests.recovery.test_repair import INTERVALS, START, SYMBOL, Exchange, Stage, open_stage


if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import numpy as np
    import numpy.typing as npt
    import pytest
    from trio.testing import MockClock

    from klinetrio.domain.interval import Interval
    from klinetrio.domain.symbol import Symbol
    from klinetrio.domain.trade import AggTrade
    from klinetrio.engine.publication import Publication
    from klinetrio.exchange.rest import BinanceRest


@attrs.define
class KnowingExchange(Exchange):
    """An exchange whose klines are made of fills.

    Attributes:
        forced: Fills that are in no aggregate.
        beyond: By aggregate id, the time of the part of it that comes later than its first fill.
        down: Whether it does not answer.
        behind_ms: How far its klines are behind.
        asked: How often for minutes.
    """

    forced: list[AggTrade] = attrs.field(factory=list)
    beyond: dict[int, int] = attrs.field(factory=dict)
    down: bool = False
    behind_ms: int = 0
    asked: int = 0

    def bars(self, interval: Interval) -> dict[int, list[int]]:
        """Return what the exchange's klines say."""
        trades, self.trades = self.trades, self.fills()
        try:
            return Exchange.bars(self, interval)
        finally:
            self.trades = trades

    def fills(self) -> list[AggTrade]:
        """Return all fills in order of time; half of a straddling aggregate comes later."""
        fills = list(self.forced)
        for trade in self.trades:
            if trade.agg_id in self.beyond:
                half = trade._replace(quantity=trade.quantity // 2, last_id=trade.first_id)
                fills += [half, half._replace(time=self.beyond[trade.agg_id])]
            else:
                fills.append(trade)
        known = self.clock.now_ms() - self.behind_ms
        return sorted((fill for fill in fills if fill.time <= known), key=lambda fill: fill.time)

    async def klines(
        self, _symbol: Symbol, interval: Interval, *, start: int, end: int, **options: Any
    ) -> npt.NDArray[np.int64]:
        """As ``BinanceRest.klines``."""
        self.asked += interval.length == MINUTE
        if self.down:
            raise NetworkError("down")
        return await Exchange.klines(self, _symbol, interval, start=start, end=end, **options)


@attrs.define
class Witness(Stage):
    """A stage that only takes notes."""

    def publish(self, publication: Publication) -> None:
        """Note what was told; a bar whose values change gets a higher revision."""
        for bar in [*publication.closed, *publication.proved]:
            key = bar.row, bar.values[OPEN_TIME]
            before = self.told.get(key)
            if before is not None and before[OPEN:FIRST_AGG_ID] != bar.values[OPEN:FIRST_AGG_ID]:
                assert revision_of(bar.values) > revision_of(before)
            self.told[key] = bar.values

    async def straddle(self, agg_id: int, price: int, quantity: int) -> None:
        """Have an aggregate of two fills happen 20 ms before the minute's end, 40 ms long."""
        now = self.clock.now_ms()
        end = now - now % MINUTE + MINUTE
        await self.clock.sleep_until(end - 20)
        trade = self.make(agg_id, price)._replace(quantity=quantity, last_id=agg_id + 1)
        knowing(self).beyond[agg_id] = end + 20
        self.exchange.trades.append(trade)
        await self.clock.sleep_until(end + 200)
        await self.engine.deliver(trade, 0.0)

    def force(self, price: int) -> None:
        """Have a fill happen now that is in no aggregate."""
        knowing(self).forced.append(self.make(0, price))

    def differing(self) -> list[tuple[str, int]]:
        """Return the closed bars that say something else than the exchange."""
        return [
            (INTERVALS[row].name, (open_time - START) // MINUTE)
            for (row, open_time), bar in sorted(self.told.items())
            if self.exchange.bars(INTERVALS[row])[open_time] != list(bar[OPEN:FIRST_AGG_ID])
        ]

    async def trades(self, first: int, count: int) -> int:
        """Have one trade a second; return the next id."""
        for agg_id in range(first, first + count):
            await self.trade(agg_id, 100 + agg_id % 50)
        return first + count


def knowing(stage: Stage) -> KnowingExchange:
    """Return the stage's exchange."""
    return cast("KnowingExchange", stage.exchange)


@asynccontextmanager
async def open_audit(
    *, settle: bool = True, weight_per_minute: int = 100
) -> AsyncIterator[tuple[Witness, Auditor]]:
    """Run a stage and an audit of it."""
    async with open_stage(KnowingExchange, Witness) as stage:
        rest = cast("BinanceRest", stage.exchange)
        auditor = Auditor(
            stage.engine,
            rest,
            stage.clock,
            stage,
            settle=settle,
            weight_per_minute=weight_per_minute,
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(auditor.run)
            yield cast("Witness", stage), auditor
            nursery.cancel_scope.cancel()


async def test_bars_that_agree_are_counted_and_left_alone(autojump_clock: MockClock) -> None:
    """Ten minutes, each judged once, for one request every five minutes."""
    async with open_audit() as (stage, auditor):
        next_id = await stage.trades(5_070, 900)
        # The newest waits for its successor; the minutes of the seed are the exchange's own.
        assert auditor.agreement == Agreement(equal=auditor.agreement.compared)
        assert 9 <= auditor.agreement.compared <= 16
        # One of them for the seed.
        assert knowing(stage).asked == 4
        assert all(revision_of(bar) == 0 for bar in stage.told.values())
        await stage.trades(next_id, 10)
        assert auditor.settled == 0


async def test_a_forced_fill_is_explained_and_settled_in_every_interval(
    autojump_clock: MockClock,
) -> None:
    """The open bars follow, too."""
    async with open_audit() as (stage, auditor):
        next_id = await stage.trades(5_070, 100)
        stage.force(149)
        next_id = await stage.trades(next_id, 40)
        assert stage.differing()
        next_id = await stage.trades(next_id, 500)
        assert stage.differing() == []
        agreement = auditor.agreement
        assert (agreement.forced, agreement.unexplained) == (1, 0)
        assert agreement.equal == agreement.compared - 1
        assert auditor.settled == 1
        settled = [bar for bar in stage.told.values() if bar[FLAGS] & Flag.SETTLED]
        assert {origin_of(bar) for bar in settled} == {"settled"}
        assert [1] * len(settled) == [revision_of(bar) for bar in settled]
        assert all(is_final(bar) and is_complete(bar) for bar in settled)
        assert {len(settled)} <= {2}
        for index, interval in enumerate(INTERVALS):
            live = stage.engine.store.live_row(index)
            truth = stage.exchange.bars(interval)[live[OPEN_TIME]]
            assert list(live[OPEN:FIRST_AGG_ID]) == truth
            assert is_complete(live)


async def test_a_straddle_is_explained_by_both_bars_and_settled(autojump_clock: MockClock) -> None:
    """Also one at the very boundary at which the klines take over."""
    async with open_audit() as (stage, auditor):
        next_id = 5_070
        for number in range(25):
            next_id = await stage.trades(next_id, 45)
            await stage.straddle(next_id, 120, 2 + 2 * (number % 7))
            next_id += 1
        await stage.trades(next_id, 700)
        assert stage.differing() == []
        agreement = auditor.agreement
        assert agreement.unexplained == agreement.forced == agreement.count == 0
        assert agreement.straddle > 15
        assert agreement.compared > 25


async def test_a_settlement_that_failed_is_tried_at_the_next_turn(
    autojump_clock: MockClock,
) -> None:
    """Although no minute is judged twice."""
    async with open_audit() as (stage, auditor):
        next_id = await stage.trades(5_070, 100)
        stage.force(149)
        while not auditor.symbols[0].to_settle:
            next_id = await stage.trades(next_id, 1)
        knowing(stage).down = True
        next_id = await stage.trades(next_id, 120)
        knowing(stage).down = False
        assert stage.differing()
        assert auditor.settled == 0
        await stage.trades(next_id, 400)
        assert stage.differing() == []
        assert auditor.agreement.forced == 1


async def test_a_kline_that_is_late_does_not_take_a_right_bars_place(
    autojump_clock: MockClock,
) -> None:
    """Half a minute late it may be; and if it is later, it is noticed at the next turn."""
    async with open_audit() as (stage, auditor):
        exchange = knowing(stage)
        exchange.behind_ms = 20_000
        next_id = await stage.trades(5_070, 700)
        assert auditor.agreement.equal == auditor.agreement.compared > 5
        assert stage.differing() == []
        exchange.behind_ms = 100_000
        next_id = await stage.trades(next_id, 650)
        exchange.behind_ms = 0
        await stage.trades(next_id, 800)
        assert stage.differing() == []


async def test_nothing_is_settled_while_the_feed_is_down(autojump_clock: MockClock) -> None:
    """What it did not bring is not known yet, so nothing is there to be judged."""
    async with open_audit() as (stage, auditor):
        next_id = await stage.trades(5_070, 400)
        asked = knowing(stage).asked
        stage.engine.set_feed(SYMBOL, up=False)
        for agg_id in range(next_id, next_id + 700):
            stage.exchange.trades.append(stage.make(agg_id, 120))
            await trio.sleep(1)
        assert (knowing(stage).asked, auditor.settled) == (asked, 0)
        assert auditor.agreement.unexplained == 0


async def test_minutes_that_came_too_late_into_reach_are_counted(
    autojump_clock: MockClock,
) -> None:
    """They are neither judged nor passed over in silence."""
    async with open_audit() as (stage, auditor):
        next_id = await stage.trades(5_070, 400)
        knowing(stage).down = True
        for _ in range(120):
            next_id = await stage.trades(next_id, 1)
            await trio.sleep(59)
        knowing(stage).down = False
        await stage.trades(next_id, 400)
        assert auditor.symbols[0].skipped > 10


async def test_a_hole_is_repaired_while_a_settlement_waits(autojump_clock: MockClock) -> None:
    """Live repair comes first: it takes a second, and settling more than a minute."""
    async with open_audit() as (stage, auditor):
        next_id = await stage.trades(5_070, 100)
        stage.force(149)
        while not auditor.settling:
            next_id = await stage.trades(next_id, 1)
        stage.exchange.trades.append(stage.make(next_id, 120))
        next_id = await stage.trades(next_id + 1, 3)
        assert auditor.settling
        assert stage.engine.book(0).ledger.holes == []
        await stage.trades(next_id, 400)
        assert stage.differing() == []


async def test_straddles_of_the_same_size_on_both_sides_are_explained(
    autojump_clock: MockClock,
) -> None:
    """Then only the prices show them."""
    async with open_audit() as (stage, auditor):
        next_id = 5_070
        for _ in range(8):
            next_id = await stage.trades(next_id, 45)
            await stage.straddle(next_id, 120, 4)
            next_id += 1
        await stage.trades(next_id, 400)
        assert auditor.agreement.unexplained == 0
        assert auditor.agreement.straddle > 5
        assert stage.differing() == []


async def test_a_symbol_whose_stated_listing_is_before_its_first_bar_is_settled(
    autojump_clock: MockClock,
) -> None:
    """As after a restart, when the day of the oldest bar counts as its listing."""
    async with open_audit() as (stage, auditor):
        book = stage.engine.book(0)
        book.symbol = attrs.evolve(book.symbol, listing_time=START - 5 * HOUR)
        next_id = await stage.trades(5_070, 100)
        stage.force(149)
        await stage.trades(next_id, 600)
        assert (auditor.settled, auditor.failures) == (1, 0)
        assert stage.differing() == []


async def test_a_settlement_that_failed_leaves_no_work_behind(autojump_clock: MockClock) -> None:
    """Else every trade would go on being folded twice."""
    async with open_audit() as (stage, auditor):
        next_id = await stage.trades(5_070, 100)
        stage.force(149)
        while not auditor.settling:
            next_id = await stage.trades(next_id, 1)
        knowing(stage).down = True
        while auditor.settling:
            next_id = await stage.trades(next_id, 1)
        assert stage.engine.book(0).seeding_until is None


async def test_without_settling_nothing_changes(autojump_clock: MockClock) -> None:
    """But everything is counted."""
    async with open_audit(settle=False) as (stage, auditor):
        next_id = await stage.trades(5_070, 100)
        stage.force(149)
        await stage.trades(next_id, 600)
        assert stage.differing()
        assert auditor.agreement.forced == 1
        assert auditor.settled == 0
        assert not any(bar[FLAGS] & Flag.SETTLED for bar in stage.told.values())


async def test_a_bar_nobody_can_explain_is_named(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """And settled all the same."""
    async with open_audit() as (stage, auditor):
        next_id = await stage.trades(5_070, 100)
        # We have it at a price at which it never was.
        trade = stage.make(next_id, 100)
        await stage.engine.deliver(trade._replace(price=77), 0.0)
        stage.exchange.trades.append(trade)
        await stage.trades(next_id + 1, 600)
        assert auditor.agreement.unexplained == 1
        assert stage.differing() == []
    assert caplog.text.count("unexplained kind=AUSDT") == 1


async def test_the_minutes_of_a_silence_are_proved_by_the_exchange(
    autojump_clock: MockClock,
) -> None:
    """No trade came after them, so ids prove nothing; their values, and so revisions, stay."""
    async with open_audit() as (stage, auditor):
        await stage.trades(5_070, 100)
        await trio.sleep(900)
        minutes = [bar for (row, _), bar in stage.told.items() if row == 0]
        assert len(minutes) > 10
        assert all(map(is_complete, minutes[:10]))
        assert {revision_of(bar) for bar in minutes} == {0}
        assert auditor.agreement.equal == auditor.agreement.compared > 5


async def test_an_exchange_that_does_not_answer_is_asked_at_the_next_turn(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is lost by it but time."""
    async with open_audit() as (stage, auditor):
        knowing(stage).down = True
        next_id = await stage.trades(5_070, 700)
        assert auditor.failures >= 2
        knowing(stage).down = False
        await stage.trades(next_id, 400)
        assert auditor.agreement.equal == auditor.agreement.compared > 13
    assert "audit_failed" in caplog.text


async def test_no_more_weight_is_spent_than_is_set_aside(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I2: with something to be settled at every turn."""
    monkeypatch.setattr(auditor_module, "ROUND_S", 1.0)
    async with open_audit(weight_per_minute=2) as (stage, _):
        next_id = 5_070
        stage.exchange.budget.used = 0
        for _ in range(30):
            stage.force(120)
            next_id = await stage.trades(next_id, 60)
        assert 40 <= stage.exchange.budget.used <= 30 * 2 + 4


async def test_an_audit_without_minutes_or_weight_is_off(autojump_clock: MockClock) -> None:
    """And says so."""
    registry = SymbolPeriodRegistry.ranked([SYMBOL], parse_intervals(["5m", "1h"]))
    for each, weight in ((registry, 100), (SymbolPeriodRegistry.ranked([SYMBOL], INTERVALS), 0)):
        nothing = cast("Any", None)
        engine = Engine(each)
        auditor = Auditor(engine, nothing, nothing, nothing, settle=True, weight_per_minute=weight)
        assert not auditor.is_on
        with trio.move_on_after(HOUR):
            await auditor.run()
        assert auditor.rounds == 0


def test_the_exchange_of_this_test_splits_aggregates() -> None:
    """Half of a straddling one is in the next minute."""
    exchange = KnowingExchange(cast("Any", Now()))
    exchange.behind_ms = -HOUR
    trade = Stage.make(cast("Any", attrs.make_class("S", {"clock": attrs.field()})(Now())), 7, 100)
    exchange.trades = [trade._replace(quantity=4, last_id=8)]
    exchange.beyond[7] = trade.time + MINUTE
    bars = reference_bars(
        [fill._replace(agg_id=n) for n, fill in enumerate(exchange.fills())], INTERVALS[0]
    )
    assert [[100, 100, 100, 100, 2, 200, 1, 2, 200]] * 2 == list(bars.values())


class Now:
    """A clock that stands still."""

    def now_ms(self) -> int:
        """Return the beginning of the test's time."""
        return START
