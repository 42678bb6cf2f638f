"""Columns of a file have as many decimals as they need, and no more."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from klinetrio.archive.rows import Column
from klinetrio.archive.table import at_decimals, in_ms, least_decimals


values = st.lists(st.integers(0, 10**9), min_size=1)


@given(values, st.integers(0, 6), st.integers(0, 6), st.integers(0, 8))
def test_least_decimals_lose_nothing(
    numbers: list[int], zeros: int, decimals: int, at_least: int
) -> None:
    """Zeros at the end of every number go, down to what is there already."""
    column = Column(np.array(numbers, np.int64) * 10**zeros, decimals + zeros)
    least = least_decimals([column], at_least)
    scaled = at_decimals(column, least)

    assert scaled is not None
    assert at_least <= least <= max(at_least, decimals)
    exact = [number * 10**least for number in numbers]
    assert exact == [value * 10**decimals for value in scaled.tolist()]


def test_what_does_not_fit_is_told() -> None:
    """Rather than wrapped around."""
    assert at_decimals(Column(np.array([10**10]), 0), 9) is None


def test_microseconds_are_floored() -> None:
    """Row by row: a file may have both."""
    times = np.array([1_786_147_200_000, 1_786_147_200_000_999])
    assert [1_786_147_200_000, 1_786_147_200_000] == in_ms(times).tolist()
