"""The kline row: thirteen int64 numbers, and what its flags say.

Field order is the layout of every row in memory.  Numbers are scaled by the symbol's scales.

The two aggregate ids say which trades are inside: ``[first_agg_id, last_agg_id]``.  A bar without
trades has ``last_agg_id`` = the id before it and ``first_agg_id`` one more, so that consecutive
complete bars always join: ``first == previous.last + 1``.  ``NO_ID`` stands where the trades of a
bar are not known one by one, because it came from the exchange's own kline.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from klinetrio.domain.decimals import format_scaled


if TYPE_CHECKING:
    from collections.abc import Sequence

    from klinetrio.domain.interval import Interval
    from klinetrio.domain.symbol import Symbol

FIELDS = (
    "open_time",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "quote_volume",
    "trade_count",
    "taker_buy_volume",
    "taker_buy_quote_volume",
    "first_agg_id",
    "last_agg_id",
    "flags",
)
FIELD_COUNT = len(FIELDS)

OPEN_TIME = 0
OPEN = 1
HIGH = 2
LOW = 3
CLOSE = 4
VOLUME = 5
QUOTE_VOLUME = 6
TRADE_COUNT = 7
TAKER_BUY_VOLUME = 8
TAKER_BUY_QUOTE_VOLUME = 9
FIRST_AGG_ID = 10
LAST_AGG_ID = 11
FLAGS = 12

NO_ID = -1

# The low byte of ``flags`` holds bits; the revision lies above it.
REVISION_SHIFT = 8
_FLAG_MASK = (1 << REVISION_SHIFT) - 1


class Flag:
    """What a bar is: bits of the flags field.

    Plain integers, because an ``enum.IntFlag`` costs a microsecond per operation on the way of
    every trade.
    """

    FINAL = 1
    """Its time is up and it has been closed; what may still come is a higher revision."""

    COMPLETE = 2
    """Proved: no trade is missing from its first millisecond to its newest trade, and for a
    closed bar to its end."""

    BACKFILLED = 4
    """A part of it came from the exchange's own klines instead of from trades."""

    SETTLED = 8
    """Replaced, after closing, by the exchange's own kline."""

    FEED_DOWN = 16
    """Open bars only: the feed of the symbol is down, so more may have happened than is known."""


def has_row(row: Sequence[int]) -> bool:
    """Tell whether the row holds a bar at all; an untouched row is all zeros."""
    return row[OPEN_TIME] != 0


def is_final(row: Sequence[int]) -> bool:
    """Tell whether the bar is closed."""
    return bool(row[FLAGS] & Flag.FINAL)


def is_complete(row: Sequence[int]) -> bool:
    """Tell whether nothing is missing, for all that is known: proved, and not cut off since."""
    return row[FLAGS] & (Flag.COMPLETE | Flag.FEED_DOWN) == Flag.COMPLETE


def revision_of(row: Sequence[int]) -> int:
    """Return how often the bar changed after it was closed."""
    return int(row[FLAGS]) >> REVISION_SHIFT


def bits_of(row: Sequence[int]) -> int:
    """Return the flag bits without the revision."""
    return int(row[FLAGS]) & _FLAG_MASK


def make_flags(bits: int, revision: int) -> int:
    """Return the flags field of a row."""
    return bits | revision << REVISION_SHIFT


def origin_of(row: Sequence[int]) -> str:
    """Return how the bar came to be: ``live``, ``backfilled`` or ``settled``."""
    bits = row[FLAGS]
    if bits & Flag.SETTLED:
        return "settled"
    return "backfilled" if bits & Flag.BACKFILLED else "live"


def kline_to_dict(row: Sequence[int], symbol: Symbol, interval: Interval) -> dict[str, Any]:
    """Return the bar as interface v1 shows it.

    Times are integers in ms; prices and volumes are texts at the symbol's decimals.
    """
    price, quantity, quote = symbol.price_scale, symbol.quantity_scale, symbol.quote_scale
    open_time = int(row[OPEN_TIME])
    return {
        "symbol": symbol.public_name,
        "interval": interval.name,
        "open_time": open_time,
        "close_time": interval.close_of(open_time),
        "open": format_scaled(int(row[OPEN]), price),
        "high": format_scaled(int(row[HIGH]), price),
        "low": format_scaled(int(row[LOW]), price),
        "close": format_scaled(int(row[CLOSE]), price),
        "volume": format_scaled(int(row[VOLUME]), quantity),
        "quote_volume": format_scaled(int(row[QUOTE_VOLUME]), quote),
        "trade_count": int(row[TRADE_COUNT]),
        "taker_buy_volume": format_scaled(int(row[TAKER_BUY_VOLUME]), quantity),
        "taker_buy_quote_volume": format_scaled(int(row[TAKER_BUY_QUOTE_VOLUME]), quote),
        "is_final": is_final(row),
        "is_complete": is_complete(row),
        "origin": origin_of(row),
        "revision": revision_of(row),
    }
