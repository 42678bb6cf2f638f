"""The spool's file: a small SQLite database like the store's own, emptied from the front.

It is the same schema on purpose.  Bars lie there by symbol, interval and scales, not by the rows of
one run; SQLite cuts off what a crash left half written, multiplies bars whose scales have grown and
answers questions by series.  All methods block; the spool's owner runs them in threads.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import numpy as np

from klinetrio.domain.kline import FIELD_COUNT
from klinetrio.errors import StoreError
from klinetrio.storage import schema
from klinetrio.storage.protocol import Batch
from klinetrio.storage.sqlite import SqliteStore


if TYPE_CHECKING:
    from klinetrio.engine.registry import SymbolPeriodRegistry

# A file that has grown beyond this is made small again once it is empty.
_WORTH_SHRINKING = 1 << 20

_COLUMNS = ("symbol_id", "interval", "open_time", *schema.VALUES, "flags", "revision")
_NAMES = ", ".join(_COLUMNS)
_MARKS = ", ".join("?" * len(_COLUMNS))
# The texts of this module are put together from constants of this package only.
_ADD = f"INSERT OR IGNORE INTO klines ({_NAMES}) VALUES ({_MARKS})"  # noqa: S608
_REMOVE = f"DELETE FROM klines WHERE {' AND '.join(f'{name} = ?' for name in _COLUMNS)}"  # noqa: S608
_FIRST = f"""
SELECT symbol_id, interval, open_time, {", ".join(schema.VALUES)}, flags | (revision << 8)
FROM klines ORDER BY symbol_id, interval, open_time LIMIT ?
"""  # noqa: S608


class SpoolFile(SqliteStore):
    """Bars that wait, in one SQLite file; its series are those of the registry attached last."""

    def view(self, registry: SymbolPeriodRegistry) -> SpoolFile:
        """Return the same file with rows that mean another registry."""
        other = SpoolFile(self.path)
        other._file = self._file
        other.attach(registry)
        return other

    def count(self) -> int:
        """Return how many closed bars wait; reads the whole file."""
        with self._file.reading() as connection:
            return int(connection.execute("SELECT count(*) FROM klines").fetchone()[0])

    def has_live(self) -> bool:
        """Tell whether open bars are kept."""
        with self._file.reading() as connection:
            return connection.execute("SELECT 1 FROM live LIMIT 1").fetchone() is not None

    def check(self) -> None:
        """Make sure that the file is whole.

        Raises:
            StoreError: It is not; its cause is SQLite's own error.
        """
        with self._file.reading() as connection:
            verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise StoreError(f"{self.path} is damaged: {verdict}") from sqlite3.DatabaseError(
                verdict
            )

    def owner(self) -> str:
        """Return whose bars these are, nothing if it was never said."""
        with self._file.reading() as connection:
            row = connection.execute("SELECT value FROM meta WHERE key = 'owner'").fetchone()
        return "" if row is None else str(row[0])

    def set_owner(self, owner: str) -> None:
        """Say whose bars these are."""
        with self._file.writing() as connection:
            connection.execute("INSERT OR REPLACE INTO meta VALUES ('owner', ?)", (owner,))

    def put(self, closed: Batch, live: Batch) -> int:
        """Add closed bars, and replace open ones, in one transaction; return how many are new."""
        with self._writing() as connection:
            before = connection.total_changes
            connection.executemany(_ADD, self._parameters(closed))
            added = connection.total_changes - before
            connection.executemany(schema.UPSERT_CLOSED, self._parameters(closed))
            connection.executemany(schema.UPSERT_LIVE, self._parameters(live))
        return added

    def first(self, limit: int) -> Batch:
        """Return some of the bars, of each series the oldest first; they stay."""
        with self._file.reading() as connection:
            found = connection.execute(_FIRST, (limit,)).fetchall()
        rows = [row for row in found if row[:2] in self._series]
        series = np.array([self._series[row[:2]] for row in rows], np.int64)
        bars = np.array([row[2:] for row in rows], np.int64).reshape(len(rows), FIELD_COUNT)
        return Batch(series, bars)

    def remove(self, written: Batch, *, with_live: bool) -> int:
        """Remove bars that are exactly like these, and all open ones if asked; return how many.

        A bar of which a better state has come since stays.
        """
        with self._file.writing() as connection:
            before = connection.total_changes
            connection.executemany(_REMOVE, self._parameters(written))
            removed = connection.total_changes - before
            if with_live:
                connection.execute("DELETE FROM live")
        return removed

    def series(self) -> set[tuple[str, str]]:
        """Return symbol and interval of every series that closed bars wait of."""
        with self._file.reading() as connection:
            return set(connection.execute(schema.SELECT_CLOSED_SERIES).fetchall())

    def shrink(self) -> None:
        """Give an empty file's space back; harmless when something is in the way."""
        if self.size() < _WORTH_SHRINKING:
            return
        with self._file.alone() as connection:
            connection.execute("VACUUM")
        self._file.truncate_wal()
