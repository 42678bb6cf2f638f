"""Closed bars that are not in the database yet.

Invariants (tested in tests/storage/test_pending.py):
  I1  A bar stays until exactly its newest state has been written.
  I2  Bounded: 400,000 bars of about 0.9 kB, 360 MB; 500 symbols with the default intervals close
      660 bars a minute, so this bridges 10 hours without a database.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from klinetrio.domain.kline import FIELD_COUNT, FLAGS, OPEN_TIME, REVISION_SHIFT, TRADE_COUNT, Flag
from klinetrio.storage.protocol import Batch


if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from klinetrio.engine.publication import ClosedBar

MAX_PENDING = 400_000

# One transaction; the rest follows in the next ones.
MAX_BATCH = 20_000


class PendingBars:
    """The newest state of every closed bar that waits to be written."""

    def __init__(self) -> None:
        self._series: dict[int, dict[int, tuple[int, ...]]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def fit_one_batch(self) -> bool:
        """Whether ``batch`` returns all there are."""
        return self._count <= MAX_BATCH

    def add(self, bars: Iterable[ClosedBar]) -> None:
        """Add bars or replace their older states."""
        for row, values in bars:
            series = self._series.setdefault(row, {})
            self._count += values[OPEN_TIME] not in series
            series[values[OPEN_TIME]] = values

    def of_series(self, row: int) -> list[tuple[int, ...]]:
        """Return the waiting bars of one series, in no particular order."""
        return list(self._series.get(row, {}).values())

    def batch(self) -> Batch:
        """Return some of the waiting bars, which stay."""
        pairs: list[tuple[int, tuple[int, ...]]] = []
        for row, series in self._series.items():
            pairs.extend((row, values) for values in series.values())
            if len(pairs) > MAX_BATCH:
                break
        rows = np.array([row for row, _ in pairs], np.int64)
        bars = np.array([values for _, values in pairs], np.int64)
        return Batch(rows, bars.reshape(len(pairs), FIELD_COUNT))

    def forget(self, written: Batch) -> None:
        """Drop what has been written, unless a newer state has come since."""
        for row, bar in zip(written.series.tolist(), written.bars.tolist(), strict=True):
            series = self._series.get(row, {})
            if series.get(bar[OPEN_TIME]) == tuple(bar):
                del series[bar[OPEN_TIME]]
                self._count -= 1
                if not series:
                    del self._series[row]


def rank(values: Sequence[int]) -> tuple[int, int, int, int, int]:
    """Return by what the better of two states of one bar is told: the higher one.

    Of closed bars it is the same as the database keeps (``schema.UPSERT_CLOSED``).
    """
    flags = values[FLAGS]
    revision = flags >> REVISION_SHIFT
    bits = flags & Flag.FINAL, flags & Flag.SETTLED, flags & Flag.COMPLETE
    return *bits, revision, values[TRADE_COUNT]
