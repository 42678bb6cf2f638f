"""The embedded store: klines in one SQLite file.

A batch is written in one transaction.  Rows of a batch mean the registry that was attached, or
enlisted, last.

Invariants (tested in tests/storage/test_sqlite.py, test_upserts.py and test_beside.py):
  I1  A stored bar only gets better: settled before proved before a higher revision.
  I2  Nothing is ever written at other scales than the stored ones, whoever changed those.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from klinetrio.domain.kline import FIELD_COUNT, FLAGS, REVISION_SHIFT
from klinetrio.storage import schema, sqlite_check
from klinetrio.storage.claim import claim, is_claimed
from klinetrio.storage.enrolment import check_scales, ids_of, read_symbols, rescale, upsert
from klinetrio.storage.prompts import command
from klinetrio.storage.sqlite_file import SqliteFile


if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    import numpy.typing as npt

    from klinetrio.domain.symbol import Symbol
    from klinetrio.engine.registry import SymbolPeriodRegistry
    from klinetrio.storage.protocol import Batch

    Int64Array = npt.NDArray[np.int64]

_FIRST_TIME, _LAST_TIME = -(2**62), 2**62

# Stands for a symbol that is not stored.
_NO_SYMBOL = -1
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
        self._file = SqliteFile(path)
        self._symbols: Sequence[Symbol] = ()
        self._keys: list[tuple[int, str]] = []
        self._series: dict[tuple[int, str], int] = {}

    @property
    def name(self) -> str:
        """The file's path."""
        return str(self.path)

    @property
    def url(self) -> str:
        """As ``storage.url`` names it."""
        return f"sqlite:///{self.path}"

    def exists(self) -> bool:
        """Tell whether there is a file of klinetrio's."""
        return self._file.exists()

    def damage(self) -> list[str]:
        """Return what is wrong with the file, and what helps."""
        with self._file.reading() as connection:
            return sqlite_check.check(connection, self.path)

    def condition(self, symbol: str, interval: str) -> str:
        """Return the SQL condition by which the bars of one series are found."""
        return sqlite_check.condition(symbol, interval)

    def prompt(self, statement: str) -> str:
        """Return the command by which a person runs an SQL statement."""
        return command("sqlite3", "-cmd", ".timeout 5000", str(self.path), statement=statement)

    def claim(self) -> AbstractContextManager[None]:
        """Be the only one who folds live trades into the file for the length of the block."""
        return claim(self.path)

    def is_claimed(self) -> bool:
        """Tell whether a daemon holds the claim right now."""
        return is_claimed(self.path)

    def open(self) -> None:
        """Open or create the file and bring its schema up to date."""
        self._file.open()

    def close(self) -> None:
        """Close all connections; the WAL is folded into the file."""
        self._file.close()

    def identity(self) -> tuple[object, ...]:
        """Return which file of which disk it is, whatever links lead there."""
        return self._file.identity()

    def known_symbols(self) -> Mapping[str, Symbol]:
        """Return the stored symbols by name."""
        with self._file.reading() as connection:
            return read_symbols(connection)

    def stored_series(self) -> set[tuple[str, str]]:
        """Return symbol and interval of all series of which anything is stored."""
        with self._file.reading() as connection:
            return set(connection.execute(schema.SELECT_SERIES).fetchall())

    def check_scales(self) -> None:
        """Make sure that bars are stored at the scales of the registry."""
        with self._file.reading() as connection:
            check_scales(connection, self._symbols)

    def attach(self, registry: SymbolPeriodRegistry) -> None:
        """Store the symbols of this run and their indexes."""
        with self._file.writing() as connection:
            # In the transaction: of two processes that both see a scale grow, one multiplies.
            known = read_symbols(connection)
            connection.execute("UPDATE symbols SET symbol_index = NULL")
            for index, symbol in enumerate(registry.symbols):
                upsert(connection, symbol, index)
                if symbol.name in known:
                    rescale(connection, known[symbol.name], symbol)
            ids = ids_of(connection)
        self._adopt(ids, registry)

    def enlist(self, registry: SymbolPeriodRegistry) -> None:
        """Store symbols that are not known yet; the others, and all indexes, stay as they are."""
        with self._file.writing() as connection:
            known = read_symbols(connection)
            check_scales(connection, registry.symbols)
            for symbol in registry.symbols:
                if symbol.name not in known:
                    upsert(connection, symbol, None)
            ids = ids_of(connection)
        self._adopt(ids, registry)

    def consult(self, registry: SymbolPeriodRegistry) -> None:
        """Let rows mean a registry for reading alone; nothing is stored."""
        with self._file.reading() as connection:
            check_scales(connection, registry.symbols)
            ids = ids_of(connection)
        self._adopt(ids, registry)

    def regrow(self, symbols: Iterable[Symbol]) -> None:
        """Multiply the bars of known symbols whose scales have grown."""
        with self._file.writing() as connection:
            known = read_symbols(connection)
            for symbol in symbols:
                if symbol.name in known:
                    rescale(connection, known[symbol.name], symbol)
                    scales = symbol.price_scale, symbol.quantity_scale
                    connection.execute(schema.UPDATE_SCALES, (*scales, symbol.name))

    def write(self, closed: Batch, live: Batch) -> None:
        """Write closed and open bars in one transaction."""
        with self._writing() as connection:
            connection.executemany(schema.UPSERT_CLOSED, self._parameters(closed))
            connection.executemany(schema.UPSERT_LIVE, self._parameters(live))

    def write_history(
        self, closed: Batch, checked: Mapping[int, tuple[int, int]] | None = None
    ) -> int:
        """Write the exchange's own klines where nothing is stored or proved."""
        with self._writing() as connection:
            before = connection.total_changes
            connection.executemany(schema.UPSERT_HISTORY, self._parameters(closed))
            written = connection.total_changes - before
            spans = [(*self._keys[row], *span) for row, span in (checked or {}).items()]
            connection.executemany(schema.UPSERT_CHECKED, spans)
        return written

    def settle(self, closed: Batch) -> int:
        """Put the exchange's own klines in the place of stored bars."""
        with self._writing() as connection:
            before = connection.total_changes
            connection.executemany(schema.UPSERT_SETTLED, self._parameters(closed))
            return connection.total_changes - before

    def read(self, series: int, *, start: int | None, end: int | None, limit: int) -> Int64Array:
        """Return stored bars of one series, ascending."""
        low = _FIRST_TIME if start is None else start
        high = _LAST_TIME if end is None else end
        statement = schema.SELECT_LAST if start is None else schema.SELECT_FIRST
        with self._file.reading() as connection:
            rows = connection.execute(statement, (*self._keys[series], low, high, limit)).fetchall()
        bars = np.array(rows, np.int64).reshape(len(rows), FIELD_COUNT)
        return bars[::-1] if start is None else bars

    def read_live(self) -> Mapping[int, Sequence[int]]:
        """Return the open bars as last written, by row."""
        with self._file.reading() as connection:
            rows = connection.execute(schema.SELECT_LIVE).fetchall()
        return {self._series[row[:2]]: row[2:] for row in rows if row[:2] in self._series}

    def read_checked(self) -> Mapping[int, tuple[int, int]]:
        """Return of each series the span in which nothing is missing that the exchange has."""
        with self._file.reading() as connection:
            rows = connection.execute(schema.SELECT_CHECKED).fetchall()
        return {self._series[row[:2]]: row[2:] for row in rows if row[:2] in self._series}

    def first_time(self, series: int) -> int | None:
        """Return the open time of the oldest stored bar."""
        with self._file.reading() as connection:
            row = connection.execute(schema.SELECT_OLDEST, self._keys[series]).fetchone()
        return None if row is None else int(row[0])

    def proved_times(self, series: int, start: int, end: int) -> Int64Array:
        """Return the open times in ``[start, end)`` of proved bars, ascending."""
        with self._file.reading() as connection:
            parameters = (*self._keys[series], start, end - 1)
            rows = connection.execute(schema.SELECT_PROVED, parameters).fetchall()
        return np.array(rows, np.int64).reshape(len(rows))

    def size(self) -> int:
        """Return the bytes of the file and its WAL."""
        return self._file.size()

    def journal_size(self) -> int:
        """Return the bytes of the WAL."""
        return self._file.wal_size()

    def tidy(self) -> None:
        """Move the WAL into the file if it has grown large."""
        self._file.checkpoint()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Hold one transaction in which bars may be written at our scales."""
        with self._file.writing() as connection:
            check_scales(connection, self._symbols)
            yield connection

    def _adopt(self, ids: Mapping[str, int], registry: SymbolPeriodRegistry) -> None:
        """Let rows mean this registry from now on."""
        self._symbols = registry.symbols
        self._keys = [
            (ids.get(symbol.name, _NO_SYMBOL), interval.name)
            for symbol in registry.symbols
            for interval in registry.intervals
        ]
        self._series = {key: row for row, key in enumerate(self._keys)}

    def _parameters(self, batch: Batch) -> Iterator[tuple[object, ...]]:
        for series, bar in zip(batch.series.tolist(), batch.bars.tolist(), strict=True):
            flags = bar[FLAGS]
            yield (*self._keys[series], *bar[:FLAGS], flags & _BITS, flags >> REVISION_SHIFT)
