"""Nothing that was closed is lost on its way to the database."""

from __future__ import annotations

import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from klinetrio.engine.publication import ClosedBar, Publication
from klinetrio.engine.store import DoubleBufferedKlineStore
from klinetrio.errors import StoreError
from klinetrio.storage import persister as persister_module
from klinetrio.storage.persister import Persister
from klinetrio.storage.sqlite import SqliteStore
from klinetrio.supervise import Supervision, supervise
from tests.storage.bars import BASE, MINUTE, bar, registry, spool_of
from tests.storage.test_sqlite import rows_of


if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from trio.testing import MockClock

    from klinetrio.storage.protocol import Batch

LIMIT_S = 300.0


class Fragile(SqliteStore):
    """A real database that fails, or hangs, when it is told to."""

    failures = 0
    writes = 0
    gate: threading.Event | None = None

    def write(self, closed: Batch, live: Batch) -> None:
        """Write, or fail as often as was asked for."""
        self.writes += 1
        if self.gate is not None:
            self.gate.wait(LIMIT_S)
        if self.failures:
            self.failures -= 1
            raise StoreError("the disk is gone")
        super().write(closed, live)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Fragile]:
    """Return an open database."""
    store = Fragile(tmp_path / "klines.db")
    store.open()
    store.attach(registry())
    yield store
    store.close()


class Desk:
    """A persister and the store it copies from."""

    def __init__(self, database: SqliteStore, interval_s: float = 5.0) -> None:
        self.store = DoubleBufferedKlineStore.allocate(registry().capacity)
        self.spool = spool_of(database.path.parent)
        self.persister = Persister(database, self.store, interval_s, self.spool)

    def swap(
        self, *closed: tuple[int, list[int]], live: dict[int, list[int]] | None = None
    ) -> None:
        """Publish closed bars, and open ones as of now."""
        for row, values in (live or {}).items():
            self.store.write(row, [values])
        changed = self.store.swap()
        bars = [ClosedBar(row, tuple(values)) for row, values in closed]
        self.persister.take(Publication(self.store.generation, changed, bars))


@asynccontextmanager
async def running(desk: Desk, state: Supervision | None = None) -> AsyncIterator[None]:
    """Run the persister under its supervisor."""
    async with trio.open_nursery() as nursery:

        async def supervised() -> None:
            await supervise(
                desk.persister.run, state=state or Supervision("persister"), again=(StoreError,)
            )

        nursery.start_soon(supervised)
        yield
        nursery.cancel_scope.cancel()


async def test_everything_is_written_at_each_interval(
    autojump_clock: MockClock, database: Fragile
) -> None:
    """One transaction, with closed bars and open ones."""
    desk = Desk(database)
    async with running(desk):
        desk.swap((0, bar(BASE)), (1, bar(BASE)), live={0: bar(BASE + MINUTE, bits=0)})
        await trio.sleep(4.9)
        assert database.writes == 0
        await trio.sleep(0.2)
        # The thread needs real time, in which the clock of the test may jump.
        with trio.fail_after(1e6):
            while desk.persister.counts.batches < 1:
                await trio.sleep(0.01)
    assert [bar(BASE)] == rows_of(database, 0)
    assert [bar(BASE)] == rows_of(database, 1)
    assert {0: tuple(bar(BASE + MINUTE, bits=0))} == dict(database.read_live())
    counts = desk.persister.counts
    assert (database.writes, counts.rows, counts.failures) == (1, 3, 0)
    assert counts.size == database.size() > 0
    assert len(desk.persister.pending) == 0


async def test_bars_stay_through_failures_and_are_written_once(
    autojump_clock: MockClock, database: Fragile
) -> None:
    """However often it fails; a state that was replaced meanwhile is never written."""
    desk = Desk(database)
    state = Supervision("persister")
    database.failures = 4
    desk.swap((0, bar(BASE, 1)), (0, bar(BASE + MINUTE, 2)), live={1: bar(BASE, 3, bits=0)})
    async with running(desk, state):
        while state.restarts < 2:
            await trio.sleep(1)
        assert len(desk.persister.pending) == 2
        assert rows_of(database) == []
        desk.swap((0, bar(BASE, 9, revision=1)))
        while len(desk.persister.pending):
            await trio.sleep(1)
    assert [bar(BASE, 9, revision=1), bar(BASE + MINUTE, 2)] == rows_of(database)
    assert {1: tuple(bar(BASE, 3, bits=0))} == dict(database.read_live())
    assert state.restarts == 4
    assert desk.persister.counts.failures == 4
    assert desk.persister.counts.failures_in_a_row == 0


async def test_a_state_that_comes_during_a_write_is_written_next(database: Fragile) -> None:
    """What was under way is not taken for it."""
    desk = Desk(database)
    database.gate = threading.Event()
    with trio.fail_after(LIMIT_S):
        desk.swap((0, bar(BASE, 1)), live={0: bar(BASE + MINUTE, 1, bits=0)})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(desk.persister.flush)
            while not database.writes:
                await trio.sleep(0.001)
            desk.swap((0, bar(BASE, 2, revision=1)), live={0: bar(BASE + MINUTE, 2, bits=0)})
            database.gate.set()
        assert [bar(BASE, 1)] == rows_of(database)
        assert len(desk.persister.pending) == 1
        await desk.persister.flush()
        assert [bar(BASE, 2, revision=1)] == rows_of(database)
        assert {0: tuple(bar(BASE + MINUTE, 2, bits=0))} == dict(database.read_live())


async def test_a_cancelled_write_goes_on_by_itself(database: Fragile) -> None:
    """Whoever waits for it may leave; what it wrote is not pending any more once it has ended."""
    desk = Desk(database)
    database.gate = threading.Event()
    with trio.fail_after(LIMIT_S):
        desk.swap((0, bar(BASE)))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(desk.persister.flush)
            while not database.writes:
                await trio.sleep(0.001)
            nursery.cancel_scope.cancel()
        assert len(desk.persister.pending) == 1
        database.gate.set()
        await desk.persister.flush()
        assert [bar(BASE)] == rows_of(database)
        assert len(desk.persister.pending) == 0
        assert database.writes == 1


async def test_a_cancelled_flush_loses_nothing(database: Fragile) -> None:
    """Neither closed bars nor that open ones have changed."""
    desk = Desk(database)
    desk.swap((0, bar(BASE)), live={0: bar(BASE + MINUTE, bits=0)})
    with trio.fail_after(LIMIT_S):
        with trio.CancelScope() as scope:
            scope.cancel()
            await desk.persister.flush()
        assert len(desk.persister.pending) == 1
        await desk.persister.flush()
    assert [bar(BASE)] == rows_of(database)
    assert list(database.read_live()) == [0]


async def test_a_flush_writes_all_batches(
    database: Fragile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than fits in one transaction, at once."""
    monkeypatch.setattr(persister_module, "MAX_BATCH", 10)
    desk = Desk(database)
    desk.swap(*[(row, bar(BASE + n * MINUTE)) for row in range(6) for n in range(10)])
    with trio.fail_after(LIMIT_S):
        await desk.persister.flush()
    assert [10] * 6 == [len(rows_of(database, row)) for row in range(6)]
    assert desk.persister.counts.batches == 6


async def test_nothing_changed_is_nothing_written(database: Fragile) -> None:
    """An idle market costs no transactions."""
    desk = Desk(database)
    with trio.fail_after(LIMIT_S):
        await desk.persister.flush()
        desk.swap(live={0: bar(BASE, bits=0)})
        await desk.persister.flush()
        await desk.persister.flush()
    assert database.writes == 1
