"""What the daemon claims is what it can know: after a lost feed, and after its end."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

import trio

from klinetrio.sim.clock import SimClock
from klinetrio.sim.scripted import ScriptedMarket
from tests.e2e.world import LIMIT_S, Asked, World, open_world


if TYPE_CHECKING:
    from pathlib import Path

RATE = 30
START = 1_786_172_370_000


async def known(world: World, market: ScriptedMarket, daemon: Asked) -> None:
    """Trade until the daemon knows the past of its only symbol."""
    while world.exchange.subscribers("BTCUSDT") == 0:
        await trio.sleep(0.01)
    while (await daemon.client.get("/readyz")).status_code != 200:
        market.trade("BTCUSDT", "100.00", "1.000")
        await trio.sleep(0.05)


async def newest_hour(daemon: Asked) -> dict[str, Any]:
    """Return the open 1h bar."""
    bars = await daemon.klines("BTCUSDT", "1h")
    return bars[-1]


async def test_after_a_reconnect_nothing_is_complete_until_the_exchange_was_asked(
    tmp_path: Path,
) -> None:
    """A trade that was missed is found although no other comes, and never denied."""
    market = ScriptedMarket(["BTCUSDT"], clock=SimClock(START, rate=RATE))
    with trio.fail_after(LIMIT_S):
        async with open_world(market, tmp_path) as world, world.daemon() as daemon:
            await known(world, market, daemon)
            before = await newest_hour(daemon)
            world.exchange.drop_connections()
            market.trade("BTCUSDT", "300.00", "1.000", delivered=False)
            told = [before]
            while told[-1]["close"] != "300.00":
                told.append(await newest_hour(daemon))
                down = told[-1]["close"] != "300.00" and len(told) > 20
                assert not (down and told[-1]["is_complete"])
                await trio.sleep(0.05)
            while not (await newest_hour(daemon))["is_complete"]:
                await trio.sleep(0.05)


async def test_an_orderly_stop_writes_everything_that_was_taken(tmp_path: Path) -> None:
    """With the periodic flush out of the way, every trade is in the file when the daemon ends."""
    market = ScriptedMarket(["BTCUSDT"], clock=SimClock(START, rate=RATE))
    with trio.fail_after(LIMIT_S):
        async with (
            open_world(market, tmp_path) as world,
            world.daemon(**{"storage.flush_interval_s": 300.0}) as daemon,
        ):
            while world.exchange.subscribers("BTCUSDT") == 0:
                await trio.sleep(0.01)
            for number in range(500):
                market.trade("BTCUSDT", f"{100 + number % 7}.00", "1.000")
            while (await daemon.get("/api/v1/status"))["trades"]["frames"] < 500:
                await trio.sleep(0.01)

    query = "SELECT sum(volume) FROM {} WHERE interval = '1m'"
    database = sqlite3.connect(world.database)
    closed, live = (
        database.execute(query.format(table)).fetchone()[0] or 0 for table in ("klines", "live")
    )
    database.close()
    assert closed + live == 500 * 1_000
