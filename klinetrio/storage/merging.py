"""What two databases have of one series, put together; whole arrays at once.

Which of two states of a bar is the better one is told as the databases tell it
(``schema.UPSERT_CLOSED``), so what is expected here is what they do.

Invariants (tested in tests/storage/test_merging.py):
  I1  ``Merged.result`` is what the target holds once ``Merged.write`` has been written.
  I2  A number that would not fit 64 bits is an error, never another number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np

from klinetrio.domain.kline import (
    CLOSE,
    FLAGS,
    OPEN,
    OPEN_TIME,
    QUOTE_VOLUME,
    REVISION_SHIFT,
    TAKER_BUY_QUOTE_VOLUME,
    TAKER_BUY_VOLUME,
    TRADE_COUNT,
    VOLUME,
    Flag,
)
from klinetrio.errors import ScaleError


if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    Int64Array = npt.NDArray[np.int64]
    BoolArray = npt.NDArray[np.bool_]

_LARGEST = 2**63 - 1

# What is the same in a bar that was made of trades and in the exchange's own of the same trades.
_NUMBERS = slice(OPEN, TAKER_BUY_QUOTE_VOLUME + 1)

_PRICES = slice(OPEN, CLOSE + 1)
_QUANTITIES = (VOLUME, TAKER_BUY_VOLUME)
_QUOTES = (QUOTE_VOLUME, TAKER_BUY_QUOTE_VOLUME)


@attrs.frozen(slots=True, eq=False)
class Merged:
    """What becomes of a target's bars when a source's come to them.

    Attributes:
        write: Bars of the source that the target lacks, or has in a worse state.
        result: All of the target's bars after that, ascending.
        kept: Bars that the target has in a better state, or in one as good and of the same numbers.
        different: Bars whose numbers differ, and no state is the better one; the target's stay.
        more: Bars that only the target has.
    """

    write: Int64Array
    result: Int64Array
    kept: int
    different: int
    more: int


def merge(source: Int64Array, target: Int64Array) -> Merged:
    """Put the bars of one span of a series together.

    Args:
        source: Ascending by open time, shape ``(n, 13)``.
        target: Likewise, at the same scales.
    """
    _, in_source, in_target = np.intersect1d(
        source[:, OPEN_TIME], target[:, OPEN_TIME], assume_unique=True, return_indices=True
    )
    ours, theirs = source[in_source], target[in_target]
    taken = _is_better(ours, theirs)
    same = (ours == theirs).all(axis=1)
    like = (ours[:, _NUMBERS] == theirs[:, _NUMBERS]).all(axis=1)
    kept = ~same & ~taken & (_is_better(theirs, ours) | like)
    missing = np.delete(source, in_source, axis=0)
    result = target.copy()
    result[in_target[taken]] = ours[taken]
    return Merged(
        _ascending(missing, ours[taken]),
        _ascending(result, missing),
        int(kept.sum()),
        int((~same & ~taken & ~kept).sum()),
        len(target) - len(theirs),
    )


def multiplied(bars: Int64Array, price: int, quantity: int) -> Int64Array:
    """Return bars at larger scales.

    Args:
        bars: Shape ``(n, 13)``.
        price: What prices are multiplied by.
        quantity: What quantities are multiplied by.

    Raises:
        ScaleError: A number would not fit.
    """
    if price == quantity == 1:
        return bars
    grown = bars.copy()
    for fields, factor in (
        (_PRICES, price),
        (_QUANTITIES, quantity),
        (_QUOTES, price * quantity),
    ):
        values = bars[:, fields]
        # Python's integers have no end, and the lowest of 64 bits has no positive.
        largest = max(int(values.max(initial=0)), -int(values.min(initial=0)))
        if max(largest, 1) * factor > _LARGEST:
            raise ScaleError(f"expected {largest} to fit 64 bits when multiplied by {factor}")
        grown[:, fields] = values * factor
    return grown


def _is_better(bars: Int64Array, others: Int64Array) -> BoolArray:
    """Tell of each bar whether it is a better state of the one beside it."""
    better, tied = np.zeros(len(bars), bool), np.ones(len(bars), bool)
    for one, other in zip(_ranks(bars), _ranks(others), strict=True):
        better |= tied & (one > other)
        tied &= one == other
    return better


def _ranks(bars: Int64Array) -> Iterator[Int64Array]:
    """Yield by what the better state is told, what decides first coming first."""
    flags = bars[:, FLAGS]
    yield flags & Flag.SETTLED
    yield flags & Flag.COMPLETE
    yield flags >> REVISION_SHIFT
    yield bars[:, TRADE_COUNT]


def _ascending(some: Int64Array, others: Int64Array) -> Int64Array:
    bars = np.concatenate([some, others])
    return bars[np.argsort(bars[:, OPEN_TIME], kind="stable")]
