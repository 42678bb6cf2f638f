"""Klines in PostgreSQL, for programs beside klinetrio to read.

Rows of a batch mean the registry that was attached, or enlisted, last.

Invariants (tested in tests/storage/test_contract.py, as those of every store):
  I1  A stored bar only gets better: settled before proved before a higher revision.
  I2  Nothing is ever written at other scales than the stored ones, whoever changed those.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from klinetrio.domain.kline import FIELD_COUNT
from klinetrio.errors import StoreError
from klinetrio.storage import postgres_check
from klinetrio.storage import postgres_schema as schema
from klinetrio.storage.postgres_bars import NO_SERIES, BarWriter
from klinetrio.storage.postgres_server import PostgresDatabase
from klinetrio.storage.postgres_symbols import (
    check_scales,
    lock_symbols,
    read_symbols,
    rescale,
    series_of,
    stored_ids,
    upsert,
)
from klinetrio.storage.prompts import command


if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    import numpy.typing as npt
    from psycopg import Connection

    from klinetrio.domain.symbol import Symbol
    from klinetrio.engine.registry import SymbolPeriodRegistry
    from klinetrio.storage.protocol import Batch

    Int64Array = npt.NDArray[np.int64]

_FIRST_TIME, _LAST_TIME = -(2**62), 2**62


class PostgresStore:
    """Klines in a PostgreSQL database.

    Args:
        url: As ``postgresql://user:password@host:port/database``.
    """

    def __init__(self, url: str) -> None:
        self._database = PostgresDatabase(url)
        self._symbols: Sequence[Symbol] = ()
        # None before rows mean anything.
        self._keys: Int64Array | None = None
        self._series: dict[int, int] = {}
        self._bars: BarWriter | None = None

    @property
    def name(self) -> str:
        """The database, for messages."""
        return self._database.name

    def exists(self) -> bool:
        """Tell whether the database has tables of klinetrio's."""
        return self._database.exists()

    def open(self) -> None:
        """Connect, and bring the schema up to date."""
        self._database.open()

    def close(self) -> None:
        """Disconnect; harmless when repeated."""
        self._database.close()

    @property
    def url(self) -> str:
        """As ``storage.url`` names it, without the password."""
        return self._database.url

    def damage(self) -> list[str]:
        """Return what is wrong with tables and indexes, and what helps."""
        with self._database.reading() as connection:
            return postgres_check.check(connection, self.prompt)

    def condition(self, symbol: str, interval: str) -> str:
        """Return the SQL condition by which the bars of one series are found."""
        return postgres_check.condition(symbol, interval)

    def prompt(self, statement: str) -> str:
        """Return the command by which a person runs an SQL statement."""
        return command("psql", self.url, "-c", statement=statement)

    def claim(self) -> AbstractContextManager[None]:
        """Be the only one who folds live trades into the database for the length of the block."""
        return self._database.claim()

    def is_claimed(self) -> bool:
        """Tell whether a daemon holds the claim right now."""
        return self._database.is_claimed()

    def identity(self) -> tuple[object, ...]:
        """Return which schema of which database of which server it is."""
        with self._database.reading() as connection:
            return "postgresql", *(connection.execute(schema.SELECT_IDENTITY).fetchone() or ())

    def known_symbols(self) -> Mapping[str, Symbol]:
        """Return the stored symbols by name."""
        with self._database.reading() as connection:
            return read_symbols(connection)

    def stored_series(self) -> set[tuple[str, str]]:
        """Return symbol and interval of all series of which anything is stored."""
        with self._database.reading() as connection:
            return set(connection.execute(schema.SELECT_STORED_SERIES).fetchall())

    def check_scales(self) -> None:
        """Make sure that bars are stored at the scales of the registry."""
        with self._database.reading() as connection:
            check_scales(connection, self._symbols)

    def attach(self, registry: SymbolPeriodRegistry) -> None:
        """Store the symbols of this run and their indexes."""
        with self._database.writing() as connection:
            # In the transaction: of two processes that both see a scale grow, one multiplies.
            lock_symbols(connection, "EXCLUSIVE")
            known = read_symbols(connection)
            connection.execute("UPDATE symbols SET symbol_index = NULL")
            for index, symbol in enumerate(registry.symbols):
                upsert(connection, symbol, index)
                if symbol.name in known:
                    rescale(connection, known[symbol.name], symbol)
            ids = series_of(connection, registry)
        self._adopt(ids, registry)

    def enlist(self, registry: SymbolPeriodRegistry) -> None:
        """Store symbols that are not known yet; the others, and all indexes, stay as they are."""
        with self._database.writing() as connection:
            lock_symbols(connection, "EXCLUSIVE")
            known = read_symbols(connection)
            check_scales(connection, registry.symbols)
            for symbol in registry.symbols:
                if symbol.name not in known:
                    upsert(connection, symbol, None)
            ids = series_of(connection, registry)
        self._adopt(ids, registry)

    def consult(self, registry: SymbolPeriodRegistry) -> None:
        """Let rows mean a registry for reading alone; nothing is stored."""
        with self._database.reading() as connection:
            check_scales(connection, registry.symbols)
            ids = stored_ids(connection)
        self._adopt(ids, registry)

    def regrow(self, symbols: Iterable[Symbol]) -> None:
        """Multiply the bars of known symbols whose scales have grown."""
        with self._database.writing() as connection:
            lock_symbols(connection, "EXCLUSIVE")
            known = read_symbols(connection)
            for symbol in symbols:
                if symbol.name in known:
                    rescale(connection, known[symbol.name], symbol)
                    scales = symbol.price_scale, symbol.quantity_scale
                    connection.execute(schema.UPDATE_SCALES, (*scales, symbol.name))

    def write(self, closed: Batch, live: Batch) -> None:
        """Write closed and open bars in one transaction."""
        with self._writing() as (connection, bars):
            bars.close(connection, closed)
            bars.show(connection, live)

    def write_history(
        self, closed: Batch, checked: Mapping[int, tuple[int, int]] | None = None
    ) -> int:
        """Write the exchange's own klines where nothing is stored or proved."""
        with self._writing() as (connection, bars):
            written = bars.merge(connection, schema.MERGE_HISTORY, closed)
            spans = [(self._key(row), *span) for row, span in (checked or {}).items()]
            connection.cursor().executemany(schema.UPSERT_CHECKED, spans)
        return written

    def settle(self, closed: Batch) -> int:
        """Put the exchange's own klines in the place of stored bars."""
        with self._writing() as (connection, bars):
            return bars.merge(connection, schema.MERGE_SETTLED, closed)

    def read(self, series: int, *, start: int | None, end: int | None, limit: int) -> Int64Array:
        """Return stored bars of one series, ascending."""
        low = _FIRST_TIME if start is None else start
        high = _LAST_TIME if end is None else end
        statement = schema.SELECT_LAST if start is None else schema.SELECT_FIRST
        parameters = (self._key(series), low, high, limit)
        with self._database.reading() as connection:
            rows = connection.execute(statement, parameters, binary=True).fetchall()
        bars = np.array(rows, np.int64).reshape(len(rows), FIELD_COUNT)
        return bars[::-1] if start is None else bars

    def read_live(self) -> Mapping[int, Sequence[int]]:
        """Return the open bars as last written, by row."""
        return self._by_row(schema.SELECT_LIVE)

    def read_checked(self) -> Mapping[int, tuple[int, int]]:
        """Return of each series the span in which nothing is missing that the exchange has."""
        rows = self._by_row(schema.SELECT_CHECKED)
        return {row: (since, until) for row, (since, until) in rows.items()}

    def first_time(self, series: int) -> int | None:
        """Return the open time of the oldest stored bar."""
        with self._database.reading() as connection:
            row = connection.execute(schema.SELECT_OLDEST, (self._key(series),)).fetchone()
        return None if row is None else int(row[0])

    def proved_times(self, series: int, start: int, end: int) -> Int64Array:
        """Return the open times in ``[start, end)`` of proved bars, ascending."""
        with self._database.reading() as connection:
            parameters = (self._key(series), start, end - 1)
            rows = connection.execute(schema.SELECT_PROVED, parameters, binary=True).fetchall()
        return np.array(rows, np.int64).reshape(len(rows))

    def size(self) -> int:
        """Return the bytes of all tables and indexes."""
        return self._database.size()

    def journal_size(self) -> int:
        """Return 0: the write-ahead log is the server's to look after."""
        return 0

    def tidy(self) -> None:
        """Do nothing, as the server's autovacuum does it."""

    @contextmanager
    def _writing(self) -> Iterator[tuple[Connection, BarWriter]]:
        """Hold one transaction in which bars may be written at our scales."""
        bars = self._bars
        if bars is None:
            raise StoreError(f"{self.name} has not been reached since the start")
        try:
            with self._database.writing() as connection:
                # Shared with other writers, but with nobody who rescales.
                lock_symbols(connection, "SHARE")
                check_scales(connection, self._symbols)
                yield connection, bars
        except BaseException:
            bars.forget()
            raise

    def _key(self, row: int) -> int:
        if self._keys is None:
            raise StoreError(f"{self.name} has not been reached since the start")
        return int(self._keys[row])

    def _by_row(self, query: str) -> dict[int, tuple[int, ...]]:
        """Return rows that begin with a series' id by the row of the registry."""
        with self._database.reading() as connection:
            rows = connection.execute(query, binary=True).fetchall()
        return {self._series[key]: tuple(values) for key, *values in rows if key in self._series}

    def _adopt(self, ids: Mapping[tuple[str, str], int], registry: SymbolPeriodRegistry) -> None:
        """Let rows mean this registry from now on."""
        self._symbols = registry.symbols
        keys = [
            ids.get((symbol.name, interval.name), NO_SERIES)
            for symbol in registry.symbols
            for interval in registry.intervals
        ]
        self._keys = np.array(keys, np.int64)
        self._bars = BarWriter(self._keys)
        self._series = {key: row for row, key in enumerate(keys) if key != NO_SERIES}
