"""Instruments of the simulated exchange, and how ``exchangeInfo`` shows them.

Shapes are those captured from Binance in October 2026: the order of the keys inside a filter
differs from row to row, filters of unknown types occur, and ``tickSize`` is coarser than
``pricePrecision`` says.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import attrs

from klinetrio.domain.decimals import format_scaled


if TYPE_CHECKING:
    from collections.abc import Iterable

    from klinetrio.domain.symbol import Symbol

# What Binance says of contracts that never expire: 2100-12-25 08:00 UTC.
NO_DELIVERY = 4_133_404_800_000

WEIGHT_PER_MINUTE = 2400


@attrs.frozen
class Instrument:
    """One row of ``exchangeInfo``.

    Attributes:
        symbol: Name, assets, listing time and scales.
        tick: Smallest price step, in units of the price scale.
        step: Smallest quantity step, in units of the quantity scale.
        contract_type: As in ``PERPETUAL``.
        status: As in ``TRADING``; nothing else trades.
        underlying_type: As in ``COIN``.
        delivery_time: When the contract expires, UTC ms.
    """

    symbol: Symbol
    tick: int = 1
    step: int = 1
    contract_type: str = "PERPETUAL"
    status: str = "TRADING"
    underlying_type: str = "COIN"
    delivery_time: int = NO_DELIVERY

    @property
    def name(self) -> str:
        """The exchange's name of it."""
        return self.symbol.name

    @property
    def is_trading(self) -> bool:
        """Whether trades can happen."""
        return self.status == "TRADING"


def exchange_info(instruments: Iterable[Instrument], now_ms: int) -> dict[str, Any]:
    """Return the body of ``GET /fapi/v1/exchangeInfo``."""
    listed = list(instruments)
    quotes = sorted({each.symbol.quote for each in listed})
    return {
        "timezone": "UTC",
        "serverTime": now_ms,
        "futuresType": "U_MARGINED",
        "rateLimits": [
            _limit("REQUEST_WEIGHT", "MINUTE", 1, WEIGHT_PER_MINUTE),
            _limit("ORDERS", "MINUTE", 1, 1200),
            _limit("ORDERS", "SECOND", 10, 300),
        ],
        "exchangeFilters": [],
        "assets": [
            {"asset": each, "marginAvailable": True, "autoAssetExchange": "-10000"}
            for each in quotes
        ],
        "symbols": [_row(each) for each in listed],
    }


def _limit(kind: str, interval: str, count: int, limit: int) -> dict[str, Any]:
    return {
        "rateLimitType": kind,
        "interval": interval,
        "intervalNum": count,
        "limit": limit,
    }


def _row(each: Instrument) -> dict[str, Any]:
    symbol = each.symbol
    return {
        "symbol": symbol.name,
        "pair": symbol.name.partition("_")[0],
        "contractType": each.contract_type,
        "deliveryDate": each.delivery_time,
        "onboardDate": symbol.listing_time,
        "status": each.status,
        "maintMarginPercent": "2.5000",
        "requiredMarginPercent": "5.0000",
        "baseAsset": symbol.base,
        "quoteAsset": symbol.quote,
        "marginAsset": symbol.quote,
        "pricePrecision": symbol.price_scale,
        "quantityPrecision": symbol.quantity_scale,
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "underlyingType": each.underlying_type,
        "underlyingSubType": [],
        "triggerProtect": "0.0500",
        "liquidationFee": "0.012500",
        "marketTakeBound": "0.05",
        "maxMoveOrderLimit": 10000,
        "filters": _filters(each),
        "orderTypes": ["LIMIT", "MARKET", "STOP", "TAKE_PROFIT"],
        "timeInForce": ["GTC", "IOC", "FOK", "GTX", "GTD"],
        "permissionSets": ["GRID", "COPY", "DCA", "PSB"],
    }


def _filters(each: Instrument) -> list[dict[str, Any]]:
    tick = format_scaled(each.tick, each.symbol.price_scale)
    step = format_scaled(each.step, each.symbol.quantity_scale)
    lots = {"minQty": step, "maxQty": "1000000", "stepSize": step}
    filters: list[dict[str, Any]] = [
        {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "4529764", "tickSize": tick},
        {"filterType": "LOT_SIZE", **lots},
        {"filterType": "MARKET_LOT_SIZE", **lots},
        {"filterType": "MAX_NUM_ORDERS", "limit": 200},
        {"filterType": "MIN_NOTIONAL", "notional": "5"},
        {"filterType": "SIMULATED_FILTER", "note": "clients must skip types they do not know"},
    ]
    # Seeded by the name: the same symbol is shown alike at every call.
    rng = Random(each.name)
    return [_shuffled(row, rng) for row in filters]


def _shuffled(row: dict[str, Any], rng: Random) -> dict[str, Any]:
    items = list(row.items())
    rng.shuffle(items)
    return dict(items)
