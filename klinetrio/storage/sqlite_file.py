"""One SQLite file: its connections, its schema version, its transactions.

Readers never wait for the writer nor the writer for them; that is what WAL is for.  Writes are
flushed to the disk at WAL checkpoints (``synchronous = NORMAL``): a crash of the process loses
nothing, a power cut may lose the last seconds, which a restart fetches again.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from klinetrio.errors import SchemaError, StoreError
from klinetrio.storage import schema


if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Somebody else may hold the write lock, as a person at the sqlite3 prompt.
BUSY_TIMEOUT_S = 5.0

# Another process has changed the mode of a new file long before.
_BUSY_PAUSE_S = 0.01

# SQLite's extended result codes have the plain one in their low byte.
_PRIMARY = 0xFF


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
        self._readers: SimpleQueue[sqlite3.Connection] = SimpleQueue()

    def open(self) -> None:
        """Open or create the file and bring its schema up to date.

        Raises:
            SchemaError: The schema is newer than this version, or not klinetrio's.
            StoreError: The file cannot be opened.
        """
        try:
            with _mapped(f"cannot open {self.path}"):
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self.writer = self._connect()
                version = self._version(self.writer)
                # Not before it is known to be ours: the journal mode is kept in the file.
                _use_wal(self.writer)
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
            self.writer.execute("BEGIN IMMEDIATE")
            try:
                yield self.writer
                self.writer.execute("COMMIT")
            except BaseException:
                self.writer.rollback()
                raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Borrow a read connection; as many are made as are used at once."""
        with _mapped(f"cannot read {self.path}"):
            try:
                connection = self._readers.get_nowait()
            except Empty:
                connection = self._connect()
            try:
                yield connection
            except BaseException:
                connection.close()
                raise
            self._readers.put(connection)

    def size(self) -> int:
        """Return the bytes of the file and its WAL."""
        parts = (self.path, self.path.with_name(self.path.name + "-wal"))
        return sum(part.stat().st_size for part in parts if part.exists())

    def _connect(self) -> sqlite3.Connection:
        # Connections move between Trio's worker threads, but never serve two at once.
        connection = sqlite3.connect(
            self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
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
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & _PRIMARY == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > deadline:
                raise
        else:
            return
        time.sleep(_BUSY_PAUSE_S)


@contextmanager
def _mapped(what: str) -> Iterator[None]:
    """Turn SQLite's and the file system's errors into ours."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise StoreError(f"{what}: {error}") from error
