"""Bars and trades as the exchange's streams tell them: its keys, their order, its types.

Two things that bars here do not hold: the ids of a bar's first and last fill (``f``, ``L``) are -1,
which is what the exchange writes where there are none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from klinetrio.domain import kline
from klinetrio.domain.decimals import format_scaled


if TYPE_CHECKING:
    from collections.abc import Callable

    from klinetrio.api.ports import Row
    from klinetrio.domain.interval import Interval
    from klinetrio.domain.symbol import Symbol
    from klinetrio.domain.trade import AggTrade

_NO_FILL = -1

# The exchange's number for USD-M futures.
_USD_M = 1


def kline_encoder(symbol: Symbol, interval: Interval) -> Callable[[Row, int], bytes]:
    """Return the encoder of ``<symbol>@kline_<interval>``."""

    def encode(bar: Row, now_ms: int) -> bytes:
        event = {"e": "kline", "E": now_ms, "s": symbol.name}
        return orjson.dumps(event | {"k": _bar(bar, symbol, interval, {"s": symbol.name})})

    return encode


def continuous_kline_encoder(symbol: Symbol, interval: Interval) -> Callable[[Row, int], bytes]:
    """Return the encoder of ``<pair>_perpetual@continuousKline_<interval>``."""

    def encode(bar: Row, now_ms: int) -> bytes:
        event = {"e": "continuous_kline", "E": now_ms, "ps": symbol.name, "ct": "PERPETUAL"}
        return orjson.dumps(event | {"k": _bar(bar, symbol, interval, {})})

    return encode


def agg_trade_encoder(symbol: Symbol) -> Callable[[AggTrade, int], bytes]:
    """Return the encoder of ``<symbol>@aggTrade``."""

    def encode(trade: AggTrade, now_ms: int) -> bytes:
        quantity, normal = trade.quantity, trade.normal_quantity
        event = {
            "e": "aggTrade",
            "E": now_ms,
            "a": trade.agg_id,
            "s": symbol.name,
            "p": format_scaled(trade.price, symbol.price_scale),
            "q": format_scaled(quantity, symbol.quantity_scale),
            "nq": format_scaled(quantity if normal is None else normal, symbol.quantity_scale),
            "f": trade.first_id,
            "l": trade.last_id,
            "T": trade.time,
            "m": trade.buyer_is_maker,
            "st": _USD_M,
        }
        return orjson.dumps(event)

    return encode


def _bar(bar: Row, symbol: Symbol, interval: Interval, name: dict[str, str]) -> dict[str, Any]:
    price, quantity, quote = symbol.price_scale, symbol.quantity_scale, symbol.quote_scale
    open_time = bar[kline.OPEN_TIME]
    return {
        "t": open_time,
        "T": interval.close_of(open_time),
        **name,
        "i": interval.name,
        "f": _NO_FILL,
        "L": _NO_FILL,
        "o": format_scaled(bar[kline.OPEN], price),
        "c": format_scaled(bar[kline.CLOSE], price),
        "h": format_scaled(bar[kline.HIGH], price),
        "l": format_scaled(bar[kline.LOW], price),
        "v": format_scaled(bar[kline.VOLUME], quantity),
        "n": bar[kline.TRADE_COUNT],
        "x": kline.is_final(bar),
        "q": format_scaled(bar[kline.QUOTE_VOLUME], quote),
        "V": format_scaled(bar[kline.TAKER_BUY_VOLUME], quantity),
        "Q": format_scaled(bar[kline.TAKER_BUY_QUOTE_VOLUME], quote),
        "B": "0",
    }
