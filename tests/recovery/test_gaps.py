"""What is missing is asked for, all of it, once, and in few requests."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from klinetrio.recovery.gaps import requests_for


@given(st.sets(st.integers(0, 60)), st.sets(st.integers(0, 60)), st.integers(1, 20))
def test_every_missing_bar_is_in_one_request(grid: set[int], have: set[int], page: int) -> None:
    """I1, I2: and a request is no larger than allowed."""
    expected = sorted(grid)
    spans = requests_for(
        np.array(expected, np.int64), np.array(sorted(have & grid), np.int64), page
    )
    missing = [each for each in expected if each not in have]
    asked = [[each for each in expected if span.start <= each <= span.end] for span in spans]
    assert missing == [each for bars in asked for each in bars if each not in have]
    for bars in asked:
        assert len(bars) <= page
        assert bars[0] in missing
        assert bars[-1] in missing


def test_requests_are_few() -> None:
    """Bars between two missing ones are asked for again when that saves a request."""
    expected = np.arange(10, dtype=np.int64)
    have = np.array([1, 2, 5, 6, 7, 8], np.int64)
    spans = [(span.start, span.end) for span in requests_for(expected, have, 5)]
    assert spans == [(0, 4), (9, 9)]
    assert requests_for(expected, expected, 5) == []
