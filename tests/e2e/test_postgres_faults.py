"""A PostgreSQL server that is there and does not do what it is asked."""

from __future__ import annotations

import signal
from decimal import Decimal
from typing import TYPE_CHECKING

import attrs
import httpx2
import psycopg
import pytest
import trio

from klinetrio.domain.interval import DEFAULT_INTERVALS, INTERVALS, MINUTE, parse_intervals
from klinetrio.domain.kline import CLOSE, VOLUME
from klinetrio.engine.registry import SymbolPeriodRegistry
from klinetrio.storage.postgres import PostgresStore
from tests.e2e.processes import daemon_process
from tests.e2e.test_postgres import (
    FAST,
    LIVELY,
    failures,
    is_proved,
    market_of,
    storage_of,
    until_seeded,
    world_on,
)
from tests.e2e.test_restart import check
from tests.e2e.world import LIMIT_S
from tests.postgres import open_server


if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from klinetrio.sim.seeded import SeededMarket
    from tests.e2e.processes import DaemonProcess
    from tests.postgres import PostgresServer

# A transaction with closed bars, and nothing else, meets this.
_TROUBLE = """
CREATE FUNCTION trouble() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN {what}; RETURN NULL; END $$;
CREATE TRIGGER trouble AFTER INSERT ON klines FOR EACH STATEMENT EXECUTE FUNCTION trouble();
"""
_NO_TROUBLE = "DROP FUNCTION trouble CASCADE"

SLOW = "PERFORM pg_sleep(10)"
FULL = "RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'"
REFUSED = "RAISE EXCEPTION 'there is a rule against it' USING ERRCODE = '23514'"


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """Return a server of the test's own."""
    with open_server() as own:
        yield own


def tell(url: str, statements: str) -> None:
    """Have the server do something, as its owner would."""
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute(statements)


async def minutes_of(
    daemon: DaemonProcess, market: SeededMarket
) -> dict[tuple[str, str], list[dict[str, object]]]:
    """Return the busiest symbol's last half hour as it is served."""
    since = market.clock.now_ms() - 30 * MINUTE
    bars = await daemon.get("/api/v1/klines", symbol="BTCUSDT", interval="1m", start_time=since)
    return {("BTCUSDT", "1m"): bars}


async def until_whole(daemon: DaemonProcess, market: SeededMarket) -> int:
    """Wait until nothing waits and the newest minute of lively symbols is proved; return its end."""
    while (await storage_of(daemon))["backlog"]:
        await trio.sleep(0.05)
    minute = market.clock.now_ms() // MINUTE * MINUTE
    for symbol in market.trading_symbols[:LIVELY]:
        while not await is_proved(daemon, symbol, start_time=minute, end_time=minute):
            await trio.sleep(0.05)
    return minute + MINUTE


@pytest.mark.parametrize(
    ("what", "words"),
    [
        pytest.param(SLOW, "", id="ten-seconds-a-batch"),
        pytest.param(FULL, "No space left on device", id="disk-full"),
        pytest.param(REFUSED, "there is a rule against it", id="refused"),
    ],
)
async def test_a_server_in_trouble_costs_no_bar(
    postgres_url: str, tmp_path: Path, what: str, words: str
) -> None:
    """Bars are served as they are, wait on disk, are told of, and are written once in the end."""
    market = market_of(trades_per_s=300)
    with trio.fail_after(LIMIT_S):
        async with (
            world_on(postgres_url, market, tmp_path) as world,
            daemon_process(world.settings, *FAST) as daemon,
        ):
            await daemon.until_ready()
            ready = market.clock.now_ms()
            await trio.to_thread.run_sync(tell, postgres_url, _TROUBLE.format(what=what))
            # On disk, and not in memory alone.
            told = await storage_of(daemon)
            while told["backlog_disk"] < 3 * LIVELY or (not told["last_error"] and words):
                await trio.sleep(0.05)
                told = await storage_of(daemon)
            refused = await daemon.client.get("/readyz")
            told_at = market.clock.now_ms()
            await trio.sleep_until(market.clock.trio_time_of(told_at + 2 * MINUTE))
            check(market, await minutes_of(daemon, market), told_at - told_at % MINUTE)
            await trio.to_thread.run_sync(tell, postgres_url, _NO_TROUBLE)
            until = await until_whole(daemon, market)
            after = await storage_of(daemon)
            assert await daemon.end(signal.SIGTERM) == 0
        right, wrong = failures(postgres_url, market, ready, until)
    assert words in told["last_error"]
    assert refused.status_code == (503 if words else 200)
    assert (after["given_up"], after["last_error"]) == (0, "")
    assert wrong == []
    assert right > 50


async def test_a_restart_while_the_server_is_away_leaves_no_hole(
    server: PostgresServer, tmp_path: Path
) -> None:
    """What the exchange tells of the time in which nothing ran waits until it can be stored."""
    market = market_of(trades_per_s=300)
    with trio.fail_after(LIMIT_S):
        async with world_on(server.url, market, tmp_path) as world:
            async with daemon_process(world.settings, *FAST) as daemon:
                await daemon.until_ready()
                ready = market.clock.now_ms()
                await until_whole(daemon, market)
                assert await daemon.end(signal.SIGTERM) == 0
            server.kill()
            ended = market.clock.now_ms()
            await trio.sleep_until(market.clock.trio_time_of(ended + 3 * MINUTE))
            async with daemon_process(world.settings, *FAST) as daemon:
                await daemon.logged(" past_not_stored ")
                await until_seeded(daemon)
                await trio.to_thread.run_sync(server.start)
                await daemon.logged(" past_stored ")
                until = await until_whole(daemon, market)
                assert await daemon.end(signal.SIGTERM) == 0
        right, wrong = failures(server.url, market, ready, until)
    assert wrong == []
    assert right > 50


async def until_ready_again(daemon: DaemonProcess) -> None:
    """Wait until a daemon that starts over is ready; connections end with its first interfaces."""
    while True:
        try:
            return await daemon.until_ready()
        except httpx2.RemoteProtocolError:
            await trio.sleep(0.05)


async def test_a_late_server_with_more_decimals_starts_the_run_over(
    server: PostgresServer, tmp_path: Path
) -> None:
    """What was folded without it counts in coarser units than what is stored there."""
    market = market_of(trades_per_s=300)
    known = [market.ledger.book(name).instrument.symbol for name in market.trading_symbols]
    symbols = [attrs.evolve(each, price_scale=each.price_scale + 1) for each in known]
    store = PostgresStore(server.url)
    with store.claim():
        store.open()
        store.attach(SymbolPeriodRegistry.ranked(symbols, parse_intervals(DEFAULT_INTERVALS)))
        store.close()
    server.kill()
    with trio.fail_after(LIMIT_S):
        async with (
            world_on(server.url, market, tmp_path) as world,
            daemon_process(world.settings, *FAST) as daemon,
        ):
            await daemon.logged(" database_away ")
            await until_seeded(daemon)
            while not (await storage_of(daemon))["backlog_disk"]:
                await trio.sleep(0.05)
            # So that the interfaces know the decimals that are about to change.
            before = await daemon.get("/api/v1/klines", symbol="BTCUSDT", interval="1m", limit=2)
            await trio.to_thread.run_sync(server.start)
            await daemon.logged(" starting_over ")
            await until_ready_again(daemon)
            minute = await until_whole(daemon, market) - MINUTE
            served = await daemon.get(
                "/api/v1/klines", symbol="BTCUSDT", interval="1m", start_time=minute
            )
            assert await daemon.end(signal.SIGTERM) == 0
    symbol = market.ledger.book("BTCUSDT").instrument.symbol
    (truth,) = market.true_klines("BTCUSDT", INTERVALS["1m"], minute, minute + 1)
    assert Decimal(served[0]["close"]) == Decimal(truth[CLOSE]).scaleb(-symbol.price_scale)
    assert Decimal(served[0]["volume"]) == Decimal(truth[VOLUME]).scaleb(-symbol.quantity_scale)
    assert len(before[0]["close"].split(".")[1]) == symbol.price_scale
    assert len(served[0]["close"].split(".")[1]) == symbol.price_scale + 1
    with psycopg.connect(server.url) as person:
        query = "SELECT close FROM klines_decimal WHERE (symbol, interval, open_time) = "
        ((seen,),) = person.execute(f"{query} ('BTCUSDT', '1m', {minute})").fetchall()
    assert seen == Decimal(served[0]["close"])
