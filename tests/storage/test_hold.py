"""A database that is away at the start is taken later; one that refuses ends it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from klinetrio.domain.interval import parse_intervals
from klinetrio.domain.kline import OPEN
from klinetrio.engine.registry import SymbolPeriodRegistry
from klinetrio.errors import ClaimError, ScalesChanged, SchemaError, StoreError
from klinetrio.storage.hold import Hold
from klinetrio.storage.postgres import PostgresStore
from tests.postgres import PostgresServer, open_server
from tests.storage.backends import PostgresBackend, rows_of
from tests.storage.bars import BASE, MINUTE, NOTHING, bar, batch, registry, spool_of, symbol


if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from klinetrio.storage.spool import Spool

LIMIT_S = 300.0


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """Return a server that a test may stop and start."""
    with open_server() as own:
        yield own


@asynccontextmanager
async def held(url: str, spool: Spool, wanted: SymbolPeriodRegistry) -> AsyncIterator[Hold]:
    """Begin a run as the daemon does, and let its hold be taken late if need be."""
    hold = Hold(url)
    with trio.fail_after(LIMIT_S):
        await hold.claim()
        try:
            known = await trio.to_thread.run_sync(hold.known_symbols, spool)
            await hold.attach(spool, wanted, known)
            yield hold
        finally:
            await trio.to_thread.run_sync(hold.close)
            await hold.release()


async def test_a_server_that_is_away_is_taken_when_it_comes(
    server: PostgresServer, tmp_path: Path
) -> None:
    """Until then everything but the spool refuses; nothing of it is lost."""
    server.stop()
    spool = spool_of(tmp_path)
    async with held(server.url, spool, registry()) as hold:
        database = hold.database
        assert not hold.is_attached
        for refused in (
            lambda: database.write(batch((0, bar(BASE))), NOTHING),
            lambda: database.read(0, start=None, end=None, limit=1),
            database.read_live,
            database.read_checked,
        ):
            with pytest.raises(StoreError):
                refused()
        spool.put(batch((0, bar(BASE))), NOTHING)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hold.run, spool, registry())
            await trio.to_thread.run_sync(server.start)
        assert hold.is_attached
        assert database.is_claimed()
        database.write(spool.first(9), NOTHING)
        assert [7] == [row[OPEN] for row in rows_of(database)]
    spool.close()


async def test_what_an_older_run_left_is_written_beside_the_running_one(
    server: PostgresServer, tmp_path: Path
) -> None:
    """Rows of the spool go on meaning this run's series all the while."""
    server.stop()
    spool = spool_of(tmp_path)
    spool.put(batch(*[(row, bar(BASE, 10 + row)) for row in range(6)]), NOTHING)
    now = SymbolPeriodRegistry.ranked([symbol("ETHUSDT", 2)], parse_intervals(["1m", "1d"]))
    async with held(server.url, spool, now) as hold:
        spool.put(batch((0, bar(BASE + MINUTE, 50)), (1, bar(BASE + MINUTE, 51))), NOTHING)
        assert spool.bars == 8
        await trio.to_thread.run_sync(server.start)
        await hold.run(spool, now)
        assert spool.bars == 4
        mine = [spool.read(row, start=None, end=None, limit=9)[:, OPEN].tolist() for row in (0, 1)]
        assert mine == [[13, 50], [15, 51]]
        reader = PostgresStore(server.url)
        reader.open()
        reader.enlist(registry())
        theirs = [[row[OPEN] for row in rows_of(reader, each)] for each in range(6)]
        assert theirs == [[10], [11], [12], [], [14], []]
        reader.close()
    spool.close()


async def test_more_decimals_in_a_late_database_start_the_run_over(
    server: PostgresServer, tmp_path: Path
) -> None:
    """The stored scales do not shrink, and two scales at once would be wrong."""
    first = PostgresStore(server.url)
    first.open()
    first.attach(registry(symbol("BTCUSDT", 1, 5, 3)))
    first.close()
    server.stop()
    spool = spool_of(tmp_path)
    async with held(server.url, spool, registry()) as hold:
        await trio.to_thread.run_sync(server.start)
        with pytest.raises(ScalesChanged):
            await hold.run(spool, registry())
        assert not hold.is_attached
        with pytest.raises(StoreError):
            hold.database.write(batch((0, bar(BASE))), NOTHING)
    spool.close()


async def test_a_late_database_of_another_daemon_ends_the_run(
    server: PostgresServer, tmp_path: Path
) -> None:
    """However late it shows that there are two."""
    server.stop()
    spool = spool_of(tmp_path)
    async with held(server.url, spool, registry()) as hold:
        await trio.to_thread.run_sync(server.start)
        with PostgresStore(server.url).claim(), pytest.raises(ClaimError):
            await hold.run(spool, registry())
        assert not hold.is_attached
    spool.close()


async def test_a_late_database_of_somebody_else_ends_the_run(
    server: PostgresServer, tmp_path: Path
) -> None:
    """Nobody's tables are touched."""
    PostgresBackend(server.url).query("CREATE TABLE klines (a integer)")
    server.stop()
    spool = spool_of(tmp_path)
    async with held(server.url, spool, registry()) as hold:
        await trio.to_thread.run_sync(server.start)
        with pytest.raises(SchemaError):
            await hold.run(spool, registry())
    spool.close()


async def test_a_server_that_refuses_ends_the_start(server: PostgresServer) -> None:
    """At once, and in words: it will not be otherwise later."""
    hold = Hold(server.url.replace("postgres@", "nobody_here@"))
    with trio.fail_after(LIMIT_S), pytest.raises(StoreError, match="does not exist"):
        await hold.claim()
