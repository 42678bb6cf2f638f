"""Double-buffered kline rows.

Actors write rows of the write side; readers only see the read side.  Once per period the swapper
exchanges them, so every reader sees one moment of all symbols.

Invariants (tested in tests/engine/test_store.py):
  I1  Read is not write, and neither is ever reallocated.
  I2  Only the swapper calls ``swap``, and ``swap`` has no checkpoint: no task can run in the
      middle of it.
  I3  A row never goes back in time: ``swap`` copies the rows that changed in the finished period
      into the new write side.  (Exchanging pointers alone shows a row as it was two periods ago;
      that is why there is a dirty mask.)
  I4  One book is the only writer of its rows.
  I5  A reader that awaits takes a copy (``live_row``, ``live_rows`` return copies).
  I6  ``generation`` rises by one per swap.

What was considered and left: copying everything at each swap costs by capacity instead of by
change; a lock would exclude nobody, because there is one thread and no checkpoint.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from klinetrio.domain.kline import FIELD_COUNT


if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Int64Array = npt.NDArray[np.int64]

_ITEM = np.dtype(np.int64).itemsize


class FlatKlineStore:
    """One C-contiguous int64 array, shape ``(capacity, 13)``.

    Args:
        capacity: Number of rows.
        buffer: Memory to lay the rows on, as of a shared memory block; ordinary memory if None.

    Raises:
        ValueError: The buffer is too small.
    """

    def __init__(self, capacity: int, buffer: memoryview | None = None) -> None:
        shape = (capacity, FIELD_COUNT)
        if buffer is None:
            self.rows: Int64Array = np.zeros(shape, np.int64)
            return
        needed = self.size_of(capacity)
        if buffer.nbytes < needed:
            raise ValueError(f"expected a buffer of {needed} bytes, was {buffer.nbytes}")
        self.rows = np.ndarray(shape, np.int64, buffer=buffer)
        self.rows[:] = 0

    @staticmethod
    def size_of(capacity: int) -> int:
        """Return the bytes that ``capacity`` rows take."""
        return capacity * FIELD_COUNT * _ITEM


class DoubleBufferedKlineStore:
    """Two flat stores, a dirty mask and a generation; see the module's invariants."""

    def __init__(self, front: FlatKlineStore, back: FlatKlineStore) -> None:
        if front is back or front.rows.shape != back.rows.shape:
            raise ValueError("expected two different stores of one shape")
        self._read = front.rows
        self._write = back.rows
        self._dirty = np.zeros(len(front.rows), np.bool_)
        self.generation = 0

    @classmethod
    def allocate(cls, capacity: int) -> DoubleBufferedKlineStore:
        """Return a store in ordinary memory."""
        return cls(FlatKlineStore(capacity), FlatKlineStore(capacity))

    @property
    def capacity(self) -> int:
        """Number of rows."""
        return len(self._read)

    def write(self, first_row: int, values: Sequence[Sequence[int]]) -> None:
        """Set consecutive rows of the write side, starting at ``first_row``.

        Raises:
            OverflowError: A value does not fit 64 bits; no row has changed then.
        """
        end = first_row + len(values)
        # Converted first: numpy would leave a row half written at a value that does not fit.
        self._write[first_row:end] = np.array(values, np.int64)
        self._dirty[first_row:end] = True

    def swap(self) -> Int64Array:
        """Exchange the sides; return the indexes of the rows that changed in the period."""
        changed: Int64Array = np.flatnonzero(self._dirty)
        self._read, self._write = self._write, self._read
        self._write[changed] = self._read[changed]
        self._dirty[changed] = False
        self.generation += 1
        return changed

    def live_row(self, row: int) -> list[int]:
        """Return a copy of one row of the read side."""
        values: list[int] = self._read[row].tolist()
        return values

    def live_rows(self, rows: Int64Array) -> Int64Array:
        """Return a copy of some rows of the read side, shape ``(len(rows), 13)``."""
        copy: Int64Array = self._read[rows]
        return copy
