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

from itertools import chain
from struct import error as StructError  # noqa: N812 it is a class
from struct import pack
from typing import TYPE_CHECKING

import numpy as np

from klinetrio.domain.kline import FIELD_COUNT


if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Int64Array = npt.NDArray[np.int64]

_ROW_BYTES = FIELD_COUNT * np.dtype(np.int64).itemsize


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
        else:
            needed = self.size_of(capacity)
            if buffer.nbytes < needed:
                raise ValueError(f"expected a buffer of {needed} bytes, was {buffer.nbytes}")
            self.rows = np.ndarray(shape, np.int64, buffer=buffer)
            self.rows[:] = 0
        # The same memory as bytes, for a writer that has Python integers: packing them takes a
        # third of the time of making an array of them.
        self.raw = self.rows.reshape(-1).data.cast("B")

    @staticmethod
    def size_of(capacity: int) -> int:
        """Return the bytes that ``capacity`` rows take."""
        return capacity * _ROW_BYTES


class DoubleBufferedKlineStore:
    """Two flat stores, a dirty mask and a generation; see the module's invariants."""

    def __init__(self, front: FlatKlineStore, back: FlatKlineStore) -> None:
        if front is back or front.rows.shape != back.rows.shape:
            raise ValueError("expected two different stores of one shape")
        self._read, self._write = front.rows, back.rows
        self._read_raw, self._write_raw = front.raw, back.raw
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
        count = len(values)
        try:
            # Packed first, so that no row is left half written at a value that does not fit.
            packed = pack(f"={count * FIELD_COUNT}q", *chain.from_iterable(values))
        except StructError as error:
            raise OverflowError(f"expected {FIELD_COUNT} numbers of 64 bits a row") from error
        start = first_row * _ROW_BYTES
        self._write_raw[start : start + len(packed)] = packed
        self._dirty[first_row : first_row + count] = True

    def swap(self) -> Int64Array:
        """Exchange the sides; return the indexes of the rows that changed in the period."""
        changed: Int64Array = np.flatnonzero(self._dirty)
        self._read, self._write = self._write, self._read
        self._read_raw, self._write_raw = self._write_raw, self._read_raw
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
