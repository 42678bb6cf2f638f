"""What a daemon may take from an earlier run, and what it may believe of the exchange."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import trio

from klinetrio.domain.interval import INTERVALS, MINUTE
from klinetrio.domain.kline import FLAGS, OPEN_TIME, VOLUME, Flag
from klinetrio.domain.trade import AggTrade
from klinetrio.engine.engine import Engine
from klinetrio.recovery import repair, seeder
from klinetrio.sim.clock import SimClock
from klinetrio.sim.scripted import ScriptedMarket, plain_instrument
from klinetrio.start import restore
from tests.e2e.world import LIMIT_S, Asked, World, assert_true, open_world
from tests.engine.strategies import BASE_TIME
from tests.test_start import NO_BARS, REGISTRY, live_rows


if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from klinetrio.sim.bars import Rows

RATE = 30
START = 1_786_173_590_000
"""Ten seconds before 05:20 UTC: some minutes of the hour are over, and the next one is near."""

LISTED = START - START % MINUTE - 8 * MINUTE


def market_of(*names: str, rate: float = RATE) -> ScriptedMarket:
    """Return a market whose symbols were listed a few minutes ago, with a trade in each since."""
    instruments = [plain_instrument(name, listing_time=LISTED) for name in names]
    market = ScriptedMarket(instruments, clock=SimClock(START, rate=rate))
    for name in names:
        for time_ms in range(LISTED, START, MINUTE):
            market.trade(name, f"{100 + time_ms // MINUTE % 7}.00", "1.000", T=time_ms)
    return market


async def subscribed(world: World, *names: str) -> None:
    """Wait until trades of these symbols reach the daemon."""
    for name in names:
        while world.exchange.subscribers(name) == 0:
            await trio.sleep(0.01)


async def trade_until(market: ScriptedMarket, time_ms: int, *names: str) -> None:
    """Make trades until the exchange's clock shows a time."""
    while market.clock.now_ms() < time_ms:
        for name in names:
            price = 100 + len(market.trades_of(name)) * 7 % 13
            market.trade(name, f"{price}.00", "1.000")
        await trio.sleep(0.03)


async def ready(world: World, market: ScriptedMarket, daemon: Asked, *names: str) -> None:
    """Trade until the daemon knows the past of its symbols."""
    await subscribed(world, *names)
    while (await daemon.client.get("/readyz")).status_code != 200:
        await trade_until(market, market.clock.now_ms() + 1, *names)


def minute_of(market: ScriptedMarket) -> int:
    """Return the minute that is open now."""
    now = market.clock.now_ms()
    return now - now % MINUTE


async def test_a_long_absence_is_filled_from_where_the_last_run_stopped(tmp_path: Path) -> None:
    """More minutes than one cheap request holds are missing, and none of them in the end."""
    market = market_of("BTCUSDT")
    absence = (repair.MAX_HOLE_AGE_MS // MINUTE + 60) * MINUTE
    with trio.fail_after(LIMIT_S):
        async with open_world(market, tmp_path) as world:
            async with world.daemon() as daemon:
                await ready(world, market, daemon, "BTCUSDT")
                last = minute_of(market) + MINUTE
                await trade_until(market, last + 10_000, "BTCUSDT")
                await daemon.until_closed("BTCUSDT", "1m", last - MINUTE)

            assert market.clock.start_ms is not None
            # None in a minute that is over: the exchange may have told already that it was empty.
            to_come = minute_of(market) + MINUTE
            market.clock.start_ms += absence
            for time_ms in range(to_come, last + absence, 7 * MINUTE):
                market.trade("BTCUSDT", f"{200 + time_ms // MINUTE % 11}.00", "2.000", T=time_ms)

            async with world.daemon() as daemon:
                await ready(world, market, daemon, "BTCUSDT")
                now = minute_of(market)
                assert now > last + absence
                await daemon.until_closed("BTCUSDT", "1m", now - MINUTE)
                bars = await daemon.klines("BTCUSDT", "1m", end_time=now - MINUTE)

    opens = [bar["open_time"] for bar in bars]
    assert list(range(LISTED, now, MINUTE)) == opens
    assert all(bar["is_final"] and bar["is_complete"] for bar in bars)
    assert assert_true(market, "BTCUSDT", "1m", bars) == len(bars)


async def test_a_bar_that_the_last_run_could_not_prove_is_proved_by_the_next(
    tmp_path: Path,
) -> None:
    """By the first trade after it, whichever daemon sees that."""
    market = market_of("BTCUSDT")
    with trio.fail_after(LIMIT_S):
        async with open_world(market, tmp_path) as world:
            async with world.daemon() as daemon:
                await ready(world, market, daemon, "BTCUSDT")
                quiet = minute_of(market) + MINUTE
                await trade_until(market, quiet + 5_000, "BTCUSDT")
                while not (bars := await daemon.klines("BTCUSDT", "1m", start_time=quiet))[0][
                    "is_final"
                ]:
                    await trio.sleep(0.05)
                assert not bars[0]["is_complete"]

            async with world.daemon() as daemon:
                await subscribed(world, "BTCUSDT")
                await daemon.until_ready()
                # It went on from the stored bars, which alone tells nothing new of this one.
                assert (await daemon.get("/api/v1/status"))["rest"]["seeds"] == 0
                stored = (await daemon.klines("BTCUSDT", "1m", start_time=quiet))[0]
                assert (True, False) == (stored["is_final"], stored["is_complete"])
                market.trade("BTCUSDT", "111.00", "1.000")
                with trio.fail_after(LIMIT_S):
                    await daemon.until_closed("BTCUSDT", "1m", quiet)
                proved = (await daemon.klines("BTCUSDT", "1m", start_time=quiet))[0]

    assert {**stored, "is_complete": True} == proved
    assert assert_true(market, "BTCUSDT", "1m", [proved]) == 1


def lagging(market: ScriptedMarket, lag_ms: int) -> Any:
    """Return klines of which a bar lacks a trade for some time after its end, as they really do."""
    bars = market.ledger.bars

    def answer(symbol: str, interval: Any, *window: Any) -> Rows:
        rows = bars(symbol, interval, *window).copy()
        ended = market.clock.now_ms() - (rows[:, OPEN_TIME] + interval.length)
        rows[(ended >= 0) & (ended < lag_ms), VOLUME] -= 1
        return rows

    return answer


async def test_a_minute_is_asked_for_only_when_its_last_trades_are_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bars before the boundary are whole, although a trade follows it at once."""
    market = market_of("BTCUSDT", rate=3)
    monkeypatch.setattr(market.ledger, "bars", lagging(market, 1_500))
    boundary = START - START % MINUTE + MINUTE
    with trio.fail_after(LIMIT_S):
        async with open_world(market, tmp_path) as world, world.daemon() as daemon:
            await ready(world, market, daemon, "BTCUSDT")
            before = boundary - MINUTE
            await daemon.until_closed("BTCUSDT", "1m", before)
            bar = (await daemon.klines("BTCUSDT", "1m", end_time=before))[-1]
            while not (hour := (await daemon.klines("BTCUSDT", "1h"))[-1])["is_complete"]:
                await trade_until(market, market.clock.now_ms() + 1, "BTCUSDT")
            trades = market.trades_of("BTCUSDT")
    monkeypatch.undo()
    assert assert_true(market, "BTCUSDT", "1m", [bar]) == 1
    assert float(hour["volume"]) <= len(trades)
    assert float(hour["volume"]).is_integer()


async def test_a_sum_beyond_64_bits_halts_that_symbol_alone(tmp_path: Path) -> None:
    """It stands still, with what was shown of it but without the claim; the other goes on."""
    market = market_of("BTCUSDT", "ETHUSDT")
    for number in range(2):
        # Each fits by itself; the hour and the day that they are summed up to do not.
        row = [LISTED + number * MINUTE, *[10_000] * 4, 2**62, 1, 1, 1, 1]
        market.amend_minute("ETHUSDT", row)
    with trio.fail_after(LIMIT_S):
        async with open_world(market, tmp_path) as world, world.daemon() as daemon:
            await subscribed(world, "BTCUSDT", "ETHUSDT")
            status = await daemon.get("/api/v1/status")
            while not status["symbols"]["halted"]["count"]:
                await trade_until(market, market.clock.now_ms() + 1, "BTCUSDT", "ETHUSDT")
                status = await daemon.get("/api/v1/status")
            # What is served is what the last swap has shown.
            await daemon.until_taken(0)
            halted = await daemon.klines("ETH_USDT", "1m")
            last = minute_of(market) + MINUTE
            await trade_until(market, last + MINUTE + 10_000, "BTCUSDT", "ETHUSDT")
            await daemon.until_closed("BTCUSDT", "1m", last)
            going = await daemon.klines("BTC_USDT", "1m")
            unready = (await daemon.client.get("/readyz")).json()
            status = await daemon.get("/api/v1/status")
            after = await daemon.klines("ETH_USDT", "1m")
            longer = [await daemon.klines("ETH_USDT", name) for name in ("1h", "1d", "1w")]

    assert [each["symbol"] for each in status["symbols"]["halted"]["first"]] == ["ETH_USDT"]
    assert "64 bits" in status["symbols"]["halted"]["first"][0]["reason"]
    assert "1 symbols are halted, ETH_USDT the first" in str(unready)
    assert status["symbols"]["seeding"]["count"] == 0
    assert status["actors"]["restarts"] == status["parts"]["repair"]["restarts"] == 0
    assert assert_true(market, "BTCUSDT", "1m", going) > 1
    assert halted
    assert halted[-1] == after[-1]
    assert not any(bars[-1]["is_complete"] for bars in (after, *longer))
    assert not after[-1]["is_final"]


async def test_a_symbol_that_has_never_traded_is_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is nothing to know of it; its first trade then opens its bars."""
    monkeypatch.setattr(seeder, "ANCHOR_PATIENCE_S", 0.3)
    monkeypatch.setattr(seeder, "BOUNDARY_PATIENCE_S", 0.3)
    instrument = plain_instrument("NEWUSDT", listing_time=START - 1)
    market = ScriptedMarket([instrument], clock=SimClock(START, rate=RATE))
    with trio.fail_after(LIMIT_S):
        async with open_world(market, tmp_path) as world, world.daemon() as daemon:
            await daemon.until_ready()
            status = await daemon.get("/api/v1/status")
            assert status["symbols"]["seeding"]["count"] == 0
            assert await daemon.klines("NEW_USDT", "1m") == []
            await subscribed(world, "NEWUSDT")
            market.trade("NEWUSDT", "5.00", "1.000")
            while not (bars := await daemon.klines("NEW_USDT", "1m")):
                await trio.sleep(0.05)
            assert (await daemon.client.get("/readyz")).status_code == 200
    # A minute may have ended since.
    assert ("5.00", 1) == (bars[0]["close"], bars[0]["trade_count"])


# ---------------------------------------------------------------------------------------------
# What a restored book claims.
# ---------------------------------------------------------------------------------------------


def unproved(open_time: int) -> list[int]:
    """Return a closed bar that the last run could not prove."""
    return [open_time, 100, 110, 90, 105, 7, 700, 3, 2, 200, 400, 402, Flag.FINAL]


async def test_a_restored_book_claims_nothing_from_before_its_oldest_bar() -> None:
    """That bar is proved from its start on, and so is what lies inside it; what is older is not."""
    hour = INTERVALS["1h"].open_of(BASE_TIME)
    now = BASE_TIME + 30_000
    assert hour + MINUTE <= BASE_TIME
    newest = [NO_BARS] * REGISTRY.capacity
    newest[0] = np.array([unproved(hour - MINUTE), unproved(hour)], np.int64)
    engine = Engine(REGISTRY)
    assert restore(engine, live_rows(0), newest, now) == 1
    book = engine.book(0)

    engine.tick(0)
    shown = [engine.store.live_row(row) for row in range(REGISTRY.period_count)]
    assert [Flag.COMPLETE] * 3 == [row[FLAGS] & Flag.COMPLETE for row in shown]

    book.apply(AggTrade("AUSDT", 501, 100, 5, 9, 9, now, False))
    book.flush()
    before, inside = book.closed_bar(0, hour - MINUTE), book.closed_bar(0, hour)
    assert before is not None
    assert inside is not None
    assert (0, Flag.COMPLETE) == (before[FLAGS] & Flag.COMPLETE, inside[FLAGS] & Flag.COMPLETE)
