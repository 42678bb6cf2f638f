"""The whole daemon on PostgreSQL, and a server that is killed under it."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
import trio

from klinetrio.domain.interval import DEFAULT_INTERVALS, INTERVALS, MINUTE
from klinetrio.domain.kline import OPEN_TIME, VOLUME
from klinetrio.sim.clock import SimClock
from klinetrio.sim.seeded import SeededMarket
from tests.chaos.judge import Span, judge_series
from tests.e2e.processes import daemon_process
from tests.e2e.world import assert_true, open_world
from tests.postgres import open_server


if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.processes import DaemonProcess
    from tests.postgres import PostgresServer

RATE = 30
START = 1_786_172_370_000
# Symbols with so many trades that each minute is proved by the next one's.
LIVELY = 5
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


async def is_proved(daemon: DaemonProcess, symbol: str, **times: int) -> bool:
    """Tell whether a closed minute is served as complete."""
    bars = await daemon.get("/api/v1/klines", symbol=symbol, interval="1m", **times)
    return bool(bars) and bars[0]["is_final"] and bars[0]["is_complete"]


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
    with trio.fail_after(120):
        async with open_world(market, tmp_path) as world:
            world.settings["storage.url"] = postgres_url
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
    market = market_of(trades_per_s=1_000)
    with trio.fail_after(300):
        async with open_world(market, tmp_path) as world:
            world.settings["storage.url"] = server.url
            async with daemon_process(world.settings, *FAST) as daemon:
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
