"""The minutes between those that have trades, and which of them are proved."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from klinetrio.domain.interval import MINUTE
from klinetrio.domain.kline import (
    CLOSE,
    FIRST_AGG_ID,
    FLAGS,
    LAST_AGG_ID,
    OPEN,
    OPEN_TIME,
    QUOTE_VOLUME,
    TAKER_BUY_QUOTE_VOLUME,
    TAKER_BUY_VOLUME,
    TRADE_COUNT,
    VOLUME,
    Flag,
)


if TYPE_CHECKING:
    from klinetrio.archive.rows import Int64Array

_PRICES = slice(OPEN, CLOSE + 1)
_SUMS = (VOLUME, QUOTE_VOLUME, TRADE_COUNT, TAKER_BUY_VOLUME, TAKER_BUY_QUOTE_VOLUME)


def dense(last: Int64Array, minutes: Int64Array, before: int) -> Int64Array:
    """Return all minutes after ``last`` that open before ``before``.

    Those without trades are what ``engine.fold.empty_row`` makes of the one before.

    Args:
        last: The minute before in an array of one row, or an empty array: then the first minute
            with trades is the first of all.
        minutes: Those that have trades, ascending.
        before: End of the last one.
    """
    known = np.concatenate((last, minutes))
    if len(known) == 0:
        return known
    opens = np.arange(int(known[0, OPEN_TIME]), before, MINUTE)[len(last) :]
    source = np.searchsorted(known[:, OPEN_TIME], opens, "right") - 1
    rows = known[source]
    empty = np.flatnonzero(rows[:, OPEN_TIME] != opens)
    rows[empty, OPEN_TIME] = opens[empty]
    rows[empty, _PRICES] = rows[empty, CLOSE, None]
    for field in _SUMS:
        rows[empty, field] = 0
    rows[empty, FIRST_AGG_ID] = rows[empty, LAST_AGG_ID] + 1
    return rows


def mark_proved(minutes: Int64Array, proved_from: int, newest_time: int, holes: Int64Array) -> None:
    """Set the flags of consecutive minutes.

    Args:
        minutes: Of which flags are set.
        proved_from: Lowest time from which on nothing but the holes is missing.
        newest_time: Of all trades.
        holes: Between which times missing trades lie.
    """
    opens = minutes[:, OPEN_TIME]
    whole = (opens >= proved_from) & (opens + MINUTE <= newest_time)
    first = np.searchsorted(opens + MINUTE, holes[:, 0], "right")
    after = np.searchsorted(opens, holes[:, 1], "right")
    touched = np.zeros(len(minutes) + 1, np.int64)
    np.add.at(touched, first, 1)
    np.add.at(touched, np.maximum(after, first), -1)
    whole &= touched.cumsum()[:-1] == 0
    minutes[:, FLAGS] = Flag.FINAL | whole * Flag.COMPLETE
