"""History is fetched from the exchange, alone or beside a daemon, and an outage leaves no hole."""

from __future__ import annotations

import signal
from contextlib import closing
from functools import partial
from sqlite3 import OperationalError, connect
from typing import TYPE_CHECKING, Any

import pytest
import trio

from klinetrio.config import load_config
from klinetrio.domain.interval import DAY, HOUR, INTERVALS, MINUTE
from klinetrio.domain.kline import FIRST_AGG_ID, OPEN, OPEN_TIME, Flag
from klinetrio.errors import Refused
from klinetrio.exchange.clock import ExchangeClock
from klinetrio.sim.clock import SimClock
from klinetrio.sim.seeded import SeededMarket
from klinetrio.storage.sqlite import SqliteStore
from klinetrio.tools.backfill import run_backfill
from tests.e2e.processes import ROOT, environment_of
from tests.e2e.world import LIMIT_S, World, open_world


if TYPE_CHECKING:
    from pathlib import Path

RATE = 30
START = 1_786_172_370_000
DAYS = 4
PAST = Flag.FINAL | Flag.COMPLETE | Flag.BACKFILLED


def market() -> SeededMarket:
    """A quiet market that has been there for days."""
    return SeededMarket(
        seed=3,
        symbols=20,
        trades_per_second=4,
        history_minutes=DAYS * 1_440,
        clock=SimClock(START, rate=RATE),
    )


async def fill(world: World, since: int | None, until: int | None, *symbols: str) -> None:
    """Run the tool as it runs alone."""
    settings = {**world.settings, "exchange.symbols": symbols}
    clock = ExchangeClock(rate=world.exchange.market.clock.rate)
    await run_backfill(load_config(overrides=settings), since, until, clock)


def check(world: World, symbol: str, interval: str, since: int, until: int) -> int:
    """Every bar of a span is in the database, once, proved and true; return how many there are."""
    store = SqliteStore(world.database)
    store.open()
    query = "SELECT symbol_id FROM symbols WHERE name = ?"
    with store._file.reading() as connection:
        key = (*connection.execute(query, (symbol,)).fetchone(), interval)
    store._keys = [key]
    rows = store.read(0, start=since, end=until - 1, limit=10**6)
    proved = store.proved_times(0, since, until).tolist()
    store.close()
    truth = world.exchange.market.ledger.true_klines(symbol, INTERVALS[interval], since, until)
    expected = [[int(row[OPEN_TIME]), *map(int, row[OPEN:FIRST_AGG_ID])] for row in truth]
    assert expected == rows[:, :FIRST_AGG_ID].tolist()
    assert proved == [row[0] for row in expected]
    return len(expected)


def bars_in(world: World) -> int:
    """Return how many closed bars the database has; 0 while there is none."""
    if not world.database.exists():
        return 0
    try:
        with closing(connect(world.database)) as connection:
            (number,) = connection.execute("SELECT count(*) FROM klines").fetchone()
    except OperationalError:
        return 0
    return int(number)


async def test_backfill_alone_beside_a_daemon_and_twice(tmp_path: Path) -> None:
    """All intervals, from the listing to the newest closed bar; the daemon goes on undisturbed."""
    with trio.fail_after(LIMIT_S):
        async with open_world(market(), tmp_path) as world:
            now = world.exchange.market.clock.now_ms()
            await fill(world, 0, None, "BTCUSDT")
            listed = world.exchange.market.ledger.book("BTCUSDT").first_open
            assert listed is not None
            for name in ("1m", "15m", "1h", "4h", "1d"):
                assert check(world, "BTCUSDT", name, 0, INTERVALS[name].open_of(now)) > 3
            async with world.daemon() as daemon:
                await daemon.until_ready()
                await fill(world, now - DAY, None, "ETHUSDT")
                check(world, "ETHUSDT", "1m", now - DAY, now - 3 * HOUR)
                bars = await daemon.klines("ETHUSDT", "1m", limit=500)
                opens = [bar["open_time"] for bar in bars]
                assert opens == list(range(opens[0], opens[0] + 500 * MINUTE, MINUTE))
            check(world, "BTCUSDT", "1m", 0, now - 3 * HOUR)


async def test_the_daemon_fetches_history_and_fills_what_an_outage_left(tmp_path: Path) -> None:
    """However long the outage was; what the keeper does is told by the status."""
    with trio.fail_after(LIMIT_S):
        async with open_world(market(), tmp_path) as world:
            now = world.exchange.market.clock.now_ms()
            # What a daemon left behind that stopped more than two days ago.
            await fill(world, now - 60 * HOUR, now - 55 * HOUR, "BTCUSDT")
            settings: dict[str, Any] = {"exchange.symbols": ("BTCUSDT", "ETHUSDT")}
            async with world.daemon(**settings) as daemon:
                await daemon.running.started.wait()
                while not (await daemon.get("/api/v1/status"))["history"]["rounds"]:
                    await trio.sleep(0.05)
                status = (await daemon.get("/api/v1/status"))["history"]
                assert status["since"] is None
                assert status["written"] > 1_000
            check(world, "BTCUSDT", "1m", now - 60 * HOUR + MINUTE, now - 3 * HOUR)
            check(world, "BTCUSDT", "1h", now - 60 * HOUR + HOUR, now - 3 * HOUR)
            settings["history.since"] = str(now - 70 * HOUR)
            async with world.daemon(**settings) as daemon:
                await daemon.running.started.wait()
                while not (await daemon.get("/api/v1/status"))["history"]["rounds"]:
                    await trio.sleep(0.05)
            for symbol in ("BTCUSDT", "ETHUSDT"):
                check(world, symbol, "1m", now - 70 * HOUR, now - 3 * HOUR)


async def test_a_killed_backfill_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """Killed several times in the middle, and never the worse for it."""
    with trio.fail_after(LIMIT_S):
        async with open_world(
            market(),
            tmp_path,
        ) as world:
            # The process has a clock of its own, which does not run fast; the past is the same.
            now = world.exchange.market.clock.now_ms()
            command = ["python", "-m", "klinetrio", "backfill", "--since", str(now - 3 * DAY)]
            settings = {**world.settings, "exchange.symbols": "BTCUSDT,ETHUSDT"}
            run = partial(
                trio.run_process, command, env=environment_of(settings), cwd=ROOT, check=False
            )
            for _ in range(3):
                async with trio.open_nursery() as nursery:
                    process: trio.Process = await nursery.start(run)
                    before = bars_in(world)
                    while bars_in(world) < before + 1_500 and process.poll() is None:
                        await trio.sleep(0.02)
                    process.send_signal(signal.SIGKILL)
                assert process.returncode == -signal.SIGKILL
            assert (await run()).returncode == 0
            for symbol in ("BTCUSDT", "ETHUSDT"):
                assert check(world, symbol, "1m", now - 3 * DAY, now) > 4_000
            store = SqliteStore(world.database)
            store.open()
            with store._file.reading() as connection:
                query = "SELECT DISTINCT flags FROM klines"
                assert connection.execute(query).fetchall() == [(PAST,)]
            store.close()


async def test_a_place_that_the_exchange_does_not_serve_ends_the_start(tmp_path: Path) -> None:
    """More asking is in vain; the exchange's own words say why."""
    words = {"code": 0, "msg": "Service unavailable from a restricted location."}
    with trio.fail_after(LIMIT_S):
        async with open_world(market(), tmp_path) as world:
            world.exchange.rest_failure(451, words, count=1_000)
            with pytest.raises(Refused, match=r"HTTP 451.* restricted location"):
                await fill(world, None, None)
            with pytest.RaisesGroup(Refused, flatten_subgroups=True):
                async with world.daemon():
                    await trio.sleep_forever()
