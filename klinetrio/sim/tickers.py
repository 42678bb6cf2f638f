"""Tickers of the simulated exchange, by decimals and from minutes alone.

As captured in October 2026: the window opens 24 hours before the current minute, ``closeTime`` is the
time of the newest trade; quote volume and average price have the price's decimals, percentages three.
"""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Any

from klinetrio.domain.interval import DAY, INTERVALS, MINUTE
from klinetrio.domain.kline import CLOSE, OPEN_TIME, QUOTE_VOLUME, TRADE_COUNT, VOLUME
from klinetrio.sim.bars import fold


if TYPE_CHECKING:
    from klinetrio.domain.symbol import Symbol
    from klinetrio.sim.ledger import Book, Ledger
    from klinetrio.sim.tape import SimTrade

_NO_FILL = -1


def price_ticker(ledger: Ledger, book: Book) -> dict[str, Any]:
    """Return a symbol's price and when it was made."""
    symbol, newest = book.instrument.symbol, _newest(book)
    row = ledger.bars(symbol.name, INTERVALS["1m"], None, None, 1)[-1].tolist()
    return {
        "symbol": symbol.name,
        "price": _text(_number(row[CLOSE], symbol.price_scale), symbol.price_scale),
        "time": newest.time if newest else ledger.clock.now_ms(),
    }


def day_ticker(ledger: Ledger, book: Book) -> dict[str, Any]:
    """Return a symbol's last 24 hours."""
    symbol, now = book.instrument.symbol, ledger.clock.now_ms()
    minutes = ledger.bars(
        symbol.name, INTERVALS["1m"], now - now % MINUTE - DAY, None, DAY // MINUTE + 1
    )
    parts = fold(minutes, INTERVALS["1M"]).tolist()
    traded = [part for part in parts if part[TRADE_COUNT]] or parts[-1:]
    prices = [[_number(each, symbol.price_scale) for each in part[1:5]] for part in traded]
    first, last = prices[0][0], prices[-1][3]
    volume = _number(sum(part[VOLUME] for part in parts), symbol.quantity_scale)
    quote = _number(sum(part[QUOTE_VOLUME] for part in parts), symbol.quote_scale)
    return {
        "symbol": symbol.name,
        "priceChange": _text(last - first, symbol.price_scale),
        "priceChangePercent": _text((last - first) * 100 / first, 3),
        "weightedAvgPrice": _text(quote / volume if volume else volume, symbol.price_scale),
        "lastPrice": _text(last, symbol.price_scale),
        "lastQty": _last_quantity(book, symbol),
        "openPrice": _text(first, symbol.price_scale),
        "highPrice": _text(max(each[1] for each in prices), symbol.price_scale),
        "lowPrice": _text(min(each[2] for each in prices), symbol.price_scale),
        "volume": _text(volume, symbol.quantity_scale),
        "quoteVolume": _text(quote, symbol.price_scale),
        "openTime": int(minutes[0, OPEN_TIME]),
        **_ends(book, now),
        "count": sum(part[TRADE_COUNT] for part in parts),
    }


def _ends(book: Book, now: int) -> dict[str, int]:
    """Return when and with which fills the window ends and began, as far as the tape knows."""
    newest = _newest(book)
    inside = book.tape.between(now - now % MINUTE - DAY, None, 1)
    return {
        "closeTime": newest.time if newest else now,
        "firstId": inside[0].first_id if inside else _NO_FILL,
        "lastId": newest.last_id if newest else _NO_FILL,
    }


def _last_quantity(book: Book, symbol: Symbol) -> str:
    newest = _newest(book)
    quantity = newest.quantity if newest else 0
    return _text(_number(quantity, symbol.quantity_scale), symbol.quantity_scale)


def _newest(book: Book) -> SimTrade | None:
    return book.tape[-1] if len(book.tape) else None


def _number(value: int, scale: int) -> Decimal:
    return Decimal(value).scaleb(-scale)


def _text(value: Decimal, decimals: int) -> str:
    return f"{value.quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP):f}"
