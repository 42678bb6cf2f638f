"""Several processes may use one database at once, from its first moment on."""

from __future__ import annotations

import sqlite3
import tempfile
import threading
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from klinetrio.errors import StoreError
from klinetrio.storage import schema, sqlite_file
from klinetrio.storage.sqlite import SqliteStore
from klinetrio.storage.sqlite_file import SqliteFile
from tests.storage.bars import BASE, NOTHING, bar, batch, registry, symbol
from tests.storage.test_sqlite import opened, query, rows_of


if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

LIMIT_S = 300.0


class Watched(SqliteFile):
    """A file that tells when it has been looked at for the first time."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.looked = threading.Event()

    def _version(self, connection: sqlite3.Connection) -> int:
        version = super()._version(connection)
        self.looked.set()
        return version


def test_a_schema_that_somebody_else_makes_meanwhile_is_used(tmp_path: Path) -> None:
    """What was seen as empty is looked at again once nobody else can write."""
    path = tmp_path / "klines.db"
    store = SqliteStore(path)
    store._file = file = Watched(path)
    failures: list[BaseException] = []

    def open_it() -> None:
        try:
            store.open()
        except BaseException as error:  # noqa: BLE001  (told by the main thread)
            failures.append(error)

    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("BEGIN IMMEDIATE")
        for statement in schema.statements(schema.MIGRATIONS[0]):
            other.execute(statement)
        thread = threading.Thread(target=open_it)
        thread.start()
        assert file.looked.wait(LIMIT_S)
        other.execute("COMMIT")
        thread.join(LIMIT_S)
    assert failures == []
    store.attach(registry())
    store.write(batch((0, bar(BASE))), NOTHING)
    assert [bar(BASE)] == rows_of(store)
    store.close()


def all_at_once(works: Sequence[Callable[[], None]]) -> list[str]:
    """Do works in threads that start together; return what went wrong."""
    barrier = threading.Barrier(len(works))
    failures: list[str] = []

    def run(work: Callable[[], None]) -> None:
        barrier.wait(LIMIT_S)
        try:
            work()
        except Exception as error:  # noqa: BLE001  (told by the main thread)
            failures.append(str(error))

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    return failures


def test_an_empty_file_can_be_opened_by_many_at_once() -> None:
    """All of them open it, one of them makes the schema; as separate connections, again and again."""
    for _ in range(15):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "klines.db"
            stores = [SqliteStore(path) for _ in range(6)]
            assert all_at_once([store.open for store in stores]) == []
            assert query(path, "SELECT count(*) FROM meta") == [(1,)]
            for store in stores:
                store.close()


def test_a_schema_is_made_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A migration that breaks off leaves an empty database, which the next start can use."""
    path = tmp_path / "klines.db"
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", (f"{schema.MIGRATIONS[0]}\nSELECT nonsense;\n",))
        with pytest.raises(StoreError, match="no such column: nonsense"):
            SqliteStore(path).open()
    assert query(path, "SELECT name FROM sqlite_master") == []
    opened(path).close()


def test_statements_are_told_apart_by_their_ends() -> None:
    """Not by semicolons within a text or a line."""
    script = "CREATE TABLE a (x);\n\nINSERT INTO a\nVALUES ('one;\ntwo');\n"
    expected = ["CREATE TABLE a (x);\n", "\nINSERT INTO a\nVALUES ('one;\ntwo');\n"]
    assert expected == list(schema.statements(script))


class Busy:
    """A connection to which SQLite says at once that the file is busy, as often as was asked."""

    def __init__(self, times: int, code: int = sqlite3.SQLITE_BUSY) -> None:
        self.times = times
        self.code = code
        self.asked = 0

    def execute(self, statement: str) -> Busy:
        """Tell the mode; refuse to change it, or do so."""
        if statement == "PRAGMA journal_mode":
            return self
        assert statement == "PRAGMA journal_mode = WAL"
        self.asked += 1
        if self.asked <= self.times:
            error = sqlite3.OperationalError("refused")
            error.sqlite_errorcode = self.code
            raise error
        return self

    def fetchone(self) -> tuple[str]:
        """Return the mode of a new file."""
        return ("delete",)


def test_a_busy_file_is_asked_again_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as SQLite would wait by itself; any other error is one at once."""
    monkeypatch.setattr(sqlite_file, "_BUSY_PAUSE_S", 0.0)
    for code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_BUSY_RECOVERY):
        patient = Busy(3, code)
        sqlite_file._use_wal(cast("sqlite3.Connection", patient))
        assert patient.asked == 4

    broken = Busy(3, sqlite3.SQLITE_IOERR)
    with pytest.raises(sqlite3.OperationalError):
        sqlite_file._use_wal(cast("sqlite3.Connection", broken))
    assert broken.asked == 1

    monkeypatch.setattr(sqlite_file, "BUSY_TIMEOUT_S", -1.0)
    hopeless = Busy(3)
    with pytest.raises(sqlite3.OperationalError):
        sqlite_file._use_wal(cast("sqlite3.Connection", hopeless))
    assert hopeless.asked == 1


class Overtaken(SqliteFile):
    """A file before whose next transaction another store gets its turn."""

    other: SqliteStore | None = None

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Hold a transaction, a little late."""
        other, self.other = self.other, None
        if other is not None:
            other.attach(GROWN)
        with super().writing() as connection:
            yield connection


GROWN = registry(symbol("BTCUSDT", 1, 3, 3), symbol("ETHUSDT", 2))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a database with one bar."""
    path = tmp_path / "klines.db"
    store = opened(path)
    store.write(batch((0, bar(BASE))), NOTHING)
    store.close()
    return path


def test_bars_are_rescaled_by_one_of_two_that_see_a_scale_grow(path: Path) -> None:
    """Not by both."""
    first, second = SqliteStore(path), SqliteStore(path)
    first._file = overtaken = Overtaken(path)
    first.open()
    second.open()
    overtaken.other = second
    first.attach(GROWN)
    assert [bar(BASE)[1] * 10] == [row[1] for row in rows_of(first)]
    assert rows_of(first) == rows_of(second)
    first.close()
    second.close()
