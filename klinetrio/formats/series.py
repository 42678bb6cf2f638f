"""One series as clients name it, and the columns that every format has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from klinetrio.domain.kline import kline_to_dict


if TYPE_CHECKING:
    from collections.abc import Sequence

    from klinetrio.domain.interval import Interval
    from klinetrio.domain.symbol import Symbol

# The fields of a kline of interface v1, in its order.
COLUMNS = (
    "symbol",
    "interval",
    "open_time",
    "close_time",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "quote_volume",
    "trade_count",
    "taker_buy_volume",
    "taker_buy_quote_volume",
    "is_final",
    "is_complete",
    "origin",
    "revision",
)


@attrs.frozen(slots=True)
class Series:
    """What is the same in all bars of one series.

    Attributes:
        name: The symbol's name as clients see it.
        symbol: Whose bars; knows their scales.
        interval: How long they are.
    """

    name: str
    symbol: Symbol
    interval: Interval

    def kline(self, row: Sequence[int]) -> dict[str, Any]:
        """Return one bar as interface v1 shows it.

        Args:
            row: The thirteen numbers of the bar.
        """
        kline = kline_to_dict(row, self.symbol, self.interval)
        kline["symbol"] = self.name
        return kline
