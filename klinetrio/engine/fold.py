"""The fold: what one trade does to one bar, and what bars do to longer bars.

Laws (tested as properties in tests/engine/test_fold.py):
  I1  Any order of the same trades gives the same bar: ``open`` belongs to the smallest aggregate
      id, ``close`` to the largest, the rest are sums and extremes.
  I2  ``low <= open, close <= high``; a bar without trades has o = h = l = c.
  I3  Joining the parts of a bar gives the bar: ``join(fold(a), fold(b)) == fold(a + b)`` when all
      trades of ``a`` come before those of ``b``.
Idempotence by id is not here but in the ledger, which lets each id through once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from klinetrio.domain.decimals import INT64_MAX
from klinetrio.domain.kline import (
    CLOSE,
    FIELD_COUNT,
    FIRST_AGG_ID,
    FLAGS,
    HIGH,
    LAST_AGG_ID,
    LOW,
    NO_ID,
    OPEN,
    OPEN_TIME,
    QUOTE_VOLUME,
    TAKER_BUY_QUOTE_VOLUME,
    TAKER_BUY_VOLUME,
    TRADE_COUNT,
    VOLUME,
    Flag,
)
from klinetrio.errors import ScaleError


if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from klinetrio.domain.interval import Interval
    from klinetrio.domain.trade import AggTrade

    Int64Array = npt.NDArray[np.int64]

# The fields that simply add up.
SUMS = (VOLUME, QUOTE_VOLUME, TRADE_COUNT, TAKER_BUY_VOLUME, TAKER_BUY_QUOTE_VOLUME)


def empty_row(open_time: int, price: int, last_agg_id: int) -> list[int]:
    """Return a bar without trades that carries the previous close.

    Args:
        open_time: Of the bar.
        price: The previous bar's close.
        last_agg_id: The newest aggregate id before the bar, or ``NO_ID``.
    """
    first = NO_ID if last_agg_id == NO_ID else last_agg_id + 1
    return [open_time, price, price, price, price, 0, 0, 0, 0, 0, first, last_agg_id, 0]


def fold_trade(row: list[int], trade: AggTrade) -> None:
    """Add one trade to the bar it belongs to.

    A bar whose ``first_agg_id`` is ``NO_ID`` although it has trades began with the exchange's own
    kline: its open is older than any trade with an id, and stays.
    """
    _, agg_id, price, quantity, first_id, last_id, _, buyer_is_maker, _ = trade
    if row[TRADE_COUNT]:
        if price > row[HIGH]:
            row[HIGH] = price
        elif price < row[LOW]:
            row[LOW] = price
        if agg_id > row[LAST_AGG_ID]:
            row[CLOSE] = price
            row[LAST_AGG_ID] = agg_id
        if agg_id < row[FIRST_AGG_ID]:
            row[OPEN] = price
            row[FIRST_AGG_ID] = agg_id
    else:
        row[OPEN] = row[HIGH] = row[LOW] = row[CLOSE] = price
        row[FIRST_AGG_ID] = row[LAST_AGG_ID] = agg_id
    quote = price * quantity
    row[VOLUME] += quantity
    row[QUOTE_VOLUME] += quote
    row[TRADE_COUNT] += last_id - first_id + 1
    if not buyer_is_maker:
        row[TAKER_BUY_VOLUME] += quantity
        row[TAKER_BUY_QUOTE_VOLUME] += quote


def join(earlier: Sequence[int], later: Sequence[int]) -> list[int]:
    """Return the bar made of two disjoint parts of it, ``earlier`` before ``later``.

    The result opens where ``earlier`` does and keeps both parts' ``BACKFILLED`` mark; other flags
    are the caller's to set.
    """
    row = list(earlier)
    if later[TRADE_COUNT]:
        if row[TRADE_COUNT]:
            row[HIGH] = max(row[HIGH], later[HIGH])
            row[LOW] = min(row[LOW], later[LOW])
        else:
            row[OPEN], row[HIGH], row[LOW] = later[OPEN], later[HIGH], later[LOW]
            row[FIRST_AGG_ID] = later[FIRST_AGG_ID]
        row[CLOSE] = later[CLOSE]
        for field in SUMS:
            row[field] += later[field]
    # An empty part still knows the newest id before its end.
    row[LAST_AGG_ID] = max(row[LAST_AGG_ID], later[LAST_AGG_ID])
    row[FLAGS] = (earlier[FLAGS] | later[FLAGS]) & Flag.BACKFILLED
    return row


def fold_klines(rows: Int64Array, interval: Interval) -> Int64Array:
    """Fold ascending bars into the longer bars that contain them.

    Args:
        rows: Bars of one shorter interval without a hole, shape ``(n, 13)``, ascending.
        interval: The longer interval.

    Returns:
        One row per longer bar that has any shorter bar in ``rows``, shape ``(m, 13)``; its flags
        are those that all parts have, and ``BACKFILLED`` if any part has it.

    Raises:
        ScaleError: A sum does not fit 64 bits.
    """
    if len(rows) == 0:
        return np.zeros((0, FIELD_COUNT), np.int64)
    opens = interval.open_of_many(rows[:, OPEN_TIME])
    starts = np.flatnonzero(np.r_[True, opens[1:] != opens[:-1]])
    ends = np.r_[starts[1:], len(rows)] - 1
    folded = np.zeros((len(starts), FIELD_COUNT), np.int64)
    folded[:, OPEN_TIME] = opens[starts]
    folded[:, CLOSE] = rows[ends, CLOSE]
    for field in SUMS:
        folded[:, field] = checked_sums(rows[:, field], starts)
    _fold_traded(folded, rows, starts)
    flags = rows[:, FLAGS] & 0xFF
    common = np.bitwise_and.reduceat(flags, starts)
    folded[:, FLAGS] = common | (np.bitwise_or.reduceat(flags, starts) & Flag.BACKFILLED)
    return folded


def checked_sums(values: Int64Array, starts: Int64Array) -> Int64Array:
    """Sum each group of non-negative values; numpy alone would wrap around silently."""
    sums: Int64Array = np.add.reduceat(values, starts)
    # Float sums err by less than one part in 10**10 here: far finer than the margin.
    if (np.add.reduceat(values.astype(np.float64), starts) > 0.99 * INT64_MAX).any():
        raise ScaleError("expected sums of 64 bits, were larger")
    return sums


def _fold_traded(folded: Int64Array, rows: Int64Array, starts: Int64Array) -> None:
    """Set open, extremes and ids, to which bars without trades have nothing to say.

    A leading empty bar carries the close *before* the longer bar: that price is not the longer
    bar's open if a trade comes later.
    """
    traded = rows[:, TRADE_COUNT] > 0
    high = np.where(traded, rows[:, HIGH], np.iinfo(np.int64).min)
    low = np.where(traded, rows[:, LOW], np.iinfo(np.int64).max)
    position = np.where(traded, np.arange(len(rows)), len(rows) - 1)
    first = np.minimum.reduceat(position, starts)
    empty = np.add.reduceat(traded.astype(np.int64), starts) == 0
    first = np.where(empty, starts, first)
    folded[:, OPEN] = rows[first, OPEN]
    folded[:, HIGH] = np.where(empty, rows[first, OPEN], np.maximum.reduceat(high, starts))
    folded[:, LOW] = np.where(empty, rows[first, OPEN], np.minimum.reduceat(low, starts))
    folded[:, FIRST_AGG_ID] = rows[first, FIRST_AGG_ID]
    folded[:, LAST_AGG_ID] = np.maximum.reduceat(rows[:, LAST_AGG_ID], starts)
