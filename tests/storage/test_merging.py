"""Merged bars are what a database makes of them; multiplied ones are exact."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klinetrio.domain.kline import FIELD_COUNT, FLAGS, OPEN_TIME, Flag
from klinetrio.errors import ScaleError
from klinetrio.storage.merging import merge, multiplied
from tests.storage.backends import SqliteBackend, rows_of
from tests.storage.bars import BASE, MINUTE, NOTHING, bar, batch


BITS = st.sets(st.sampled_from([Flag.COMPLETE, Flag.BACKFILLED, Flag.SETTLED])).map(sum)
STATES = st.builds(
    lambda value, bits, revision, trades: bar(
        0, value, bits=Flag.FINAL | bits, revision=revision, trades=trades
    ),
    st.integers(0, 1),
    BITS,
    st.integers(0, 2),
    st.integers(0, 2),
)
BARS = st.dictionaries(st.integers(0, 8), STATES, max_size=8).map(
    lambda states: [[BASE + at * MINUTE, *state[1:]] for at, state in sorted(states.items())]
)


def array(rows: list[list[int]]) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Return bars as the stores do."""
    return np.array(rows, np.int64).reshape(len(rows), FIELD_COUNT)


@settings(max_examples=150)
@given(source=BARS, target=BARS)
def test_what_is_expected_is_what_a_database_does(
    source: list[list[int]], target: list[list[int]]
) -> None:
    """Also that each bar is counted in one way."""
    merged = merge(array(source), array(target))
    with tempfile.TemporaryDirectory() as folder:
        store = SqliteBackend(Path(folder) / "klines.db").opened()
        store.write(batch(*((0, each) for each in target)), NOTHING)
        store.write(batch(*((1, each) for each in target)), NOTHING)
        store.write(batch(*((0, each) for each in source)), NOTHING)
        store.write(batch(*((1, each) for each in merged.write.tolist())), NOTHING)
        assert merged.result.tolist() == rows_of(store, 0) == rows_of(store, 1)
        store.close()

    same = sum(each in target for each in source)
    assert len(source) == same + len(merged.write) + merged.kept + merged.different
    opens = {each[OPEN_TIME] for each in source}
    assert sum(each[OPEN_TIME] not in opens for each in target) == merged.more


@pytest.mark.parametrize(
    ("source", "target", "counts"),
    [
        # The same; better in the source; better in the target.
        (bar(BASE), bar(BASE), (0, 0, 0)),
        (bar(BASE, 1, revision=1), bar(BASE), (1, 0, 0)),
        (bar(BASE, 1), bar(BASE, revision=1), (0, 1, 0)),
        # As good and the same numbers, but the exchange's own; as good, and other numbers.
        (bar(BASE), bar(BASE, bits=7), (0, 1, 0)),
        (bar(BASE, 8), bar(BASE, 9), (0, 0, 1)),
    ],
)
def test_a_bar_is_counted_by_its_states(
    source: list[int], target: list[int], counts: tuple[int, int, int]
) -> None:
    """Written, kept or different."""
    merged = merge(array([source]), array([target]))
    assert counts == (len(merged.write), merged.kept, merged.different)


def test_multiplying_is_exact_to_the_last_number_that_fits() -> None:
    """And refuses the next one, at both ends."""
    fits = (2**63 - 1) // 1_000
    row = [BASE, 1, 2, -3, 4, 5, fits, 7, 8, -fits, 10, 11, bar(BASE)[FLAGS]]
    expected = [BASE, 10, 20, -30, 40, 500, fits * 1_000, 7, 800, -fits * 1_000, 10, 11, row[12]]
    assert [expected] == multiplied(array([row]), 10, 100).tolist()
    assert [row] == multiplied(array([row]), 1, 1).tolist()
    assert multiplied(array([]), 10, 10).shape == (0, FIELD_COUNT)
    for field in (6, 9):
        large = list(row)
        large[field] = row[field] + (1 if row[field] > 0 else -1)
        with pytest.raises(ScaleError, match=f"expected {fits + 1} to fit"):
            multiplied(array([large]), 10, 100)
    lowest = [*row[:1], -(2**63), *row[2:]]
    with pytest.raises(ScaleError):
        multiplied(array([lowest]), 10, 1)
