"""The embedded store: SQLite in WAL mode, one writer, a few readers.

Readers never wait for the writer nor the writer for them; that is what WAL is for.  Writes are
flushed to the disk at WAL checkpoints (``synchronous = NORMAL``): a crash of the process loses
nothing, a power cut may lose the last seconds, which a restart fetches again.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

import attrs
import numpy as np

from klinetrio.domain.kline import FIELD_COUNT, FLAGS, REVISION_SHIFT
from klinetrio.domain.symbol import Symbol
from klinetrio.errors import ConfigError, SchemaError, StoreError
from klinetrio.storage import schema


if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy.typing as npt

    from klinetrio.engine.registry import SymbolPeriodRegistry
    from klinetrio.storage.protocol import Batch

    Int64Array = npt.NDArray[np.int64]

# Somebody else may hold the write lock, as a person at the sqlite3 prompt.
BUSY_TIMEOUT_S = 5.0

# Another process has changed the mode of a new file long before.
_BUSY_PAUSE_S = 0.01

# SQLite's extended result codes have the plain one in their low byte.
_PRIMARY = 0xFF

_FIRST_TIME, _LAST_TIME = -(2**62), 2**62
_BITS = (1 << REVISION_SHIFT) - 1


class SqliteStore:
    """Klines in one SQLite file.

    Args:
        path: The file; created when missing, its directory too.

    Attributes:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writer: sqlite3.Connection | None = None
        self._write_lock = threading.Lock()
        self._readers: SimpleQueue[sqlite3.Connection] = SimpleQueue()
        self._registry: SymbolPeriodRegistry | None = None
        self._keys: list[tuple[int, str]] = []
        self._series: dict[tuple[int, str], int] = {}

    def open(self) -> None:
        """Open or create the file and bring its schema up to date."""
        try:
            with _mapped(f"cannot open {self.path}"):
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._writer = self._connect()
                version = self._version(self._writer)
                # Not before it is known to be ours: the journal mode is kept in the file.
                _use_wal(self._writer)
            if version < schema.VERSION:
                self._migrate()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close all connections; the WAL is folded into the file."""
        with self._write_lock:
            if self._writer is not None:
                self._writer.close()
                self._writer = None
        while True:
            try:
                self._readers.get_nowait().close()
            except Empty:
                return

    def known_symbols(self) -> Mapping[str, Symbol]:
        """Return the stored symbols by name."""
        with self._reading() as connection:
            return _symbols(connection)

    def attach(self, registry: SymbolPeriodRegistry) -> None:
        """Store the symbols of this run and their indexes."""
        with self._writing() as connection:
            # In the transaction: of two processes that both see a scale grow, one multiplies.
            known = _symbols(connection)
            connection.execute("UPDATE symbols SET symbol_index = NULL")
            for index, symbol in enumerate(registry.symbols):
                connection.execute(
                    schema.UPSERT_SYMBOL,
                    (
                        symbol.name,
                        symbol.base,
                        symbol.quote,
                        symbol.listing_time,
                        symbol.price_scale,
                        symbol.quantity_scale,
                        index,
                    ),
                )
                if symbol.name in known:
                    _rescale(connection, known[symbol.name], symbol)
            ids = dict(connection.execute("SELECT name, symbol_id FROM symbols").fetchall())
        self._keys = [
            (ids[symbol.name], interval.name)
            for symbol in registry.symbols
            for interval in registry.intervals
        ]
        self._series = {key: row for row, key in enumerate(self._keys)}

    def write(self, closed: Batch, live: Batch) -> None:
        """Write closed and open bars in one transaction."""
        with self._writing() as connection:
            connection.executemany(schema.UPSERT_CLOSED, self._parameters(closed))
            connection.executemany(schema.UPSERT_LIVE, self._parameters(live))

    def write_history(self, closed: Batch) -> None:
        """Write the exchange's own klines where nothing is stored or proved."""
        with self._writing() as connection:
            connection.executemany(schema.UPSERT_HISTORY, self._parameters(closed))

    def read(self, series: int, *, start: int | None, end: int | None, limit: int) -> Int64Array:
        """Return stored bars of one series, ascending."""
        low = _FIRST_TIME if start is None else start
        high = _LAST_TIME if end is None else end
        statement = schema.SELECT_LAST if start is None else schema.SELECT_FIRST
        with self._reading() as connection:
            rows = connection.execute(statement, (*self._keys[series], low, high, limit)).fetchall()
        bars = np.array(rows, np.int64).reshape(len(rows), FIELD_COUNT)
        return bars[::-1] if start is None else bars

    def read_live(self) -> Mapping[int, Sequence[int]]:
        """Return the open bars as last written, by row."""
        with self._reading() as connection:
            rows = connection.execute(schema.SELECT_LIVE).fetchall()
        return {self._series[row[:2]]: row[2:] for row in rows if row[:2] in self._series}

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
        with self._writing() as connection:
            # Asked again now that nobody else can write: another process may have done it since.
            for migration in schema.MIGRATIONS[self._version(connection) :]:
                for statement in schema.statements(migration):
                    connection.execute(statement)

    def _parameters(self, batch: Batch) -> Iterator[tuple[object, ...]]:
        for series, bar in zip(batch.series.tolist(), batch.bars.tolist(), strict=True):
            flags = bar[FLAGS]
            yield (*self._keys[series], *bar[:FLAGS], flags & _BITS, flags >> REVISION_SHIFT)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Hold the write lock and one transaction."""
        with self._write_lock, _mapped(f"cannot write {self.path}"):
            if self._writer is None:
                raise StoreError(f"{self.path} is closed")
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                self._writer.rollback()
                raise

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
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


def _symbols(connection: sqlite3.Connection) -> dict[str, Symbol]:
    rows = connection.execute(schema.SELECT_SYMBOLS).fetchall()
    return {
        name: Symbol(name, base, quote, listing_time, price_scale, quantity_scale)
        for name, base, quote, price_scale, quantity_scale, listing_time in rows
    }


def _rescale(connection: sqlite3.Connection, stored: Symbol, symbol: Symbol) -> None:
    """Multiply a symbol's bars whose scales have grown; an overflow is an error in STRICT tables."""
    price = 10 ** (symbol.price_scale - stored.price_scale)
    quantity = 10 ** (symbol.quantity_scale - stored.quantity_scale)
    if price == quantity == 1:
        return
    factors = {"price": price, "quantity": quantity, "quote": price * quantity}
    query = "SELECT symbol_id FROM symbols WHERE name = ?"
    factors["symbol_id"] = connection.execute(query, (symbol.name,)).fetchone()[0]
    for table in ("klines", "live"):
        connection.execute(schema.rescale_statement(table), factors)


@contextmanager
def _mapped(what: str) -> Iterator[None]:
    """Turn SQLite's and the file system's errors into ours."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise StoreError(f"{what}: {error}") from error


def merge_scales(symbol: Symbol, stored: Symbol | None) -> Symbol:
    """Return the exchange's symbol with the larger of its and the stored scales.

    Scales never shrink, because stored bars could not be shown exactly.  The listing time is the
    earlier one: ``onboardDate`` describes the symbol's current life only.
    """
    if stored is None:
        return symbol
    return attrs.evolve(
        symbol,
        listing_time=min(symbol.listing_time, stored.listing_time),
        price_scale=max(symbol.price_scale, stored.price_scale),
        quantity_scale=max(symbol.quantity_scale, stored.quantity_scale),
    )


def open_store(url: str) -> SqliteStore:
    """Return the store that the configuration's URL names; it is not opened yet.

    Raises:
        ConfigError: It names no file.
    """
    path = url.removeprefix("sqlite:///")
    if path == ":memory:":
        # Each connection would see a database of its own.
        raise ConfigError("storage.url", url, "sqlite:///path of a file")
    return SqliteStore(Path(path))
