"""The whole daemon on PostgreSQL, and a server that is killed under it."""

from __future__ import annotations

import os
import signal
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import trio

from klinetrio.domain.interval import DEFAULT_INTERVALS, INTERVALS, MINUTE
from klinetrio.domain.kline import OPEN_TIME, VOLUME
from klinetrio.sim.clock import SimClock
from klinetrio.sim.seeded import SeededMarket
from tests.chaos.judge import Span, judge_series
from tests.e2e.processes import daemon_process
from tests.e2e.world import LIMIT_S, assert_true, open_world
from tests.postgres import open_server


if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.e2e.processes import DaemonProcess
    from tests.e2e.world import World
    from tests.postgres import PostgresServer

RATE = 30
START = 1_786_172_370_000
# Symbols with so many trades that each minute is proved by the next one's.
LIVELY = 5
# So many that two cores have room for something else; 5,000 fill them.
KILLED_TRADES_PER_S = float(os.environ.get("KLINETRIO_TEST_TRADES_PER_S", "1000"))
FAST = (str(Path(__file__).with_name("fast_daemon.py")), str(RATE))

_ALL = """
SELECT name, interval, open_time, open, high, low, close, volume, quote_volume, trade_count,
    taker_buy_volume, taker_buy_quote_volume, first_agg_id, last_agg_id,
    flags | (revision::bigint << 8)
FROM klines JOIN series USING (series_id) JOIN symbols USING (symbol_id)
"""


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """Return a server of the test's own."""
    with open_server() as own:
        yield own


def market_of(*, trades_per_s: float, symbols: int = 20) -> SeededMarket:
    """Return a market with so many trades per second of this machine's clock."""
    return SeededMarket(
        seed=5,
        symbols=symbols,
        trades_per_second=trades_per_s / RATE,
        history_minutes=3_000,
        clock=SimClock(START, rate=RATE),
    )


@asynccontextmanager
async def world_on(url: str, market: SeededMarket, folder: Path) -> AsyncIterator[World]:
    """Open a world whose daemons store in a database of a server."""
    async with open_world(market, folder) as world:
        world.settings |= {"storage.url": url, "storage.spool": str(folder / "spool")}
        yield world


async def is_proved(daemon: DaemonProcess, symbol: str, **times: int) -> bool:
    """Tell whether a closed minute is served as complete."""
    bars = await daemon.get("/api/v1/klines", symbol=symbol, interval="1m", **times)
    return bool(bars) and bars[0]["is_final"] and bars[0]["is_complete"]


async def storage_of(daemon: DaemonProcess) -> dict[str, Any]:
    """Return what the status tells of the storage."""
    told: dict[str, Any] = (await daemon.get("/api/v1/status"))["storage"]
    return told


async def until_seeded(daemon: DaemonProcess) -> None:
    """Wait until all symbols know their past."""
    while True:
        status = (await daemon.client.get("/api/v1/status")).json()
        # While it starts there are none yet.
        if "symbols" in status and not status["symbols"]["seeding"]["count"]:
            return
        await trio.sleep(0.05)


def failures(url: str, market: SeededMarket, since: int, until: int) -> tuple[int, list[str]]:
    """Judge all stored bars; return how many were right and what is wrong."""
    with psycopg.connect(url) as connection:
        stored: dict[tuple[str, str], list[tuple[int, ...]]] = {}
        for name, interval, *row in connection.execute(_ALL):
            stored.setdefault((name, interval), []).append(tuple(row))
    span = Span(since, until, market.clock.now_ms())
    right, wrong = 0, []
    for symbol in market.trading_symbols[:LIVELY]:
        for name in DEFAULT_INTERVALS:
            interval, rows = INTERVALS[name], stored.get((symbol, name), [])
            oldest = min([row[OPEN_TIME] for row in rows] + [interval.open_of(since)])
            truth = {
                row[OPEN_TIME]: row
                for row in market.true_klines(symbol, interval, oldest, span.now)
            }
            tally = judge_series(symbol, interval, rows=rows, truth=truth, span=span)
            right += tally.checked
            wrong += [*tally.examples, *["and more"] * (tally.failures > len(tally.examples))]
    return right, wrong


async def test_the_whole_daemon_on_postgresql(postgres_url: str, tmp_path: Path) -> None:
    """Served, pushed and stored bars are those of the market; people see them with decimals."""
    market = market_of(trades_per_s=300)
    with trio.fail_after(LIMIT_S):
        async with world_on(postgres_url, market, tmp_path) as world:
            async with world.daemon() as daemon:
                await daemon.until_ready()
                ready = market.clock.now_ms()
                minute = ready - ready % MINUTE + 2 * MINUTE
                await daemon.until_closed("BTC_USDT", "1m", minute)
                served = await daemon.klines("BTC_USDT", "1m")
                status = await daemon.get("/api/v1/status")
                # From the database, the memory and the open bar at once.
                assert assert_true(market, "BTCUSDT", "1m", served) > 2
                assert status["storage"]["size"] > 0
            until = minute + MINUTE
        right, wrong = failures(postgres_url, market, ready, until)
        assert wrong == []
        assert right > 100
        with psycopg.connect(postgres_url) as person:
            query = "SELECT volume FROM klines_decimal WHERE (symbol, interval, open_time) = "
            ((seen,),) = person.execute(f"{query} ('BTCUSDT', '1m', {minute})").fetchall()
        (truth,) = market.true_klines("BTCUSDT", INTERVALS["1m"], minute, minute + 1)
        assert int(seen.scaleb(3)) == truth[VOLUME]


async def test_a_killed_server_costs_no_bar(server: PostgresServer, tmp_path: Path) -> None:
    """Killed and restarted three times under load: all is written once when it is back."""
    market = market_of(trades_per_s=KILLED_TRADES_PER_S)
    with trio.fail_after(LIMIT_S):
        async with (
            world_on(server.url, market, tmp_path) as world,
            daemon_process(world.settings, *FAST) as daemon,
        ):
            await daemon.until_ready()
            ready = market.clock.now_ms()
            for _ in range(3):
                await trio.to_thread.run_sync(server.kill)
                closed = market.clock.now_ms() + 2 * MINUTE
                while (await daemon.get("/api/v1/status"))["storage"]["failures_in_a_row"] < 2:
                    await trio.sleep(0.05)
                await trio.sleep_until(market.clock.trio_time_of(closed))
                await trio.to_thread.run_sync(server.start)
                while (await daemon.get("/api/v1/status"))["storage"]["failures_in_a_row"]:
                    await trio.sleep(0.05)
            now = market.clock.now_ms()
            until = now - now % MINUTE
            newest = {"start_time": until - MINUTE, "end_time": until - MINUTE}
            for symbol in market.trading_symbols[:LIVELY]:
                while not await is_proved(daemon, symbol, **newest):
                    await trio.sleep(0.05)
            assert await daemon.end(signal.SIGTERM) == 0
        right, wrong = failures(server.url, market, ready, until)
    assert wrong == []
    assert right > 100


async def test_a_server_that_comes_late_gets_everything(
    server: PostgresServer, tmp_path: Path
) -> None:
    """Bars are live without it, also after kill -9, wait on disk, and are written when it is there."""
    market = market_of(trades_per_s=300)
    server.kill()
    with trio.fail_after(LIMIT_S):
        async with (
            world_on(server.url, market, tmp_path) as world,
            daemon_process(world.settings, *FAST) as daemon,
        ):
            await daemon.logged(" database_away ")
            await until_seeded(daemon)
            ready = market.clock.now_ms()
            await trio.sleep_until(market.clock.trio_time_of(ready + 3 * MINUTE))
            while (await storage_of(daemon))["backlog_disk"] < 2 * LIVELY:
                await trio.sleep(0.05)
            refused = await daemon.client.get("/readyz")
            await daemon.end(signal.SIGKILL)
            async with daemon_process(world.settings, *FAST) as successor:
                universe = await successor.logged(" universe ")
                await until_seeded(successor)
                without = await storage_of(successor)
                short, long = [
                    await successor.client.get(
                        "/api/v1/klines",
                        params={"symbol": "BTCUSDT", "interval": "1m", "limit": limit},
                    )
                    for limit in (2, 1_500)
                ]
                now = market.clock.now_ms()
                await trio.sleep_until(market.clock.trio_time_of(now + 2 * MINUTE))
                await trio.to_thread.run_sync(server.start)
                await successor.logged(" database_reached ")
                await successor.until_ready()
                minute = market.clock.now_ms() // MINUTE * MINUTE
                newest = {"start_time": minute, "end_time": minute}
                for symbol in market.trading_symbols[:LIVELY]:
                    while not await is_proved(successor, symbol, **newest):
                        await trio.sleep(0.05)
                assert await successor.end(signal.SIGTERM) == 0
        right, wrong = failures(server.url, market, ready, minute + MINUTE)
    assert refused.status_code == 503
    assert "the database failed" in refused.text
    assert int(universe.split("restored=")[1]) > 0
    assert (without["attached"], without["given_up"]) == (False, 0)
    # Memory has the last two hours, and says so of no more.
    assert (short.status_code, long.status_code) == (200, 503)
    assert len(short.json()) == 2
    assert wrong == []
    assert right > 50
