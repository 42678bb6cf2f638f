"""A series is whole wherever its bars are, and while they move."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st

from klinetrio.domain.kline import OPEN, OPEN_TIME, Flag, revision_of
from klinetrio.engine.publication import ClosedBar, Publication
from klinetrio.engine.store import DoubleBufferedKlineStore
from klinetrio.errors import StoreError
from klinetrio.storage.history import History
from klinetrio.storage.pending import PendingBars
from klinetrio.storage.persister import Persister
from klinetrio.storage.spool import Spool
from klinetrio.storage.sqlite import SqliteStore
from klinetrio.storage.stored import StoredBars
from tests.storage.bars import BASE, MINUTE, NOTHING, bar, batch, registry
from tests.storage.test_sqlite import opened


if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from klinetrio.storage.protocol import Int64Array

LIMIT_S = 300.0


class Held(StoredBars):
    """Stored bars before whose reads something happens."""

    before: Callable[[], None] | None = None

    def read(self, series: int, *, start: int | None, end: int | None, limit: int) -> Int64Array:
        """Let happen what has been asked for, in Trio's thread, and read."""
        if self.before:
            trio.from_thread.run_sync(self.before)
        return super().read(series, start=start, end=end, limit=limit)


class HeldSpool(Spool):
    """A real spool before whose reads something happens."""

    before: Callable[[], None] | None = None

    def read(self, series: int, *, start: int | None, end: int | None, limit: int) -> Int64Array:
        """Let happen what has been asked for, in Trio's thread, and read."""
        if self.before:
            trio.from_thread.run_sync(self.before)
        return super().read(series, start=start, end=end, limit=limit)


class Interrupted(SqliteStore):
    """A real database during whose reads something happens, before or after them."""

    before: Callable[[], None] | None = None
    after: Callable[[], None] | None = None

    def read(self, series: int, *, start: int | None, end: int | None, limit: int) -> Int64Array:
        """Read, and let happen what has been asked for, in Trio's thread."""
        if self.before:
            trio.from_thread.run_sync(self.before)
        rows = super().read(series, start=start, end=end, limit=limit)
        if self.after:
            trio.from_thread.run_sync(self.after)
        return rows


@attrs.define
class Line:
    """One series on its way: each bar is open, pending, perhaps in the spool, in the database."""

    database: Interrupted
    spool: HeldSpool
    store: DoubleBufferedKlineStore = attrs.field(
        factory=lambda: DoubleBufferedKlineStore.allocate(registry().capacity)
    )
    persister: Persister = attrs.field(init=False)
    history: History = attrs.field(init=False)
    stored: Held = attrs.field(init=False)
    number: int = 0
    corrected: set[int] = attrs.field(factory=set)

    def __attrs_post_init__(self) -> None:
        self.persister = Persister(self.database, self.store, 5.0, self.spool)
        self.stored = Held(self.database, self.spool)
        self.history = History(self.stored, self.persister.pending, self.store)
        self._show([])

    def _show(self, closed: list[ClosedBar]) -> None:
        live = bar(BASE + self.number * MINUTE, self.number, bits=0)
        self.store.write(0, [live])
        changed = self.store.swap()
        self.persister.take(Publication(self.store.generation, changed, closed))

    def close(self) -> None:
        """Close the open bar; it is pending then, and a new one is open."""
        closed = ClosedBar(0, tuple(bar(BASE + self.number * MINUTE, self.number)))
        self.number += 1
        self._show([closed])

    def correct(self, back: int) -> None:
        """Correct a closed bar."""
        number = max(0, self.number - back)
        if number < self.number:
            values = bar(BASE + number * MINUTE, number, revision=1)
            self.corrected.add(number)
            self._show([ClosedBar(0, tuple(values))])

    def write(self) -> None:
        """Write what is pending, here and now."""
        waiting = self.persister.pending.batch()
        self.database.write(waiting, NOTHING)
        self.persister.pending.forget(waiting)

    def put(self) -> None:
        """Move what is pending to the spool, here and now."""
        waiting = self.persister.pending.batch()
        self.spool.put(waiting, NOTHING)
        self.persister.pending.forget(waiting)

    def deliver(self) -> None:
        """Write the first two bars of the spool."""
        first = self.spool.first(2)
        self.database.write(first, NOTHING)
        self.spool.remove(first, 0)

    def do(self, what: str) -> None:
        """Take one step."""
        if what == "correct":
            self.correct(2)
        else:
            getattr(self, what)()

    def do_all(self, steps: Sequence[str]) -> None:
        """Take several steps."""
        for what in steps:
            self.do(what)


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    """Return a series with nothing but an open bar."""
    yield from lines(tmp_path)


def lines(folder: Path) -> Iterator[Line]:
    """Yield a line on a new database."""
    database = Interrupted(folder / "klines.db")
    database.open()
    database.attach(registry())
    spool = HeldSpool(folder / "spool", "klines.db")
    spool.open()
    spool.attach(registry())
    yield Line(database, spool)
    spool.close()
    database.close()


STEPS = st.lists(
    st.sampled_from(["close", "close", "write", "put", "deliver", "correct"]), max_size=12
)

MOMENTS = st.one_of(st.none(), st.integers(0, 8).map(lambda number: BASE + number * MINUTE))


@settings(max_examples=60)
@given(
    STEPS,
    st.tuples(STEPS, STEPS, STEPS, STEPS),
    st.tuples(MOMENTS, MOMENTS),
    st.integers(1, 8),
)
# Bars that close while the database is being read, one into the spool, the next into the database.
@example([], (["close", "close"], [], ["put", "close", "write"], []), (None, None), 2)
def test_a_moving_series_is_read_without_hole_or_double(
    first: list[str],
    moments: tuple[list[str], list[str], list[str], list[str]],
    window: tuple[int | None, int | None],
    limit: int,
) -> None:
    """Whatever moves before, between and after the reads of spool and database (I1)."""
    with tempfile.TemporaryDirectory() as folder:
        for line in lines(Path(folder)):
            trio.run(
                _read_while_moving,
                line,
                first,
                moments,
                window,
                limit,
            )


async def _read_while_moving(
    line: Line,
    first: list[str],
    moments: tuple[list[str], list[str], list[str], list[str]],
    window: tuple[int | None, int | None],
    limit: int,
) -> None:
    start, end = window
    line.do_all(first)
    known, corrected = line.number, set(line.corrected)
    line.stored.before = partial(line.do_all, moments[0])
    line.spool.before = partial(line.do_all, moments[1])
    line.database.before = partial(line.do_all, moments[2])
    line.database.after = partial(line.do_all, moments[3])
    with trio.fail_after(LIMIT_S):
        rows = await line.history.klines(0, start=start, end=end, limit=limit)

    opens = [row[OPEN_TIME] for row in rows]
    # Ascending, without a hole: the bars before the question are all there to be seen.
    assert opens == list(range(opens[0], opens[0] + len(opens) * MINUTE, MINUTE)) if opens else True
    assert len(opens) <= limit
    assert all((start or 0) <= each <= (end or 2**62) for each in opens)
    existing = [
        BASE + number * MINUTE
        for number in range(known + 1)
        if (start or 0) <= BASE + number * MINUTE <= (end or 2**62)
    ]
    if start is not None:
        assert existing[:limit] == opens[: len(existing[:limit])]
    else:
        assert len(opens) >= min(limit, len(existing))
        assert not existing or opens[-1] >= existing[-1]
    for row in rows:
        assert row[OPEN] == (row[OPEN_TIME] - BASE) // MINUTE
        assert revision_of(row) >= (row[OPEN] in corrected)
        assert (row[-1] & Flag.FINAL) or row[OPEN_TIME] >= BASE + known * MINUTE


async def test_all_four_places_are_joined(line: Line) -> None:
    """Database, spool, pending, open."""
    line.do_all(("close", "close", "write", "close", "put", "close"))
    assert (1, 1) == (line.spool.bars, len(line.persister.pending))
    with trio.fail_after(LIMIT_S):
        rows = await line.history.klines(0, start=None, end=None, limit=100)
    assert [0, 1, 2, 3, 4] == [row[OPEN] for row in rows]
    assert [True] * 4 + [False] == [bool(row[-1] & Flag.FINAL) for row in rows]


async def test_of_two_states_the_better_one_is_shown(line: Line) -> None:
    """A correction that is still pending, and a database that knows better."""
    line.do("close")
    line.do("write")
    line.do("close")
    line.correct(2)
    with trio.fail_after(LIMIT_S):
        rows = await line.history.klines(0, start=None, end=None, limit=100)
        assert [1, 0, 0] == [revision_of(row) for row in rows]

        better = bar(BASE, 77, revision=2)
        line.database.write(batch((0, better)), NOTHING)
        rows = await line.history.klines(0, start=None, end=None, limit=100)
        assert better == list(rows[0])


async def test_what_is_shown_does_not_change_by_being_written(line: Line) -> None:
    """The join and the database agree on which of two states is the better one."""
    with trio.fail_after(LIMIT_S):
        for stored in (bar(BASE, 1, trades=9), bar(BASE, 2, trades=2)):
            line.database.write(batch((0, stored)), NOTHING)
            line.persister.pending.add([ClosedBar(0, tuple(bar(BASE, 3, trades=5)))])
            shown = await line.history.klines(0, start=BASE, end=BASE, limit=1)
            line.write()
            assert [list(row) for row in shown] == [
                list(row) for row in await line.history.klines(0, start=BASE, end=BASE, limit=1)
            ]


async def test_a_database_that_cannot_be_read_is_an_error(line: Line) -> None:
    """Not a series with a hole."""

    def fail() -> None:
        raise StoreError("gone")

    line.database.before = fail
    with trio.fail_after(LIMIT_S), pytest.raises(StoreError):
        await line.history.klines(0, start=None, end=None, limit=1)


async def test_an_untouched_series_is_empty(tmp_path: Path) -> None:
    """No row of zeros for a symbol that has not traded."""
    database = opened(tmp_path / "other.db")
    store = DoubleBufferedKlineStore.allocate(registry().capacity)
    history = History(database, PendingBars(), store)
    with trio.fail_after(LIMIT_S):
        assert await history.klines(2, start=None, end=None, limit=10) == []
    database.close()
