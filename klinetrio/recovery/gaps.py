"""Which klines are missing, and by how few requests they are had.

Pure functions on open times.

Invariants (tested in tests/recovery/test_gaps.py):
  I1  Every missing bar lies in exactly one request, and no request is larger than allowed.
  I2  A request begins and ends at a missing bar.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from klinetrio.recovery.past import Span


if TYPE_CHECKING:
    import numpy.typing as npt

    Int64Array = npt.NDArray[np.int64]

# Most rows per weight: 2 weight buy 500 rows, 1 only 100, 10 only 1,500.  (One less, because the
# documentation counts 500 among the dearer ones.)
PAGE = 499


def requests_for(expected: Int64Array, stored: Int64Array, page: int = PAGE) -> list[Span]:
    """Return what to ask for.

    Args:
        expected: The open times that there should be, ascending.
        stored: Those that need not be asked for, ascending.
        page: The most bars of one request, those in between counted.
    """
    missing = np.flatnonzero(~np.isin(expected, stored, assume_unique=True))
    spans = []
    position = 0
    while position < len(missing):
        first = missing[position]
        after = int(np.searchsorted(missing, first + page))
        spans.append(Span(int(expected[first]), int(expected[missing[after - 1]])))
        position = after
    return spans
