"""Bars close on the exchange's clock, however wrong the machine's own is."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
import trio

from klinetrio.app import Daemon
from klinetrio.config import load_config
from klinetrio.domain.interval import MINUTE
from klinetrio.exchange.clock import ExchangeClock
from klinetrio.sim.clock import SimClock
from klinetrio.sim.scripted import ScriptedMarket, plain_instrument
from tests.e2e.world import LIMIT_S, Asked, World, assert_true, open_world


if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

# Slow enough that a machine that stalls for a second or two changes no verdict below.
RATE = 6
START = 1_786_172_385_000
"""Fifteen seconds before 05:00 UTC."""

LATE_MS = 20_000


@asynccontextmanager
async def daemon_off_by(world: World, skew_ms: int) -> AsyncIterator[Asked]:
    """Run a daemon on a machine whose clock is ahead of the exchange's."""
    told = world.exchange.market.clock
    clock = ExchangeClock(told.rate, lambda: (told.now_ms() + skew_ms) / 1000)
    daemon = Daemon(load_config(overrides=world.settings), clock=clock)
    async with trio.open_nursery() as nursery:
        address = await nursery.start(daemon.run)
        async with httpx2.AsyncClient(base_url=address, trust_env=False, timeout=60) as client:
            yield Asked(daemon, client)
        daemon.stop.set()


async def minute(daemon: Asked, open_time: int) -> dict[str, Any] | None:
    """Return the minute's bar, None if there is none yet."""
    bars = await daemon.klines("BTCUSDT", "1m", start_time=open_time, end_time=open_time)
    return bars[0] if bars else None


async def closing_time(daemon: Asked, market: ScriptedMarket, open_time: int) -> int:
    """Return the exchange's time at which the minute was first seen to be final."""
    while True:
        bar = await minute(daemon, open_time)
        if bar is not None and bar["is_final"]:
            return market.clock.now_ms()
        await trio.sleep(0.05)


async def trade_until(market: ScriptedMarket, time_ms: int) -> None:
    """Make about a trade a second of the exchange's time."""
    while market.clock.now_ms() < time_ms:
        price = 100 + len(market.trades_of("BTCUSDT")) * 7 % 13
        market.trade("BTCUSDT", f"{price}.00", "1.000")
        await trio.sleep(1 / RATE)


@pytest.mark.parametrize("skew_ms", [45_000, -45_000])
async def test_a_machine_that_is_off_closes_bars_as_the_exchange_does(
    skew_ms: int, tmp_path: Path
) -> None:
    """Not before the minute is over there, not long after it, and with exactly its trades."""
    listed = START - START % MINUTE
    instrument = plain_instrument("BTCUSDT", listing_time=listed)
    market = ScriptedMarket([instrument], clock=SimClock(START, rate=RATE))
    market.trade("BTCUSDT", "100.00", "1.000", T=listed)
    with trio.fail_after(LIMIT_S):
        async with (
            open_world(market, tmp_path) as world,
            daemon_off_by(world, skew_ms) as daemon,
        ):
            while world.exchange.subscribers("BTCUSDT") == 0:
                await trio.sleep(0.01)
            # The past is taken over at the end of a minute, which is over by then.
            while (await daemon.client.get("/readyz")).status_code != 200:
                await trade_until(market, market.clock.now_ms() + 1)
            now = market.clock.now_ms()
            first = now - now % MINUTE + MINUTE
            async with trio.open_nursery() as nursery:
                # Short of the end of the second minute.
                nursery.start_soon(trade_until, market, first + 2 * MINUTE - 3_000)
                assert first + MINUTE <= await closing_time(daemon, market, first)
            status = await daemon.get("/api/v1/status")

            # Without another trade only the clock can close the second minute.
            second = first + MINUTE
            end = second + MINUTE
            assert end <= await closing_time(daemon, market, second) < end + LATE_MS

            market.trade("BTCUSDT", "99.00", "1.000")
            for open_time in (first, second):
                await daemon.until_closed("BTCUSDT", "1m", open_time)
            bars = await daemon.klines("BTCUSDT", "1m", start_time=first, end_time=second)

    assert assert_true(market, "BTCUSDT", "1m", bars) == 2
    # No revisions here: a trade that a stalled machine brings after the grace is a correction.
    assert {"live"} == {bar["origin"] for bar in bars}
    assert status["clock_skew_ms"] == pytest.approx(skew_ms, abs=5_000)
    assert status["trades"]["bad_frames"] == {}
