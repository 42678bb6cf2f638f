"""One SQLite file: its connections, its schema version, its transactions.

Readers never wait for the writer nor the writer for them; that is what WAL is for.  Writes are
flushed to the disk at WAL checkpoints (``synchronous = NORMAL``): a crash of the process loses
nothing, a power cut may lose the last seconds, which a restart fetches again.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing, contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from klinetrio.errors import SchemaError, StoreError
from klinetrio.storage import schema
from klinetrio.storage.reading import stoppable


if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Somebody else may hold the write lock, as a person at the sqlite3 prompt.
BUSY_TIMEOUT_S = 5.0

# Another process has changed the mode of a new file long before.
_BUSY_PAUSE_S = 0.01

# Pages of 4 KB after which a commit folds the WAL into the file.  Each bar of a minute is in another
# page, and the next minute's in the same: by SQLite's own 1,000 each page is folded in for two bars.
_AUTOCHECKPOINT = 4_000

# Four times what commits let it grow to; a batch of 20,000 bars is some 5 MB.
_LARGE_WAL = 64 << 20

# For as long a reader that stays may keep it large.
_CHECKPOINT_PAUSE_S = 60.0

# SQLite's extended result codes have the plain one in their low byte.
_PRIMARY = 0xFF


_OPENING = "cannot open"

# SQLite's own text says nothing of why.
_READONLY_HINT = " (while no daemon has it open, only who may write beside it can read it)"


class SqliteFile:
    """A database file of klinetrio's.

    Args:
        path: The file; created when missing, its directory too.

    Attributes:
        path: The file.
        writer: The one connection that writes; None while closed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.writer: sqlite3.Connection | None = None
        self._write_lock = threading.Lock()
        self._next_checkpoint = 0.0
        self._readers: SimpleQueue[sqlite3.Connection] = SimpleQueue()
        self._opened: tuple[object, ...] = ()

    def exists(self) -> bool:
        """Tell whether there is a file with a schema of ours; makes none.

        Raises:
            SchemaError: The schema is newer than this version, or not klinetrio's.
            StoreError: The file cannot be read.
        """
        with _mapped(f"{_OPENING} {self.path}"):
            if not self.path.exists():
                return False
            with closing(self._connect()) as connection:
                return self._version(connection) > 0

    def identity(self) -> tuple[object, ...]:
        """Return which file of which disk it is, whatever links lead there."""
        with _mapped(f"cannot read {self.path}"):
            found = self.path.stat()
        return "sqlite", found.st_dev, found.st_ino

    def open(self) -> None:
        """Open or create the file and bring its schema up to date.

        Raises:
            SchemaError: The schema is newer than this version, or not klinetrio's.
            StoreError: The file cannot be opened.
        """
        try:
            with _mapped(f"{_OPENING} {self.path}"):
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self.writer = self._connect()
                version = self._version(self.writer)
                # Not before it is known to be ours: the journal mode is kept in the file.
                _use_wal(self.writer)
                self._opened = self.identity()
            if version < schema.VERSION:
                self._migrate()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close all connections; the WAL is folded into the file."""
        with self._write_lock:
            if self.writer is not None:
                self.writer.close()
                self.writer = None
        while True:
            try:
                self._readers.get_nowait().close()
            except Empty:
                return

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Hold the write lock and one transaction."""
        with self._write_lock, _mapped(f"cannot write {self.path}"):
            if self.writer is None:
                raise StoreError(f"{self.path} is closed")
            self._expect_own_file()
            self.writer.execute("BEGIN IMMEDIATE")
            try:
                yield self.writer
                self.writer.execute("COMMIT")
            except BaseException:
                self.writer.rollback()
                raise

    @contextmanager
    def alone(self) -> Iterator[sqlite3.Connection]:
        """Hold the write lock without a transaction."""
        with self._write_lock, _mapped(f"cannot write {self.path}"):
            if self.writer is None:
                raise StoreError(f"{self.path} is closed")
            yield self.writer

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Borrow a read connection; as many are made as are used at once."""
        with _mapped(f"cannot read {self.path}"):
            try:
                connection = self._readers.get_nowait()
            except Empty:
                connection = self._connect()
            try:
                with stoppable(connection.interrupt):
                    yield connection
            except BaseException:
                connection.close()
                raise
            self._readers.put(connection)

    def size(self) -> int:
        """Return the bytes of the file and its WAL."""
        return _size_of(self.path) + self.wal_size()

    def wal_size(self) -> int:
        """Return the bytes of the WAL."""
        return _size_of(self.path.with_name(self.path.name + "-wal"))

    def checkpoint(self) -> None:
        """Move the WAL into the file if it has grown large, at most once in a while.

        Commits do so at every ``_AUTOCHECKPOINT`` pages, but never make the WAL's file smaller, and
        a reader that stays long lets it grow.  The first step keeps nobody waiting; the second,
        which cuts the file off, has little left to do by then, and leaves it for another time if
        anybody is in the way.
        """
        now = time.monotonic()
        if now < self._next_checkpoint or self.wal_size() < _LARGE_WAL:
            return
        self._next_checkpoint = now + _CHECKPOINT_PAUSE_S
        self.truncate_wal()

    def truncate_wal(self) -> None:
        """Move the WAL into the file and cut it off, as far as nobody is in the way."""
        with suppress(StoreError), self.reading() as connection:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            connection.execute("PRAGMA busy_timeout = 0")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000:.0f}")

    def _expect_own_file(self) -> None:
        """Make sure that what is written can be found again.

        SQLite itself goes on in a file that has been deleted or replaced, and all that is lost.
        """
        if self.identity() != self._opened:
            raise StoreError(f"{self.path} has been replaced since it was opened")

    def _connect(self) -> sqlite3.Connection:
        # Connections move between Trio's worker threads, but never serve two at once.
        connection = sqlite3.connect(
            self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_AUTOCHECKPOINT}")
        return connection

    def _version(self, connection: sqlite3.Connection) -> int:
        """Return the schema's version, 0 for an empty file; refuse what is not ours."""
        query = "SELECT name FROM sqlite_master WHERE type = 'table'"
        if not connection.execute(query).fetchall():
            return 0
        try:
            query = "SELECT value FROM meta WHERE key = 'schema_version'"
            version = int(connection.execute(query).fetchone()[0])
        except (sqlite3.OperationalError, TypeError, ValueError) as error:
            if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) != sqlite3.SQLITE_ERROR:
                raise
            text = "expected an empty file or klinetrio's, was another's"
            raise SchemaError(f"{self.path}: {text}") from error
        if not 1 <= version <= schema.VERSION:
            text = f"expected schema version {schema.VERSION} or older, was {version}"
            raise SchemaError(f"{self.path}: {text}")
        return version

    def _migrate(self) -> None:
        """Bring the schema up to date in one transaction."""
        with self.writing() as connection:
            # Asked again now that nobody else can write: another process may have done it since.
            for migration in schema.MIGRATIONS[self._version(connection) :]:
                for statement in schema.statements(migration):
                    connection.execute(statement)


def _use_wal(connection: sqlite3.Connection) -> None:
    """Have the file use WAL from now on.

    SQLite's own timeout does not cover this: of two that change the mode of a new file at once it
    refuses one without waiting, because both might wait for ever.
    """
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            # Asked first, as whoever may only read is refused even if it changes nothing.
            if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
                connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & _PRIMARY == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > deadline:
                raise
        else:
            return
        time.sleep(_BUSY_PAUSE_S)


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


@contextmanager
def _mapped(what: str) -> Iterator[None]:
    """Turn SQLite's and the file system's errors into ours."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY
        refused = code == sqlite3.SQLITE_READONLY and what.startswith(_OPENING)
        hint = _READONLY_HINT if refused else ""
        raise StoreError(f"{what}: {error}{hint}") from error
