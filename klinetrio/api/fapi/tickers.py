"""Prices and 24 hours of symbols as the exchange tells them.

Shapes, decimals and rounding are those of tickers captured in October 2026: the window opens 24 hours
before the current minute and ends with the newest trade, whose time is ``closeTime``; quote volume and
average have the price's decimals, the percentage three.  Three things the bars do not tell: which fill
the window began with (``firstId`` is -1), and before the first trade since the start which fill and
quantity were the last (``lastId`` is -1, ``lastQty`` zero).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from klinetrio.api.day import rounded
from klinetrio.domain.decimals import format_scaled
from klinetrio.domain.kline import CLOSE, has_row


if TYPE_CHECKING:
    from klinetrio.api.board import Board
    from klinetrio.api.day import DayBar
    from klinetrio.api.ports import SymbolState

NO_FILL = -1


def price_of(board: Board, index: int, state: SymbolState) -> dict[str, Any] | None:
    """Return a symbol's price, None if it has none yet."""
    market = board.market
    live = market.live_row(index * len(market.intervals))
    if not has_row(live):
        return None
    symbol = market.symbols[index]
    return {
        "symbol": symbol.name,
        "price": format_scaled(live[CLOSE], symbol.price_scale),
        "time": state.last_trade_time or market.now_ms(),
    }


def day_of(
    board: Board, index: int, day: DayBar | None, state: SymbolState
) -> dict[str, Any] | None:
    """Return a symbol's last 24 hours, None if they are not known."""
    if day is None:
        return None
    symbol, newest = board.market.symbols[index], board.newest.get(board.market.symbols[index].name)
    price, quantity = symbol.price_scale, symbol.quantity_scale
    return {
        "symbol": symbol.name,
        "priceChange": format_scaled(day.change, price),
        "priceChangePercent": format_scaled(day.change_percent, 3),
        "weightedAvgPrice": format_scaled(day.average, price),
        "lastPrice": format_scaled(day.close, price),
        "lastQty": format_scaled(newest.quantity if newest else 0, quantity),
        "openPrice": format_scaled(day.open, price),
        "highPrice": format_scaled(day.high, price),
        "lowPrice": format_scaled(day.low, price),
        "volume": format_scaled(day.volume, quantity),
        "quoteVolume": format_scaled(rounded(day.quote_volume, 10**quantity), price),
        "openTime": day.start,
        "closeTime": state.last_trade_time or board.market.now_ms(),
        "firstId": NO_FILL,
        "lastId": newest.last_id if newest else NO_FILL,
        "count": day.trade_count,
    }
