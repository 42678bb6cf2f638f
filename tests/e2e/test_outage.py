"""The database goes away under a running daemon: service goes on, and nothing is lost or claimed."""

from __future__ import annotations

import signal
import sqlite3
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
import trio

from klinetrio.domain.interval import MINUTE
from tests.e2e.processes import DaemonProcess, daemon_process
from tests.e2e.test_restart import FAST, all_bars, busy_market, check, until
from tests.e2e.world import World, open_world


if sys.platform != "win32":
    import resource
from tests.e2e.world import LIMIT_S


if TYPE_CHECKING:
    from pathlib import Path

    from klinetrio.sim.seeded import SeededMarket


async def storage(daemon: DaemonProcess) -> dict[str, Any]:
    """What the status tells of the storage."""
    status = await daemon.get("/api/v1/status")
    told: dict[str, Any] = status["storage"]
    return told


async def minutes_later(world: World, minutes: int) -> int:
    """Wait for some minutes of the exchange; return a minute boundary that all trades are past."""
    now = world.exchange.market.clock.now_ms()
    end = now - now % MINUTE + minutes * MINUTE
    await until(world, end + 20_000)
    return end


async def whole_in_the_end(daemon: DaemonProcess, market: SeededMarket, end: int) -> None:
    """Everything gets into the database, and is served as it is true."""
    while (await storage(daemon))["backlog"] or (await daemon.get("/api/v1/status"))["symbols"][
        "open_holes"
    ]["count"]:
        await trio.sleep(0.05)
    check(market, await all_bars(daemon), end)


def stored_minutes(database: Path, since: int, until_ms: int) -> list[int]:
    """Return the open times of the busiest symbol's minutes in the database."""
    query = (
        "SELECT open_time FROM klines JOIN symbols USING (symbol_id) WHERE name = 'BTCUSDT'"
        " AND interval = '1m' AND open_time >= ? AND open_time < ? ORDER BY open_time"
    )
    with closing(sqlite3.connect(database)) as connection:
        return [row[0] for row in connection.execute(query, (since, until_ms)).fetchall()]


async def test_kill_9_in_an_outage_loses_nothing(tmp_path: Path) -> None:
    """Somebody holds the database, the daemon is killed: the next one has what was closed."""
    market = busy_market()
    with trio.fail_after(LIMIT_S):
        async with open_world(market, tmp_path) as world:
            lock = sqlite3.connect(world.database, isolation_level=None, check_same_thread=False)
            async with daemon_process(world.settings, *FAST) as daemon:
                await daemon.until_ready()
                began = await minutes_later(world, 1)
                lock.execute("BEGIN EXCLUSIVE")
                await daemon.logged(" spooled ")
                ended = await minutes_later(world, 4)
                told = await storage(daemon)
                while told["backlog_memory"] or not told["failures_in_a_row"]:
                    await trio.sleep(0.01)
                    told = await storage(daemon)
                refused = await daemon.client.get("/readyz")
                check(market, await all_bars(daemon), ended)
                metrics = (await daemon.client.get("/metrics")).text
                await daemon.end(signal.SIGKILL)
            lock.execute("ROLLBACK")
            missing = set(range(began, ended, MINUTE)) - set(
                stored_minutes(world.database, began, ended)
            )
            async with daemon_process(world.settings, *FAST) as daemon:
                found = await daemon.logged(" spool_found ")
                universe = await daemon.logged(" universe ")
                await daemon.until_ready()
                again = await minutes_later(world, 2)
                await whole_in_the_end(daemon, market, again)
                after = await storage(daemon)
            lock.close()

    assert told["backlog_disk"] >= 3 * 20
    assert told["failures_in_a_row"] > 0
    assert told["oldest_waiting_s"] > 2
    assert "locked" in told["last_error"]
    assert refused.status_code == 503
    assert "the database failed" in refused.text
    assert float(metrics.partition("\nklinetrio_persist_backlog_disk ")[2].split()[0]) >= 3 * 20
    # The minutes of the outage were nowhere but in the spool.
    assert len(missing) >= 2
    assert int(found.split("closed_bars=")[1]) >= told["backlog_disk"]
    assert int(universe.split("restored=")[1]) > 0
    assert (after["backlog_disk"], after["given_up"], after["last_error"]) == (0, 0, "")
    assert stored_minutes(world.database, began, again) == list(range(began, again, MINUTE))


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="limits of others are Linux's")
async def test_a_full_disk_stops_nothing(tmp_path: Path) -> None:
    """Neither database nor spool can grow: bars wait in memory, and are written when there is room."""
    market = busy_market()
    with trio.fail_after(LIMIT_S):
        async with (
            open_world(market, tmp_path) as world,
            daemon_process(world.settings, *FAST) as daemon,
        ):
            await daemon.until_ready()
            before = resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (0, -1))
            while not (await storage(daemon))["spool_failures"]:
                await trio.sleep(0.05)
            full = await minutes_later(world, 3)
            told = await storage(daemon)
            check(market, await all_bars(daemon), full)
            assert (await daemon.client.get("/readyz")).status_code == 503
            resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, before)
            await daemon.until_ready()
            end = await minutes_later(world, 1)
            await whole_in_the_end(daemon, market, end)
            after = await storage(daemon)
            assert await daemon.end(signal.SIGTERM) == 0

    assert told["backlog_memory"] > 0
    assert told["last_error"]
    assert told["spool_error"]
    assert (after["backlog_disk"], after["given_up"]) == (0, 0)


async def test_an_orderly_stop_in_an_outage_leaves_all_in_the_spool(tmp_path: Path) -> None:
    """Within its grace, with status 0, and the next start takes it from there."""
    market = busy_market()
    with trio.fail_after(LIMIT_S):
        async with open_world(market, tmp_path) as world:
            lock = sqlite3.connect(world.database, isolation_level=None, check_same_thread=False)
            async with daemon_process(world.settings, *FAST) as daemon:
                await daemon.until_ready()
                await minutes_later(world, 1)
                lock.execute("BEGIN EXCLUSIVE")
                await daemon.logged(" spooled ")
                began = trio.current_time()
                assert await daemon.end(signal.SIGTERM) == 0
                took = trio.current_time() - began
                left = await daemon.logged(" left_in_spool ")
            lock.execute("ROLLBACK")
            lock.close()
            async with daemon_process(world.settings, *FAST) as daemon:
                await daemon.until_ready()
                end = await minutes_later(world, 1)
                await whole_in_the_end(daemon, market, end)

    assert int(left.split("closed_bars=")[1].split()[0]) > 0
    assert took < 40
