"""Klines as the exchange tells them: arrays of twelve."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from klinetrio.api.answers import BARS_PER_STEP
from klinetrio.domain.decimals import format_scaled
from klinetrio.domain.kline import (
    CLOSE,
    HIGH,
    LOW,
    OPEN,
    OPEN_TIME,
    QUOTE_VOLUME,
    TAKER_BUY_QUOTE_VOLUME,
    TAKER_BUY_VOLUME,
    TRADE_COUNT,
    VOLUME,
)


if TYPE_CHECKING:
    from collections.abc import Sequence

    import trio

    from klinetrio.api.ports import Row
    from klinetrio.domain.interval import Interval
    from klinetrio.domain.symbol import Symbol


def kline_row(bar: Row, symbol: Symbol, interval: Interval) -> list[int | str]:
    """Return the exchange's array of a bar; its last element means nothing."""
    price, quantity, quote = symbol.price_scale, symbol.quantity_scale, symbol.quote_scale
    return [
        bar[OPEN_TIME],
        format_scaled(bar[OPEN], price),
        format_scaled(bar[HIGH], price),
        format_scaled(bar[LOW], price),
        format_scaled(bar[CLOSE], price),
        format_scaled(bar[VOLUME], quantity),
        interval.close_of(bar[OPEN_TIME]),
        format_scaled(bar[QUOTE_VOLUME], quote),
        bar[TRADE_COUNT],
        format_scaled(bar[TAKER_BUY_VOLUME], quantity),
        format_scaled(bar[TAKER_BUY_QUOTE_VOLUME], quote),
        "0",
    ]


async def encode(bars: Sequence[Row], symbol: Symbol, interval: Interval, turn: trio.Lock) -> bytes:
    """Return bars as a document.

    Args:
        bars: Ascending.
        symbol: Whose.
        interval: How long they are.
        turn: Held while some of them are turned into text: trades wait for one step, not for all.
    """
    parts = []
    for first in range(0, len(bars), BARS_PER_STEP):
        async with turn:
            step = bars[first : first + BARS_PER_STEP]
            parts.append(orjson.dumps([kline_row(bar, symbol, interval) for bar in step])[1:-1])
    return b"[" + b",".join(parts) + b"]"
