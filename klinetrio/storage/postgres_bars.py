"""How bars come into the tables of PostgreSQL: the newest are appended, all others merged.

A bar that closes is nearly always newer than all that is stored of its series.  Such bars go by
binary COPY into ``klines`` itself, which takes half the time of an upsert.  That nothing of the kind
is stored is a guess, and the primary key judges it: where another process was first, they are merged.
To be merged, bars go by COPY into a temporary table, and from there with one upsert into their own.

Invariants (tested in tests/storage/test_postgres_bars.py):
  I1  What is stored after a batch does not depend on which way its bars went in.
  I2  A wrong guess is a line in the server's log; there is at most one in ``DISTRUST_S``.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import psycopg

from klinetrio.domain.kline import OPEN_TIME
from klinetrio.errors import StoreError
from klinetrio.storage import postgres_schema as schema
from klinetrio.storage.binary_copy import pack
from klinetrio.storage.postgres_months import AHEAD, add_months, existing_months, months_of


if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from klinetrio.storage.protocol import Batch

    Int64Array = npt.NDArray[np.int64]

# How long nothing is appended after a wrong guess: whoever wrote the bar may be writing more.
DISTRUST_S = 60.0

# Stands for a series that is not stored.
NO_SERIES = -1

# Nothing is newer: what is stored of a series is not known before something was merged into it.
_UNKNOWN = np.iinfo(np.int64).max


class BarWriter:
    """Brings batches into the tables, in transactions of the caller's.

    Args:
        keys: Of each row by which batches name their series, its id; ``NO_SERIES`` for none.
    """

    def __init__(self, keys: Int64Array) -> None:
        self._keys = keys
        self._newest = np.full(len(keys), _UNKNOWN, np.int64)
        self._trusted_after = -np.inf
        self._months: set[int] = set()

    def forget(self) -> None:
        """Forget which months have tables: those that a failed transaction made are gone again."""
        self._months = set()

    def close(self, connection: psycopg.Connection, batch: Batch) -> None:
        """Bring bars that have closed into ``klines``.

        Raises:
            StoreError: A series is not stored, or a revision does not fit.
        """
        self._have_months(connection, batch)
        for part in layers_of(batch):
            is_new = self._is_new(batch, part)
            # After the older ones, so that two writers of a series take its bars in the same order.
            self._upsert(connection, schema.MERGE_CLOSED, batch, part[~is_new])
            self._append(connection, batch, part[is_new])
            self._remember(batch, part)

    def merge(self, connection: psycopg.Connection, statement: str, batch: Batch) -> int:
        """Bring bars into ``klines`` by an upsert of the schema's; return how many were written.

        Raises:
            StoreError: A series is not stored, or a revision does not fit.
        """
        self._have_months(connection, batch)
        return sum(self._upsert(connection, statement, batch, part) for part in layers_of(batch))

    def show(self, connection: psycopg.Connection, batch: Batch) -> None:
        """Put open bars in the place of those in ``live``, the last one of each series.

        Raises:
            StoreError: A series is not stored, or a revision does not fit.
        """
        _, last = np.unique(batch.series[::-1], return_index=True)
        self._upsert(connection, schema.MERGE_LIVE, batch, len(batch) - 1 - last)

    def _is_new(self, batch: Batch, part: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
        """Tell of bars whether they are probably newer than all of their series."""
        if time.monotonic() < self._trusted_after:
            return np.zeros(len(part), bool)
        is_new: npt.NDArray[np.bool_]
        is_new = batch.bars[part, OPEN_TIME] > self._newest[batch.series[part]]
        return is_new

    def _remember(self, batch: Batch, part: npt.NDArray[np.intp]) -> None:
        """Know the newest bars of series that have been written; if it fails, that does no harm."""
        rows = batch.series[part]
        self._newest[rows[self._newest[rows] == _UNKNOWN]] = -_UNKNOWN
        np.maximum.at(self._newest, rows, batch.bars[part, OPEN_TIME])

    def _append(
        self, connection: psycopg.Connection, batch: Batch, part: npt.NDArray[np.intp]
    ) -> None:
        """Copy bars into ``klines``, or merge them if one was there already."""
        if not len(part):
            return
        try:
            with connection.transaction():
                self._copy(connection, "klines", batch, part)
        except psycopg.errors.UniqueViolation:
            self._trusted_after = time.monotonic() + DISTRUST_S
            self._upsert(connection, schema.MERGE_CLOSED, batch, part)

    def _upsert(
        self,
        connection: psycopg.Connection,
        statement: str,
        batch: Batch,
        part: npt.NDArray[np.intp],
    ) -> int:
        """Merge bars, each at most once among them; return how many were written."""
        if not len(part):
            return 0
        connection.execute("TRUNCATE incoming")
        self._copy(connection, "incoming", batch, part)
        return connection.execute(statement).rowcount

    def _copy(
        self,
        connection: psycopg.Connection,
        table: str,
        batch: Batch,
        part: npt.NDArray[np.intp],
    ) -> None:
        """Copy bars into a table, in the order of the index."""
        keys, bars = self._keys[batch.series[part]], batch.bars[part]
        if (keys == NO_SERIES).any():
            raise StoreError("one of the series that are written is not stored")
        order = np.lexsort((bars[:, OPEN_TIME], keys))
        data = pack(keys[order], bars[order])
        with connection.cursor().copy(schema.copy_statement(table)) as copy:
            copy.write(data)

    def _have_months(self, connection: psycopg.Connection, batch: Batch) -> None:
        """Make sure that these bars, and those of the near future, have tables."""
        if not len(batch):
            return
        now = months_of(np.array([time.time_ns() // 1_000_000]))[0]
        wanted = {*months_of(batch.bars[:, OPEN_TIME]), *range(now, now + AHEAD + 1)}
        if not wanted <= self._months:
            add_months(connection, wanted)
            self._months = existing_months(connection)


def layers_of(batch: Batch) -> Iterator[npt.NDArray[np.intp]]:
    """Yield the places of a batch's bars in parts that have each bar at most once, in their order.

    One statement cannot change a row twice.
    """
    left = np.arange(len(batch))
    while len(left):
        keys = np.stack((batch.series[left], batch.bars[left, OPEN_TIME]))
        _, first = np.unique(keys, axis=1, return_index=True)
        yield left[np.sort(first)]
        left = np.delete(left, first)
