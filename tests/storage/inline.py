"""A persister without threads: its work takes time on the clock of the test."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import trio

from klinetrio.engine.publication import ClosedBar, Publication
from klinetrio.engine.store import DoubleBufferedKlineStore
from klinetrio.errors import StoreError
from klinetrio.storage.courier import Courier
from klinetrio.storage.persister import Persister
from klinetrio.storage.sqlite import SqliteStore
from tests.storage.bars import BASE, MINUTE, bar, registry, spool_of


if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from klinetrio.storage.protocol import Batch

T = TypeVar("T")


class InlineCourier(Courier):
    """Takes its time, and works in the task of whoever waits."""

    def __init__(self, takes_s: float = 0.0) -> None:
        super().__init__()
        self.takes_s = takes_s

    async def do(
        self,
        work: Callable[[], T],
        *,
        done: Callable[[T], None],
        failed: Callable[[BaseException], None],
    ) -> T:
        """Do the work after a while, also when nobody waits for it any more."""
        self.since = trio.current_time()
        self._free = trio.Event()
        try:
            with trio.CancelScope(shield=True):
                await trio.sleep(self.takes_s)
            try:
                result = work()
            except Exception as error:
                failed(error)
                raise
            done(result)
        finally:
            self.since = None
            self._free.set()
        return result


class Moody(SqliteStore):
    """A real database that refuses when it is told to, and remembers what it was given."""

    refuses = False
    transactions: list[list[int]]

    def write(self, closed: Batch, live: Batch) -> None:
        """Write, or refuse."""
        if self.refuses:
            raise StoreError("the database is away")
        self.transactions.append(closed.bars[:, 0].tolist())
        super().write(closed, live)


class MoodyFile:
    """What makes a spool's writes fail, as a disk that is full."""

    def __init__(self, desk: InlineDesk) -> None:
        self.desk = desk
        self.put = desk.persister.spool._file.put

    def __call__(self, closed: Batch, live: Batch) -> int:
        """Put, or refuse."""
        if self.desk.disk_full:
            raise StoreError("database or disk is full")
        return self.put(closed, live)


class InlineDesk:
    """A persister on a real database and a real spool, and bars that close."""

    def __init__(self, folder: Path, write_s: float = 0.0, spool_s: float = 0.0) -> None:
        self.disk_full = False
        self.folder = folder
        self.database = Moody(folder / "klines.db")
        self.database.transactions = []
        self.database.open()
        self.database.attach(registry())
        self.store = DoubleBufferedKlineStore.allocate(registry().capacity)
        self.write_s, self.spool_s = write_s, spool_s
        self.begin()

    def begin(self) -> None:
        """Begin a run on what is there."""
        self.persister = Persister(self.database, self.store, 5.0, spool_of(self.folder))
        self.persister._writing = InlineCourier(self.write_s)
        self.persister._spooling = InlineCourier(self.spool_s)
        self.persister.spool._file.put = MoodyFile(self)  # type: ignore[method-assign]

    def kill(self) -> None:
        """End a run without warning: memory is gone."""
        self.persister.spool.close()
        self.begin()

    def swap(self, row: int, number: int, value: int, revision: int = 0) -> list[int]:
        """Close a bar, or correct it, and open the next one; return it."""
        closed = bar(BASE + number * MINUTE, value, revision=revision)
        self.store.write(row, [bar(BASE + (number + 1) * MINUTE, value, bits=0)])
        changed = self.store.swap()
        self.persister.take(
            Publication(self.store.generation, changed, [ClosedBar(row, tuple(closed))])
        )
        return closed

    def close(self) -> None:
        """Close the files."""
        self.persister.spool.close()
        self.database.close()


@contextmanager
def inline_desk(write_s: float = 0.0, spool_s: float = 0.0) -> Iterator[InlineDesk]:
    """Yield a desk in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        desk = InlineDesk(Path(folder), write_s, spool_s)
        yield desk
        desk.close()
