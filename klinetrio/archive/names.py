"""What the name of an archive file says: whose it is, what is inside, and of which time.

The layout is that of Binance's public data: ``BTCUSDT-aggTrades-2026-08-29.zip``,
``BTCUSDT-1m-2026-08.csv``.  A symbol may be non-ASCII or hold ``_``, so the name is read from its
end, which is all that is regular.
"""

from __future__ import annotations

import re
from calendar import timegm
from datetime import date
from typing import TYPE_CHECKING

import attrs

from klinetrio.domain.interval import DAY, INTERVALS


if TYPE_CHECKING:
    from klinetrio.domain.interval import Interval

_NAME = re.compile(
    r"(?P<symbol>.+)-(?P<kind>aggTrades|[0-9]+[a-z]+)"
    r"-(?P<year>[0-9]{4})-(?P<month>[0-9]{2})(-(?P<day>[0-9]{2}))?\.(zip|csv)"
)

# Months are ``1mo`` in file names, because some file systems do not tell ``1M`` from ``1m``.
_KINDS = {"1mo" if name == "1M" else name: each for name, each in INTERVALS.items()}

# Longer ones first where one ends with another.
_QUOTES = (
    *("FDUSD", "USDT", "USDC", "BUSD", "TUSD", "USDP", "USDS", "USD1", "USDE"),
    *("USD", "EUR", "GBP", "AUD", "TRY", "BRL", "RUB", "UAH", "JPY", "ARS", "MXN", "ZAR", "PLN"),
    *("BTC", "ETH", "BNB", "TRX", "XRP", "DOGE", "SOL", "DAI"),
)


@attrs.frozen(slots=True)
class ArchiveName:
    """What one file holds.

    Attributes:
        symbol: The exchange's name.
        interval: Of the klines inside, None if there are aggregate trades.
        start: First millisecond of the day or month, UTC.
        end: First millisecond after it.
    """

    symbol: str
    interval: Interval | None
    start: int
    end: int


def parse_name(name: str) -> ArchiveName | None:
    """Return what a file's name says, None if it is not the name of such a file."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    kind = match["kind"]
    if kind != "aggTrades" and kind not in _KINDS:
        return None
    try:
        first = date(int(match["year"]), int(match["month"]), int(match["day"] or 1))
    except ValueError:
        return None
    start = timegm(first.timetuple()) * 1000
    end = start + DAY if match["day"] else INTERVALS["1M"].next_open(start)
    return ArchiveName(match["symbol"], _KINDS.get(kind), start, end)


def split_assets(symbol: str) -> tuple[str, str]:
    """Return base and quote asset of a symbol that nothing else is known of.

    The delivery date of a quarterly contract stands aside.  A symbol that ends with no usual
    quote asset is all base.
    """
    pair = symbol.partition("_")[0]
    for quote in _QUOTES:
        if pair.endswith(quote) and pair != quote:
            return pair.removesuffix(quote), quote
    return pair, ""
