"""One PostgreSQL database: its connections, its schema version, its transactions, the claim.

One connection writes, a pool of others reads.  Every wait is bounded: for a connection, for a lock,
for a statement, for a peer that has vanished.  A connection that broke is replaced by the next who
needs it, so a server that was restarted is simply used again.

Invariants (tested in tests/storage/test_postgres.py):
  I1  While this process has claimed the database its writing connection holds the lock: nothing is
      written without it, also after the server was restarted.
  I2  No message holds a password.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.pq import PGconn, Ping
from psycopg_pool import ConnectionPool, PoolTimeout

from klinetrio.errors import ClaimError, SchemaError, StoreAway, StoreError
from klinetrio.storage import postgres_schema as schema
from klinetrio.storage.postgres_url import parsed, reason, shown, typed
from klinetrio.storage.reading import stoppable


if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

# Each is overridden by what the URL says.
_SETTINGS: dict[str, Any] = {
    "connect_timeout": 5,
    # A peer that vanished is noticed after 10 s + 3 x 5 s, and unacknowledged bytes after 20 s.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}

# A batch takes milliseconds, and 10 s on a server in trouble.  The server has to notice as soon as we
# do that a peer has vanished: until then it holds our claim, for hours by its defaults.  What the URL
# says comes later, so it wins.
_OPTIONS = " ".join(
    f"-c {setting}"
    for setting in (
        "statement_timeout=60000",
        "lock_timeout=10000",
        "idle_in_transaction_session_timeout=60000",
        "tcp_keepalives_idle=10",
        "tcp_keepalives_interval=5",
        "tcp_keepalives_count=3",
        "tcp_user_timeout=20000",
    )
)

# What reads at once: the API's readers, and recovery's.
MAX_READERS = 8

# For a connection of the pool.  While the server is away the pool asks it less and less often, so it
# gives up soon: whoever needs a connection then has it ask anew, or finds out by himself.
_POOL_TIMEOUT_S = 2.0

# Asking for that takes a connection of its own.
_CANCEL_TIMEOUT_S = 5.0

# The advisory lock of whoever folds live trades; "klin".
CLAIM = 0x6B6C696E

# A daemon that was killed may have left a batch, which the server first brings to its end.
_WAIT_FOR_CLAIM = "SET LOCAL lock_timeout = '3s'"

_SIZE_AGE_S = 60.0

# Every failed attempt of the pool would be a warning; whoever asks it in vain says so as well.
logging.getLogger("psycopg.pool").setLevel(logging.ERROR)

_PROGRAM = "klinetrio, "

_HOLDER = """
SELECT application_name, pid, backend_start FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND granted AND classid = %s AND objid = hashtext(current_schema())::oid
    AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""

_OURSELVES = "SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()"


class _Refusal(psycopg.OperationalError):
    """The server answers, and does not let us in."""


class PostgresDatabase:
    """A database of klinetrio's on a server.

    Args:
        url: As ``postgresql://user:password@host:port/database``.

    Raises:
        ConfigError: libpq cannot read the URL.

    Attributes:
        name: The database alone, for messages.
        url: As given, without the password.
    """

    def __init__(self, url: str) -> None:
        given = parsed(url)
        settings = {**_SETTINGS, "application_name": _who(), **given}
        settings["options"] = f"{_OPTIONS} {given.get('options', '')}".rstrip()
        self._conninfo = make_conninfo("", **settings)
        self.name = shown(given)
        self.url = typed(given)
        self._writer: psycopg.Connection | None = None
        self._claimed = False
        # The server's process that held the claim for us last.
        self._held: tuple[int, datetime] | None = None
        self._write_lock = threading.Lock()
        self._pool: ConnectionPool | None = None
        self._size = (-_SIZE_AGE_S, 0)

    def exists(self) -> bool:
        """Tell whether there is a schema of ours; makes none.

        Raises:
            SchemaError: The schema is newer than this version, or not klinetrio's.
            StoreError: The server cannot be reached, or refuses.
        """
        with self._connected("cannot open") as connection:
            return self._version(connection) > 0

    def open(self) -> None:
        """Connect, and bring the schema up to date.

        Raises:
            SchemaError: The schema is newer than this version, or not klinetrio's.
            StoreError: The server cannot be reached, or refuses.
        """
        try:
            with self._connected("cannot open") as connection:
                version = self._version(connection)
            if version < schema.VERSION:
                self._migrate()
            self._pool = ConnectionPool(
                self._conninfo,
                min_size=1,
                max_size=MAX_READERS,
                timeout=_POOL_TIMEOUT_S,
                reconnect_timeout=_POOL_TIMEOUT_S,
                kwargs={"autocommit": True},
                check=ConnectionPool.check_connection,
                open=True,
            )
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Disconnect; harmless when repeated."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None
        with self._write_lock:
            self._drop_writer()

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Be the only one who folds live trades into the database for the length of the block.

        Raises:
            ClaimError: Another process has claimed it.
            StoreError: The server cannot be reached, or refuses.
        """
        with self._write_lock, self._mapped("cannot claim"):
            self._drop_writer()
            self._claimed = True
            try:
                self._connect_writer()
            except BaseException:
                self._claimed = False
                raise
        try:
            yield
        finally:
            with self._write_lock:
                self._claimed = False
                self._drop_writer()

    def is_claimed(self) -> bool:
        """Tell whether a daemon holds the claim right now."""
        with self._connected("cannot read") as connection:
            return connection.execute(_HOLDER, (CLAIM,)).fetchone() is not None

    @contextmanager
    def writing(self) -> Iterator[psycopg.Connection]:
        """Hold the writing connection and one transaction."""
        with self._write_lock, self._mapped("cannot write"):
            writer = self._writer
            if writer is None or writer.closed:
                writer = self._connect_writer()
            with writer.transaction():
                yield writer

    @contextmanager
    def reading(self) -> Iterator[psycopg.Connection]:
        """Borrow a connection that reads."""
        pool = self._pool
        if pool is None:
            raise StoreError(f"{self.name} is closed")
        with self._mapped("cannot read"):
            try:
                connection = pool.getconn()
            except PoolTimeout:
                with self._connect() as own, stoppable(partial(_cancel, own)):
                    yield own
                return
            try:
                with stoppable(partial(_cancel, connection)):
                    yield connection
            finally:
                pool.putconn(connection)

    def size(self) -> int:
        """Return the bytes of all tables and indexes, as they were within the last minute."""
        measured, size = self._size
        if time.monotonic() - measured > _SIZE_AGE_S:
            with self.reading() as connection:
                row = connection.execute(schema.SELECT_SIZE).fetchone()
            size = 0 if row is None else int(row[0])
            self._size = time.monotonic(), size
        return size

    @contextmanager
    def _connected(self, what: str) -> Iterator[psycopg.Connection]:
        """Have a connection of one's own for a moment; its errors say what is wrong."""
        with (
            self._mapped(what),
            self._connect() as connection,
        ):
            yield connection

    def _connect(self) -> psycopg.Connection:
        """Return a new connection.

        Raises:
            StoreAway: The server does not answer, or not in time.
            _Refusal: It answers, and refuses.
        """
        try:
            return psycopg.connect(self._conninfo, autocommit=True)
        except psycopg.OperationalError as error:
            # Its texts are in the server's language; whether it answers libpq can tell, if it is not
            # asked for an encryption that the server may not have.
            is_late = isinstance(error, psycopg.errors.ConnectionTimeout)
            ping = PGconn.ping(make_conninfo(self._conninfo, sslmode="prefer").encode())
            if is_late or ping in (Ping.REJECT, Ping.NO_RESPONSE):
                raise StoreAway(f"cannot reach {self.name}: {reason(error)}") from error
            raise _Refusal(str(error)) from error

    def _connect_writer(self) -> psycopg.Connection:
        writer = self._connect()
        try:
            if self._claimed:
                self._hold(writer)
            writer.execute(schema.CREATE_INCOMING)
        except BaseException:
            writer.close()
            raise
        self._writer = writer
        return writer

    def _drop_writer(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _hold(self, writer: psycopg.Connection) -> None:
        """Take the claim.

        Raises:
            ClaimError: Another process has it.
        """
        holder = writer.execute(_HOLDER, (CLAIM,)).fetchone()
        if holder is not None and holder[1:] == self._held:
            # Ourselves, on a connection that is cut, which the server has not noticed.
            writer.execute("SELECT pg_terminate_backend(%s)", (holder[1],))
        try:
            with writer.transaction():
                writer.execute(_WAIT_FOR_CLAIM)
                # Of the session: it outlasts the transaction.
                query = "SELECT pg_advisory_lock(%s, hashtext(current_schema()))"
                writer.execute(query, (CLAIM,))
        except psycopg.errors.LockNotAvailable:
            holder = writer.execute(_HOLDER, (CLAIM,)).fetchone()
            who = holder[0].removeprefix(_PROGRAM) if holder else "another process"
            raise ClaimError(self.name, who) from None
        self._held = writer.execute(_OURSELVES).fetchone()

    def _version(self, connection: psycopg.Connection) -> int:
        """Return the schema's version, 0 for an empty schema; refuse what is not ours."""
        tables = {name for (name,) in connection.execute(schema.SELECT_TABLES)}
        if not tables:
            return 0
        row = None
        if {"meta", "symbols", "klines"} <= tables:
            query = "SELECT value FROM meta WHERE key = 'schema_version'"
            with suppress(psycopg.errors.UndefinedColumn):
                row = connection.execute(query).fetchone()
        if row is None or not row[0].isdigit():
            text = "expected an empty schema or klinetrio's, was another's"
            raise SchemaError(f"{self.name}: {text}")
        version = int(row[0])
        if not 1 <= version <= schema.VERSION:
            expected = f"{schema.VERSION} or older" if version else "1 or newer"
            text = f"expected schema version {expected}, was {version}"
            raise SchemaError(f"{self.name}: {text}")
        return version

    def _migrate(self) -> None:
        """Bring the schema up to date in one transaction."""
        with self._connected("cannot open") as connection, connection.transaction():
            query = "SELECT pg_advisory_xact_lock(%s, hashtext(current_schema()))"
            connection.execute(query, (CLAIM + 1,))
            # Asked again now that nobody else migrates: another process may have done it since.
            for migration in schema.MIGRATIONS[self._version(connection) :]:
                connection.execute(migration)

    @contextmanager
    def _mapped(self, what: str) -> Iterator[None]:
        """Turn psycopg's errors into ours."""
        try:
            yield
        except psycopg.ProgrammingError as error:
            # A table, a key or a right is not there: asking again is in vain.
            raise SchemaError(f"{what} {self.name}: {reason(error)}") from error
        except _Refusal as error:
            raise StoreError(f"{what} {self.name}: {reason(error)}") from error
        except psycopg.OperationalError as error:
            # Stopped, full, locked, cut off in the middle: a slow server is no wrong one.
            raise StoreAway(f"{what} {self.name}: {reason(error)}") from error
        except psycopg.Error as error:
            raise StoreError(f"{what} {self.name}: {reason(error)}") from error


def _cancel(connection: psycopg.Connection) -> None:
    """Have the server stop what a connection waits for, from another thread."""
    with suppress(psycopg.Error):
        connection.cancel_safe(timeout=_CANCEL_TIMEOUT_S)


def _who() -> str:
    """Return what the server is told of this process."""
    return f"{_PROGRAM}process {os.getpid()} on {socket.gethostname()}"[:63]
