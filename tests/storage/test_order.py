"""At whatever instant a daemon is killed, the open bars in its database have all before them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import trio

from klinetrio.errors import StoreError
from klinetrio.storage.sqlite import SqliteStore
from tests.storage.bars import BASE, MINUTE, bar, registry
from tests.storage.test_persister import Desk


if TYPE_CHECKING:
    from pathlib import Path

    from klinetrio.storage.protocol import Batch

LIMIT_S = 300.0
ALL = range(registry().capacity)


class Market:
    """Publishes swap after swap; in each of them every series closes a bar."""

    def __init__(self, database: SqliteStore) -> None:
        self.desk = Desk(database)
        self.swaps = 0
        self.still = False

    def swap(self) -> None:
        """Close the next minute of every series and show the one after it."""
        if self.still:
            return
        open_time = BASE + self.swaps * MINUTE
        self.swaps += 1
        self.desk.swap(
            *[(series, bar(open_time)) for series in ALL],
            live={series: bar(open_time + MINUTE, bits=0) for series in ALL},
        )


class Judged(SqliteStore):
    """A real database that is judged after every transaction, as if that had been the last.

    While a transaction is under way the market goes on.
    """

    market: Market | None = None
    trio_token: trio.lowlevel.TrioToken | None = None
    failures = 0
    transactions = 0
    with_live = 0
    swaps_meanwhile = 3

    def write(self, closed: Batch, live: Batch) -> None:
        """Write, or fail, and look at what is in the file then."""
        for _ in range(self.swaps_meanwhile):
            assert self.market is not None
            trio.from_thread.run_sync(self.market.swap, trio_token=self.trio_token)
        # Fewer and fewer, or closed bars would never fit one transaction.
        self.swaps_meanwhile = max(1, self.swaps_meanwhile - 1)
        if self.failures:
            self.failures -= 1
            raise StoreError("the disk is gone")
        super().write(closed, live)
        self.transactions += 1
        self.with_live += len(live) > 0
        judge(self.path)


def judge(path: Path) -> None:
    """Everything that was closed before the newest open bar is there, of every series."""
    with closing(sqlite3.connect(path)) as connection:
        ((newest,),) = connection.execute("SELECT max(open_time) FROM live").fetchall()
        if newest is None:
            return
        expected = (newest - BASE) // MINUTE * len(ALL)
        query = "SELECT count(*) FROM klines WHERE open_time < ?"
        assert [(expected,)] == connection.execute(query, (newest,)).fetchall()
        query = "SELECT DISTINCT open_time FROM live"
        assert [(newest,)] == connection.execute(query).fetchall()


@pytest.mark.parametrize("failures", [0, 2])
async def test_open_bars_are_never_ahead_of_closed_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    """With more to write than fits in a transaction, swaps meanwhile, and a disk that fails."""
    monkeypatch.setattr("klinetrio.storage.persister.MAX_BATCH", 10)
    database = Judged(tmp_path / "klines.db")
    database.open()
    database.attach(registry())
    market = database.market = Market(database)
    database.trio_token = trio.lowlevel.current_trio_token()
    database.failures = failures
    with trio.fail_after(LIMIT_S):
        for _ in range(5):
            market.swap()
        for _ in range(failures):
            with pytest.raises(StoreError):
                await market.desk.persister.flush()
        await market.desk.persister.flush()
        await market.desk.persister.flush()
        market.still = True
        await market.desk.persister.flush()
    assert database.with_live == 3
    assert database.transactions > 4
    assert sorted(database.read_live()) == list(ALL)
    with closing(sqlite3.connect(database.path)) as connection:
        ((closed,),) = connection.execute("SELECT count(*) FROM klines").fetchall()
        ((newest,),) = connection.execute("SELECT max(open_time) FROM live").fetchall()
    assert closed == market.swaps * len(ALL)
    assert newest == BASE + market.swaps * MINUTE
    database.close()
