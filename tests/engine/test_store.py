"""The double buffer keeps its invariants over any sequence of writes and swaps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from klinetrio.domain.kline import FIELD_COUNT
from klinetrio.engine.store import DoubleBufferedKlineStore, FlatKlineStore


CAPACITY = 6


def row_of(value: int) -> list[int]:
    """Return a row that is easy to tell from others."""
    return [value] * FIELD_COUNT


@given(st.lists(st.one_of(st.none(), st.integers(0, CAPACITY - 1)), max_size=60))
def test_no_row_ever_goes_back_in_time(steps: list[int | None]) -> None:
    """Readers see what was written before the last swap, and never an older state (I1, I3, I6)."""
    store = DoubleBufferedKlineStore.allocate(CAPACITY)
    sides = {id(store._read), id(store._write)}
    written = [0] * CAPACITY
    shown = [0] * CAPACITY
    swaps = 0
    for number, step in enumerate(steps, 1):
        if step is None:
            dirty = [row for row in range(CAPACITY) if written[row] != shown[row]]
            assert dirty == store.swap().tolist()
            shown = list(written)
            swaps += 1
        else:
            store.write(step, [row_of(number)])
            written[step] = number
        assert [row_of(value) for value in shown] == [store.live_row(r) for r in range(CAPACITY)]
        assert swaps == store.generation
        assert sides == {id(store._read), id(store._write)}
        assert store._read is not store._write


def test_a_reader_keeps_its_copy() -> None:
    """What a reader took does not change under it (I5)."""
    store = DoubleBufferedKlineStore.allocate(2)
    store.write(0, [row_of(1), row_of(2)])
    store.swap()
    taken = store.live_rows(np.array([0, 1]))

    for value in (3, 4):
        store.write(0, [row_of(value), row_of(value)])
        store.swap()

    assert [1, 2] == taken[:, 0].tolist()


def test_rows_may_lie_in_given_memory() -> None:
    """The store works the same on a caller's buffer, as of shared memory."""
    memory = bytearray(FlatKlineStore.size_of(2))
    store = DoubleBufferedKlineStore(FlatKlineStore(2), FlatKlineStore(2, memoryview(memory)))

    store.write(1, [row_of(7)])

    assert row_of(7) == np.frombuffer(memory, np.int64)[FIELD_COUNT:].tolist()


def test_refuses_what_breaks_the_first_invariant() -> None:
    """One store for both sides, or too small a buffer, is a clear error."""
    flat = FlatKlineStore(2)
    with pytest.raises(ValueError, match="two different stores"):
        DoubleBufferedKlineStore(flat, flat)
    with pytest.raises(ValueError, match="expected a buffer of 208 bytes, was 8"):
        FlatKlineStore(2, memoryview(bytearray(8)))
