"""The configuration of the feed, what a symbol is, and how symbols are found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from klinetrio.api.names import normalise
from klinetrio.api.udf.resolutions import multipliers, resolution_of


if TYPE_CHECKING:
    from collections.abc import Sequence

    from klinetrio.api.names import Catalog
    from klinetrio.domain.interval import Interval

EXCHANGE = "BINANCE"
KIND = "crypto"

# What people type between a base and a quote.
_SEPARATORS = str.maketrans("", "", "_-/ ")


def configuration(intervals: Sequence[Interval]) -> dict[str, Any]:
    """Return what ``/udf/config`` answers."""
    return {
        "supported_resolutions": [resolution_of(each) for each in intervals],
        "supports_search": True,
        "supports_group_request": False,
        "supports_marks": False,
        "supports_timescale_marks": False,
        "supports_time": True,
        "exchanges": [
            {"value": "", "name": "All exchanges", "desc": ""},
            {"value": EXCHANGE, "name": "Binance", "desc": "Binance USD-M futures"},
        ],
        "symbols_types": [{"name": "All types", "value": ""}, {"name": "Crypto", "value": KIND}],
    }


def without_exchange(name: str) -> str:
    """Return a symbol's name without the exchange that may stand before it."""
    exchange, colon, bare = name.partition(":")
    return bare if colon and normalise(exchange) == EXCHANGE else name


def symbol_info(catalog: Catalog, index: int) -> dict[str, Any]:
    """Return what ``/udf/symbols`` answers of the symbol with this index."""
    symbol, name, intervals = catalog.symbols[index], catalog.shown[index], catalog.intervals
    weeks, months = multipliers(intervals, "W"), multipliers(intervals, "M")
    return {
        **found(catalog, index),
        "name": name,
        "listed_exchange": EXCHANGE,
        "exchange-listed": EXCHANGE,
        "exchange-traded": EXCHANGE,
        "currency_code": symbol.quote,
        "session": "24x7",
        "timezone": "Etc/UTC",
        "format": "price",
        "pricescale": 10**symbol.price_scale,
        "minmov": 1,
        "minmov2": 0,
        "pointvalue": 1,
        "volume_precision": symbol.quantity_scale,
        "supported_resolutions": [resolution_of(each) for each in intervals],
        "has_intraday": bool(multipliers(intervals, "")),
        "intraday_multipliers": multipliers(intervals, ""),
        "has_daily": "1" in multipliers(intervals, "D"),
        "daily_multipliers": multipliers(intervals, "D"),
        # Without both of them the front end makes weeks and months of days.
        "has_weekly_and_monthly": bool(weeks and months),
        "weekly_multipliers": weeks,
        "monthly_multipliers": months,
        "visible_plots_set": "ohlcv",
        "data_status": "streaming",
    }


def found(catalog: Catalog, index: int) -> dict[str, Any]:
    """Return what ``/udf/search`` answers of the symbol with this index."""
    symbol, name = catalog.symbols[index], catalog.shown[index]
    return {
        "symbol": name,
        "full_name": f"{EXCHANGE}:{name}",
        "description": f"{symbol.base} / {symbol.quote}",
        "exchange": EXCHANGE,
        "ticker": name,
        "type": KIND,
    }


def search(catalog: Catalog, query: str, limit: int) -> list[dict[str, Any]]:
    """Return the symbols whose name has ``query`` in it, those that begin with it first."""
    wanted = normalise(without_exchange(query)).translate(_SEPARATORS)
    names = [normalise(symbol.name).translate(_SEPARATORS) for symbol in catalog.symbols]
    hits = [index for index, name in enumerate(names) if wanted in name]
    hits.sort(key=lambda index: not names[index].startswith(wanted))
    return [found(catalog, index) for index in hits[:limit]]
