"""Ids that turn out wrong, over real sockets: the daemon gets right again by itself."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import trio

from klinetrio.domain.interval import INTERVALS, MINUTE
from klinetrio.domain.kline import FIRST_AGG_ID, NO_ID, OPEN, OPEN_TIME
from klinetrio.engine.ledger import MAX_DISORDER_MS
from klinetrio.sim.clock import SimClock
from klinetrio.sim.scripted import ScriptedMarket, plain_instrument
from klinetrio.sim.tape import Tape
from tests.e2e.test_knowledge import known, newest_hour
from tests.e2e.world import LIMIT_S, Asked, World, open_world, scaled


if TYPE_CHECKING:
    from pathlib import Path

# The start of an hour, so that no bar but the longest began before the symbol was listed.
START = 1_786_172_400_000
RATE = 30

# Minutes: one to be over and one to be whole, and as many as a busy machine may sleep through.
SOON = 20


def new_market() -> ScriptedMarket:
    """Return a market whose only symbol has just been listed, so that it has no past to wait for."""
    instrument = plain_instrument("BTCUSDT", listing_time=START)
    return ScriptedMarket([instrument], clock=SimClock(START, rate=RATE))


def start_ids_over(market: ScriptedMarket) -> None:
    """Let the exchange number its next trades from the beginning, and forget the old ones."""
    book = market.ledger.book("BTCUSDT")
    book.tape = Tape()
    for bar in book.live._bars.values():
        # The ids of before say nothing any more of what comes first and what last.
        bar[FIRST_AGG_ID:] = [NO_ID, NO_ID]


def inject(world: World, market: ScriptedMarket, agg_id: int) -> None:
    """Send the daemon a trade that never was."""
    now = market.clock.now_ms()
    frame = {"e": "aggTrade", "E": now, "a": agg_id, "s": "BTCUSDT", "p": "777777.00"}
    frame |= {"q": "1.000", "f": 1, "l": 1, "T": now, "m": False}
    world.exchange.inject("BTCUSDT", json.dumps(frame))


async def until_right(market: ScriptedMarket, daemon: Asked) -> float:
    """Trade on until the open bars are complete again; return how many minutes that took."""
    began = market.clock.now_ms()
    number = 0
    while not (await newest_hour(daemon))["is_complete"]:
        number += 1
        market.trade("BTCUSDT", f"{500 + number % 7}.00", "1.000")
        await trio.sleep(0.1)
    return (market.clock.now_ms() - began) / MINUTE


async def check(market: ScriptedMarket, daemon: Asked) -> None:
    """Trade two minutes more; then all bars are complete and true, the open hour too."""
    until = market.clock.now_ms() // MINUTE * MINUTE + 2 * MINUTE
    while market.clock.now_ms() < until:
        market.trade("BTCUSDT", "600.00", "1.000")
        await trio.sleep(0.1)
    # A bar is proved by a trade after its end.
    market.trade("BTCUSDT", "600.00", "1.000")
    await daemon.until_closed("BTCUSDT", "1m", until - MINUTE)
    for interval in ("1m", "5m"):
        bars = await daemon.klines("BTCUSDT", interval, end_time=until - MINUTE)
        rows = market.true_klines("BTCUSDT", INTERVALS[interval], bars[0]["open_time"], until)
        truth = {row[OPEN_TIME]: list(row[OPEN:FIRST_AGG_ID]) for row in rows}
        for bar in bars:
            assert bar["is_complete"], bar
            assert truth[bar["open_time"]] == scaled(bar) or not bar["is_final"]
    assert (await newest_hour(daemon))["is_complete"]
    assert (await newest_hour(daemon))["high"] != "777777.00"


async def test_ids_that_start_over(tmp_path: Path) -> None:
    """As after a new listing: what comes is taken, and what was dropped at first is made up for."""
    market = new_market()
    with trio.fail_after(LIMIT_S):
        async with open_world(market, tmp_path) as world, world.daemon() as daemon:
            await known(world, market, daemon)
            for _ in range(100):
                # So that the old count is well ahead of the new one.
                market.trade("BTCUSDT", "300.00", "1.000")
            sent = len(market.trades_of("BTCUSDT"))
            await daemon.until_taken(sent)
            assert (await newest_hour(daemon))["is_complete"]
            # A trade as old as the newest one might be one of those seen; one of later is another.
            later = market.trades_of("BTCUSDT")[-1].time + 2 * MAX_DISORDER_MS
            start_ids_over(market)
            await trio.sleep_until(market.clock.trio_time_of(later))
            market.trade("BTCUSDT", "400.00", "1.000")
            await daemon.until_taken(sent + 1)
            # A busy machine may look so late that all is mended.
            hour = await newest_hour(daemon)
            assert not hour["is_complete"] or hour["close"] == "400.00"
            assert await until_right(market, daemon) < SOON
            await check(market, daemon)
            trades = (await daemon.get("/api/v1/status"))["trades"]
            assert trades["refused"] >= 1


async def test_a_wrong_id_ahead(tmp_path: Path) -> None:
    """One that opens a hole which the exchange cannot fill, and one that is not believed."""
    market = new_market()
    with trio.fail_after(LIMIT_S):
        async with open_world(market, tmp_path) as world, world.daemon() as daemon:
            await known(world, market, daemon)
            sent = len(market.trades_of("BTCUSDT"))
            newest = market.trades_of("BTCUSDT")[-1].agg_id
            inject(world, market, newest + 1_000_000)
            market.trade("BTCUSDT", "400.00", "1.000")
            await daemon.until_taken(sent + 2)
            assert (await newest_hour(daemon))["is_complete"]

            inject(world, market, newest + 4_000)
            await daemon.until_taken(sent + 3)
            hour = await newest_hour(daemon)
            assert not hour["is_complete"] or hour["high"] != "777777.00"
            assert await until_right(market, daemon) < SOON
            await check(market, daemon)
