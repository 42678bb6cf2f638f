"""Pasts that a database did not take at once are stored when it does, each bar once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import trio

from klinetrio.domain.kline import FIELD_COUNT, OPEN_TIME
from klinetrio.errors import StoreError
from klinetrio.recovery import shelf as module
from klinetrio.recovery.shelf import PATIENCE_S, RETRY_S, PastShelf


if TYPE_CHECKING:
    import numpy.typing as npt
    from trio.testing import MockClock

    Int64Array = npt.NDArray[np.int64]


class Database:
    """Takes bars, or refuses, or hangs."""

    def __init__(self) -> None:
        self.mood = "well"
        self.stored: list[tuple[int, list[int]]] = []
        self.asked = 0

    async def write_history(self, series: int, bars: Int64Array) -> int:
        """Do as the mood is."""
        self.asked += 1
        await trio.lowlevel.checkpoint()
        if self.mood == "away":
            raise StoreError("the server is away")
        if self.mood == "stuck":
            await trio.sleep_forever()
        self.stored.append((series, bars[:, OPEN_TIME].tolist()))
        return len(bars)


def bars(*times: int) -> Int64Array:
    """Return bars that open then."""
    rows = np.zeros((len(times), FIELD_COUNT), np.int64)
    rows[:, OPEN_TIME] = times
    return rows


async def test_what_is_taken_at_once_does_not_wait() -> None:
    """As nearly always."""
    database = Database()
    shelf = PastShelf(database)
    assert await shelf.write_history(3, bars(1, 2)) == 2
    assert (shelf.bars, database.stored) == (0, [(3, [1, 2])])


@pytest.mark.parametrize("mood", ["away", "stuck"])
async def test_what_is_not_taken_is_stored_later(mood: str, autojump_clock: MockClock) -> None:
    """I1, I2: nobody waits for it but the first, and that one not long."""
    database = Database()
    shelf = PastShelf(database)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(shelf.run)
        database.mood = mood
        began = trio.current_time()
        assert await shelf.write_history(3, bars(1, 2)) == 0
        assert await shelf.write_history(4, bars(1)) == 0
        assert await shelf.write_history(3, bars(3)) == 0
        assert trio.current_time() - began <= PATIENCE_S
        assert shelf.bars == 4
        await trio.sleep(3_600)
        assert (shelf.bars, database.stored) == (4, [])
        # No more often than it is of use.
        assert database.asked <= 3_600 / RETRY_S + 2
        database.mood = "well"
        await trio.sleep(120)
        assert (shelf.bars, database.stored) == (0, [(3, [1, 2, 3]), (4, [1])])
        assert await shelf.write_history(5, bars(9)) == 1
        nursery.cancel_scope.cancel()


async def test_what_comes_while_it_is_stored_waits_its_turn(autojump_clock: MockClock) -> None:
    """I1: bars that are added to a series under way are not taken for stored."""

    class Slow(Database):
        async def write_history(self, series: int, bars: Int64Array) -> int:
            written = await super().write_history(series, bars)
            await trio.sleep(2)
            return written

    database = Slow()
    database.mood = "away"
    shelf = PastShelf(database)
    await shelf.write_history(3, bars(1, 2))
    database.mood = "well"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(shelf.run)
        await trio.sleep(1)
        assert await shelf.write_history(3, bars(3)) == 0
        await trio.sleep(10)
        assert database.stored == [(3, [1, 2]), (3, [3])]
        assert shelf.bars == 0
        nursery.cancel_scope.cancel()


async def test_one_series_that_is_refused_keeps_no_other_waiting(
    autojump_clock: MockClock,
) -> None:
    """As where a month of it is not there."""

    class Picky(Database):
        async def write_history(self, series: int, bars: Int64Array) -> int:
            if series == 3:
                raise StoreError("a month is not there")
            return await super().write_history(series, bars)

    database = Picky()
    database.mood = "away"
    shelf = PastShelf(database)
    for series in (3, 4, 5):
        await shelf.write_history(series, bars(1))
    database.mood = "well"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(shelf.run)
        await trio.sleep(60)
        assert database.stored == [(4, [1]), (5, [1])]
        assert shelf.bars == 1
        nursery.cancel_scope.cancel()


async def test_there_is_an_end_to_what_can_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory does not grow for ever; what is given up is told."""
    monkeypatch.setattr(module, "MAX_BARS", 3)
    database = Database()
    database.mood = "away"
    shelf = PastShelf(database)
    for series in range(5):
        await shelf.write_history(series, bars(1, 2))
    assert shelf.bars == 2
