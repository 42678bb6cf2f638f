"""What a single bar may not be, whatever its series: functions on rows, vectorised and exact."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from klinetrio.domain.kline import (
    CLOSE,
    FIRST_AGG_ID,
    FLAGS,
    HIGH,
    LAST_AGG_ID,
    LOW,
    NO_ID,
    OPEN,
    QUOTE_VOLUME,
    TAKER_BUY_QUOTE_VOLUME,
    TAKER_BUY_VOLUME,
    TRADE_COUNT,
    VOLUME,
    Flag,
)
from klinetrio.engine.fold import SUMS


if TYPE_CHECKING:
    import numpy.typing as npt

    from klinetrio.storage.protocol import Int64Array

    Mask = npt.NDArray[np.bool_]

_OF_EXCHANGE = Flag.BACKFILLED | Flag.SETTLED


def is_own(rows: Int64Array) -> Mask:
    """Tell which bars are made of trades alone."""
    return ~has_flag(rows, _OF_EXCHANGE)


def is_theirs(rows: Int64Array) -> Mask:
    """Tell which bars are the exchange's own klines as a whole."""
    theirs: Mask = ~is_own(rows) & (rows[:, LAST_AGG_ID] == NO_ID)
    return theirs


def has_flag(rows: Int64Array, flag: int) -> Mask:
    """Tell which bars have a flag, or one of several."""
    flagged: Mask = (rows[:, FLAGS] & flag) != 0
    return flagged


def faults(rows: Int64Array) -> dict[str, Mask]:
    """Return which bars cannot be, by the reason in words; a bar is told of by its first reason."""
    opened, high, low, close = (rows[:, field] for field in (OPEN, HIGH, LOW, CLOSE))
    still = rows[:, TRADE_COUNT] == 0
    moved = (opened != close) | (high != low)
    sums = rows[:, SUMS]
    traded = sums[:, [SUMS.index(field) for field in SUMS if field != TRADE_COUNT]]
    reasons = {
        "a price of 0 or less": low < 1,
        "high below or low above the others": (
            (low > np.minimum(opened, close)) | (high < np.maximum(opened, close))
        ),
        "a negative sum": (sums < 0).any(axis=1),
        "takers bought more than was traded": (
            (rows[:, TAKER_BUY_VOLUME] > rows[:, VOLUME])
            | (rows[:, TAKER_BUY_QUOTE_VOLUME] > rows[:, QUOTE_VOLUME])
        ),
        "volume or a move without trades": still & ((traded != 0).any(axis=1) | moved),
        # Exactly so on all recorded klines, too; but what the exchange says is not ours to repair.
        "a quote volume outside of low and high times volume": is_own(rows)
        & (
            _outside(rows, VOLUME, QUOTE_VOLUME)
            | _outside(rows, TAKER_BUY_VOLUME, TAKER_BUY_QUOTE_VOLUME)
        ),
    }
    told = np.zeros(len(rows), np.bool_)
    for reason, mask in reasons.items():
        reasons[reason] = mask & ~told
        told |= mask
    return reasons


def is_possible(rows: Int64Array) -> Mask:
    """Tell which bars can be."""
    wrong: Mask = np.logical_or.reduce(list(faults(rows).values()))
    return ~wrong


def has_reversed_ids(rows: Int64Array) -> Mask:
    """Tell which bars have a last id before their first; without trades it is the one before."""
    traded = (rows[:, TRADE_COUNT] > 0).astype(np.int64)
    # In this order, so that nothing wraps around.
    wrong: Mask = rows[:, FIRST_AGG_ID] - 1 > rows[:, LAST_AGG_ID] - traded
    return wrong


def _outside(rows: Int64Array, volume: int, quote: int) -> Mask:
    """Tell which quote volumes are less than the lowest or more than the highest price makes.

    By division, because a product might not fit 64 bits.
    """
    volumes, quotes = rows[:, volume], rows[:, quote]
    divisor = np.maximum(volumes, 1)
    least, most = quotes // divisor, -(-quotes // divisor)
    wrong: Mask = np.where(
        volumes == 0, quotes != 0, (least < rows[:, LOW]) | (most > rows[:, HIGH])
    )
    return wrong
