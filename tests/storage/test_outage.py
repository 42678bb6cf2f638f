"""While the database is away, slow or stuck, every closed bar is somewhere, and gets there in the end."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from klinetrio.domain.kline import OPEN_TIME
from klinetrio.errors import StoreError
from klinetrio.market import TOLERATED_WAIT_S
from klinetrio.storage import persister as persister_module
from klinetrio.storage import sqlite_file
from klinetrio.storage.leftover import attach_both, known_to
from klinetrio.storage.pending import rank
from klinetrio.storage.stored import StoredBars
from klinetrio.supervise import Supervision, supervise
from tests.storage.bars import BASE, MINUTE, bar, registry
from tests.storage.inline import InlineDesk, inline_desk
from tests.storage.test_persister import Desk, Fragile, database  # noqa: F401  (a fixture)
from tests.storage.test_sqlite import rows_of


if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from trio.testing import MockClock

    from klinetrio.storage.persister import Persister

LIMIT_S = 300.0


@asynccontextmanager
async def running(persister: Persister) -> AsyncIterator[None]:
    """Run a persister as the daemon does."""
    async with trio.open_nursery() as nursery:
        for name, fn in (("persister", persister.run), ("spool", persister.run_spool)):

            async def part(name: str = name, fn: Any = fn) -> None:
                await supervise(fn, state=Supervision(name), again=(StoreError,))

            nursery.start_soon(part)
        yield
        nursery.cancel_scope.cancel()


# ---------------------------------------------------------------------------------------------
# On the clock of the test.
# ---------------------------------------------------------------------------------------------

CLOSE = st.tuples(st.just("close"), st.integers(0, 2))
EVENTS = st.one_of(
    CLOSE,
    CLOSE,
    st.tuples(st.just("correct"), st.integers(0, 2)),
    st.tuples(st.just("wait"), st.sampled_from([0.3, 2.0, 6.0, 40.0])),
    st.tuples(st.sampled_from(["refuse", "accept", "fill", "drain", "kill"]), st.just(0)),
)


@settings(max_examples=30)
@given(st.lists(EVENTS, max_size=15), st.sampled_from([0.0, 2.0, 10.0]))
def test_a_closed_bar_is_never_nowhere(events: list[tuple[str, float]], write_s: float) -> None:
    """Through every kind of trouble at any moment; and all is in the database in the end (I1)."""

    async def main() -> None:
        with inline_desk(write_s) as desk:
            await _live_through(desk, events)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


async def _live_through(desk: InlineDesk, events: list[tuple[str, float]]) -> None:
    newest: dict[tuple[int, int], list[int]] = {}
    numbers = [0, 0, 0]
    while events:
        async with running(desk.persister):
            while events and events[0][0] != "kill":
                what, amount = events.pop(0)
                row = int(amount)
                if what == "close" or (what == "correct" and (row, numbers[row] - 1) not in newest):
                    newest[row, numbers[row]] = desk.swap(row, numbers[row], len(events))
                    numbers[row] += 1
                elif what == "correct":
                    key = row, numbers[row] - 1
                    revision = (newest[key][-1] >> 8) + 1
                    newest[key] = desk.swap(row, key[1], 50 + len(events), revision)
                elif what == "wait":
                    await trio.sleep(amount)
                else:
                    desk.database.refuses = {"refuse": True, "accept": False}.get(
                        what, desk.database.refuses
                    )
                    desk.disk_full = {"fill": True, "drain": False}.get(what, desk.disk_full)
                assert newest == _everywhere(desk)
        if events:
            events.pop(0)
            # Memory alone is lost; what has waited longer than an interval is not in memory alone,
            # unless the disk was full.
            memory = [
                (row, number) for row, number in newest if _in_memory_alone(desk, row, number)
            ]
            desk.kill()
            for key in memory:
                found = _everywhere(desk).get(key)
                assert found is None or rank(found) < rank(newest[key])
                newest.pop(key)
                if found is not None:
                    newest[key] = found
            assert newest == _everywhere(desk)
    desk.database.refuses = desk.disk_full = False
    async with running(desk.persister):
        while desk.persister.backlog:
            await trio.sleep(1)
    assert newest == _stored(desk)
    assert desk.persister.waiting_s == 0


def _in_memory_alone(desk: InlineDesk, row: int, number: int) -> bool:
    waiting = {values[0]: values for values in desk.persister.pending.of_series(row)}
    mine = waiting.get(BASE + number * MINUTE)
    stored = StoredBars(desk.database, desk.persister.spool)
    rows = stored.read(row, start=None, end=None, limit=99).tolist()
    return mine is not None and list(mine) not in rows


def _everywhere(desk: InlineDesk) -> dict[tuple[int, int], list[int]]:
    """Return the best state of every bar that is in memory, in the spool or in the database."""
    stored = StoredBars(desk.database, desk.persister.spool)
    found: dict[tuple[int, int], list[int]] = {}
    for row in range(3):
        rows = stored.read(row, start=None, end=None, limit=99).tolist()
        rows += map(list, desk.persister.pending.of_series(row))
        for values in rows:
            key = row, (values[OPEN_TIME] - BASE) // MINUTE
            if key not in found or rank(values) > rank(found[key]):
                found[key] = values
    return found


def _stored(desk: InlineDesk) -> dict[tuple[int, int], list[int]]:
    return {
        (row, (values[OPEN_TIME] - BASE) // MINUTE): values
        for row in range(3)
        for values in rows_of(desk.database, row)
    }


async def test_a_database_that_needs_ten_seconds_keeps_up(autojump_clock: MockClock) -> None:
    """For an hour: memory stays small, nothing waits for long, and all is written in order."""
    with inline_desk(write_s=10.0) as desk:
        persister = desk.persister
        most_in_memory = longest = 0.0
        async with running(persister):
            for number in range(1_200):
                desk.swap(0, number, number)
                await trio.sleep(3)
                most_in_memory = max(most_in_memory, len(persister.pending))
                longest = max(longest, persister.waiting_s)
            await trio.sleep(30)
            assert persister.backlog == 0
        assert [BASE + n * MINUTE for n in range(1_200)] == [r[0] for r in rows_of(desk.database)]
        first_times = [opens for each in desk.database.transactions for opens in each]
        # A bar that was spooled while it was on its way may be written twice, never out of order.
        assert list(dict.fromkeys(first_times)) == sorted(set(first_times))
        assert persister.counts.failures == persister.counts.given_up == 0
    assert most_in_memory <= 4
    assert longest < TOLERATED_WAIT_S + 5.0


async def test_a_healthy_database_leaves_the_spool_alone(autojump_clock: MockClock) -> None:
    """Normal running writes nothing extra."""
    with inline_desk(write_s=0.4) as desk:
        async with running(desk.persister):
            for number in range(100):
                desk.swap(0, number, number)
                await trio.sleep(1)
            await trio.sleep(10)
        assert desk.persister.counts.spooled == 0
        assert desk.persister.spool._puts == 0
        assert len(rows_of(desk.database)) == 100


async def test_memory_alone_never_holds_more_than_an_interval_of_an_outage(
    autojump_clock: MockClock,
) -> None:
    """What ``kill -9`` costs at any moment of an outage."""
    with inline_desk() as desk:
        persister = desk.persister
        desk.database.refuses = True
        async with running(persister):
            for number in range(300):
                desk.swap(0, number, number)
                await trio.sleep(1)
                assert len(persister.pending) <= 5 + 5 + 1
            assert persister.spool.bars >= 290
            assert persister.counts.last_error == "the database is away"
            assert 290 <= persister.waiting_s <= 300
        desk.database.refuses = False
        desk.kill()
        assert desk.persister.backlog >= 290
        async with running(desk.persister):
            await trio.sleep(10)
        assert desk.persister.backlog == 0
        opens = [row[0] for row in rows_of(desk.database)]
        assert [BASE + n * MINUTE for n in range(len(opens))] == opens
        assert len(opens) >= 290


async def test_open_bars_survive_with_the_closed_ones(autojump_clock: MockClock) -> None:
    """A restart goes on from the end of the outage, not from its beginning."""
    with inline_desk() as desk:
        desk.swap(0, 0, 0)
        await desk.persister.flush()
        desk.database.refuses = True
        async with running(desk.persister):
            for number in range(1, 60):
                desk.swap(0, number, number)
                await trio.sleep(1)
            await trio.sleep(6)
        assert [BASE + MINUTE] == [row[0] for row in desk.database.read_live().values()]
        desk.kill()
        stored = StoredBars(desk.database, desk.persister.spool)
        assert [BASE + 60 * MINUTE] == [row[0] for row in stored.read_live().values()]
        desk.database.refuses = False
        spool = desk.persister.spool
        attach_both(desk.database, spool, registry(), known_to(desk.database, spool))
        await desk.persister.flush()
        assert (0, 0) == (spool.bars, spool.live_mark)
        assert [BASE + 60 * MINUTE] == [row[0] for row in desk.database.read_live().values()]


async def test_without_any_place_bars_are_given_up_by_name(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Live service goes on, memory stays bounded, and what is lost is counted and logged."""
    monkeypatch.setattr(persister_module, "MAX_PENDING", 100)
    monkeypatch.setattr(persister_module, "_GIVE_UP", 10)
    with inline_desk() as desk:
        persister = desk.persister
        desk.database.refuses = desk.disk_full = True
        async with running(persister):
            for number in range(250):
                desk.swap(0, number, number)
                await trio.sleep(1)
                assert len(persister.pending) <= 101
            counts = persister.counts
            assert counts.spool_failures > 10
            assert counts.spool_error == "database or disk is full"
            assert counts.given_up + len(persister.pending) == 250
            desk.database.refuses = desk.disk_full = False
            await trio.sleep(60)
            assert persister.backlog == 0
            assert counts.spool_error == counts.last_error == ""
        lost = counts.given_up
        assert [BASE + n * MINUTE for n in range(lost, 250)] == [
            r[0] for r in rows_of(desk.database)
        ]
    assert f"gave_up_bars closed_bars=11 in_all=11 oldest={BASE} newest={BASE + 10 * MINUTE}" in (
        caplog.text
    )


async def test_a_spool_that_cannot_be_read_does_not_hold_up_memory(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What closes is written; what is in the spool waits, and that shows."""
    with inline_desk() as desk:
        persister = desk.persister
        desk.swap(0, 0, 0)
        await persister.spool_all()
        with monkeypatch.context() as patch:

            def fail(_limit: int) -> None:
                raise StoreError("bad sector")

            patch.setattr(persister.spool, "first", fail)
            async with running(persister):
                desk.swap(0, 1, 1)
                await trio.sleep(120)
            assert [BASE + MINUTE] == [row[0] for row in rows_of(desk.database)]
            # A restart must not go on from open bars whose closed neighbours it cannot see.
            assert desk.database.read_live() == {}
            assert (0, 1) == (len(persister.pending), persister.spool.bars)
            assert persister.counts.spool_error == "bad sector"
            assert persister.waiting_s > TOLERATED_WAIT_S
        await persister.flush()
        assert [BASE, BASE + MINUTE] == [row[0] for row in rows_of(desk.database)]
        assert persister.counts.spool_error == ""


# ---------------------------------------------------------------------------------------------
# With real locks and threads.
# ---------------------------------------------------------------------------------------------


async def test_a_database_that_is_locked_by_somebody_else(
    database: Fragile,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A real exclusive transaction: bars go to the spool, and to the database once it is over."""
    monkeypatch.setattr(sqlite_file, "BUSY_TIMEOUT_S", 0.05)
    database.close()
    database.open()
    desk = Desk(database, interval_s=0.05)
    persister = desk.persister
    with (
        trio.fail_after(LIMIT_S),
        closing(sqlite3.connect(database.path, isolation_level=None)) as other,
    ):
        async with running(persister):
            other.execute("BEGIN EXCLUSIVE")
            for number in range(20):
                desk.swap(
                    (0, bar(BASE + number * MINUTE)), live={0: bar(BASE + 20 * MINUTE, bits=0)}
                )
                while len(persister.pending):
                    await trio.sleep(0.01)
            assert persister.spool.bars == 20
            assert "locked" in persister.counts.last_error
            assert rows_of(database) == []
            other.execute("ROLLBACK")
            while persister.backlog:
                await trio.sleep(0.01)
        assert [bar(BASE + number * MINUTE) for number in range(20)] == rows_of(database)
        await persister.flush()
        assert [0] == list(database.read_live())
    desk.spool.close()


async def test_a_write_that_hangs_holds_up_nothing(
    database: Fragile,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither the bars on their way to the disk, nor the end; when it ends after all, that is noted."""
    monkeypatch.setattr(persister_module, "SPOOL_AFTER_S", 0.05)
    desk = Desk(database, interval_s=0.05)
    persister = desk.persister
    database.gate = threading.Event()
    with trio.fail_after(LIMIT_S):
        desk.swap((0, bar(BASE)), live={0: bar(BASE + MINUTE, bits=0)})
        async with running(persister):
            while not persister.spool.bars:
                await trio.sleep(0.01)
            assert persister.writing_s > 0
        desk.swap((0, bar(BASE + MINUTE)), live={0: bar(BASE + 2 * MINUTE, bits=0)})
        assert not await persister.finish(0.05)
        assert (0, 2) == (len(persister.pending), persister.spool.bars)
        assert database.writes == 1
        assert [BASE + 2 * MINUTE] == [row[0] for row in persister.spool.read_live().values()]
        database.gate.set()
        assert await persister.finish(LIMIT_S)
    assert [bar(BASE), bar(BASE + MINUTE)] == rows_of(database)
    assert (persister.backlog, persister.writing_s) == (0, 0)
    desk.spool.close()


async def test_the_end_in_an_outage_leaves_everything_in_the_spool(
    database: Fragile,  # noqa: F811
) -> None:
    """Orderly: the next start goes on from there. Without a spool it is an error."""
    desk = Desk(database)
    desk.swap((0, bar(BASE)))
    database.failures = 2
    with trio.fail_after(LIMIT_S):
        assert not await desk.persister.finish(LIMIT_S)
        assert desk.spool.bars == 1
        desk.swap((0, bar(BASE + MINUTE)))
        desk.spool.close()
        with pytest.raises(StoreError, match="is closed"):
            await desk.persister.finish(LIMIT_S)
    assert len(desk.persister.pending) == 1


def test_half_of_it_at_most_is_on_the_clock(tmp_path: Path) -> None:
    """The bounds of the end fit into each other."""
    from klinetrio import app  # noqa: PLC0415  (the composition root is nobody else's business here)

    assert app.DATABASE_GRACE_S + persister_module._SPOOL_PATIENCE_S < app.FLUSH_GRACE_S
