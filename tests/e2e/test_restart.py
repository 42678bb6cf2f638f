"""A daemon that was ended, in order or not, goes on where it stopped and misses nothing."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

from klinetrio.domain.interval import DEFAULT_INTERVALS, MINUTE
from klinetrio.sim.clock import SimClock
from klinetrio.sim.seeded import SeededMarket
from tests.e2e.processes import DaemonProcess, daemon_process
from tests.e2e.world import LIMIT_S, World, assert_true, open_world


if TYPE_CHECKING:
    from collections.abc import Mapping

RATE = 30
START = 1_786_172_370_000
FAST = (str(Path(__file__).with_name("fast_daemon.py")), str(RATE))


def busy_market() -> SeededMarket:
    """About 300 trades per real second."""
    clock = SimClock(START, rate=RATE)
    return SeededMarket(
        seed=5, symbols=20, trades_per_second=10, history_minutes=3_000, clock=clock
    )


async def until(world: World, time_ms: int) -> None:
    """Wait until the exchange's clock shows a time."""
    await trio.sleep_until(world.exchange.market.clock.trio_time_of(time_ms))


async def all_bars(daemon: DaemonProcess) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Everything the daemon serves."""
    return {
        (symbol["exchange_symbol"], interval): await daemon.get(
            "/api/v1/klines", symbol=symbol["symbol"], interval=interval, limit=1500
        )
        for symbol in await daemon.get("/api/v1/symbols")
        for interval in DEFAULT_INTERVALS
    }


def check(
    market: SeededMarket, served: Mapping[tuple[str, str], list[dict[str, Any]]], until_ms: int
) -> None:
    """Every bar up to a time is there once and true; those of active symbols are complete."""
    for (symbol, interval), bars in served.items():
        opens = [bar["open_time"] for bar in bars]
        assert sorted(set(opens)) == opens
        assert_true(market, symbol, interval, bars)
        if interval == "1m":
            assert list(range(opens[0], opens[-1] + MINUTE, MINUTE)) == opens
        if symbol == "BTCUSDT":
            old = [bar for bar in bars if bar["close_time"] < until_ms]
            assert old or interval in {"1d", "1w"}
            assert all(bar["is_final"] and bar["is_complete"] for bar in old)


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_a_restart_continues_every_bar(
    number: signal.Signals, kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Ended under load and started again on its database, a daemon has every trade once."""
    market = busy_market()
    with trio.fail_after(LIMIT_S):
        async with open_world(market, tmp_path) as world:
            if kind == "postgres":
                world.settings["storage.url"] = request.getfixturevalue("postgres_url")
            async with daemon_process(world.settings, *FAST) as daemon:
                await daemon.until_ready()
                ready = market.clock.now_ms()
                await until(world, ready + 90_000)
                status = await daemon.end(number)
                assert status == (0 if number is signal.SIGTERM else -signal.SIGKILL)
                if number is signal.SIGTERM:
                    assert " stopped" in await daemon.logged(" stopped")
            async with daemon_process(world.settings, *FAST) as daemon:
                universe = await daemon.logged(" universe ")
                await daemon.until_ready()
                back = market.clock.now_ms()
                end = back - back % MINUTE + 3 * MINUTE
                await until(world, end + 20_000)
                while (await daemon.get("/api/v1/status"))["symbols"]["open_holes"]["count"]:
                    await trio.sleep(0.05)
                served = await all_bars(daemon)
                trades = (await daemon.get("/api/v1/status"))["trades"]

        check(market, served, end)
        # Active symbols go on from their stored rows, with the missed trades fetched by id.
        assert int(universe.split("restored=")[1]) > 0
        assert trades["repaired"] > 0
