"""Whoever stops waiting for a read stops the statement, on every store, and nobody else's."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

from klinetrio.errors import StoreError
from klinetrio.storage.postgres import PostgresStore
from klinetrio.storage.reading import Stop, in_thread, stoppable
from klinetrio.storage.sqlite import SqliteStore
from tests.storage.backends import with_sql
from tests.storage.bars import BASE, NOTHING, bar, batch


if TYPE_CHECKING:
    from klinetrio.storage.protocol import KlineStore

LIMIT_S = 300.0

# It counts for ever.
ENDLESS = """
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n
"""


def read_for_ever(store: KlineStore) -> None:
    """Have the database do what has no end."""
    if isinstance(store, SqliteStore):
        with store._file.reading() as lite:
            lite.execute(ENDLESS).fetchall()
    elif isinstance(store, PostgresStore):
        with store._database.reading() as server:
            server.execute("SELECT pg_sleep(3600)")


@with_sql
async def test_a_reader_that_leaves_frees_its_place(store: KlineStore) -> None:
    """The thread ends with the statement, and the next one reads on the same connections."""
    store.write(batch((0, bar(BASE))), NOTHING)
    limiter = trio.CapacityLimiter(1)
    with trio.fail_after(LIMIT_S):
        for _ in range(3):
            with trio.move_on_after(0.3) as waiting:
                await in_thread(partial(read_for_ever, store), limiter)
            assert waiting.cancelled_caught
        # It waits for the place, which is free only once the thread before has ended.
        read = partial(store.read, 0, start=None, end=None, limit=9)
        assert len(await in_thread(read, limiter)) == 1


@with_sql
async def test_others_are_not_disturbed(store: KlineStore) -> None:
    """Of two that read at once only the one that leaves is stopped."""
    store.write(batch((0, bar(BASE))), NOTHING)
    counts: list[int] = []

    async def read_often() -> None:
        for _ in range(50):
            read = partial(store.read, 0, start=None, end=None, limit=9)
            counts.append(len(await in_thread(read)))

    with trio.fail_after(LIMIT_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_often)
            for _ in range(3):
                with trio.move_on_after(0.1):
                    await in_thread(partial(read_for_ever, store))
    assert counts == [1] * 50


def test_a_stop_that_comes_first_is_no_less_a_stop() -> None:
    """What has not begun does not begin, and what is over is not stopped."""
    stop, stopped = Stop(), []
    stop.set_how(lambda: stopped.append("first"))
    stop.set_how(None)
    stop.ask()
    assert stopped == []
    with pytest.raises(StoreError):
        stop.set_how(lambda: stopped.append("second"))


async def test_a_read_outside_of_such_a_thread_is_as_always() -> None:
    """Tools that read in their own thread are stopped by nobody."""
    with stoppable(lambda: None):
        assert await in_thread(lambda: 7) == 7
