"""A market in memory: a few series over numpy rows, moved by hand, without a clock or a database.

It keeps the contract of ``klinetrio.api.ports.Market``: what is written shows after ``swap`` only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import trio
from prometheus_client.core import GaugeMetricFamily

from klinetrio.api.ports import SymbolState
from klinetrio.domain import kline
from klinetrio.domain.interval import INTERVALS, MINUTE
from klinetrio.domain.listing import Listing
from klinetrio.domain.symbol import Symbol
from klinetrio.engine.publication import ClosedBar, Publication


if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from prometheus_client.core import Metric

    from klinetrio.domain.interval import Interval
    from klinetrio.domain.trade import AggTrade

# 2026-11-20 00:00 UTC, a whole day.
START = 1_795_132_800_000

SYMBOLS = (
    Symbol("BTCUSDT", "BTC", "USDT", 1_569_398_400_000, 2, 3),
    Symbol("ETHUSDC", "ETH", "USDC", 1_695_081_600_000, 2, 3),
    Symbol("币安人生USDT", "币安人生", "USDT", 1_760_000_000_000, 5, 0),
)
INTERVAL_NAMES = ("1m", "1h", "1M")


def entry_of(symbol: Symbol) -> bytes:
    """Return a symbol as the exchange's listing has it, as far as programs need it."""
    entry = {
        "symbol": symbol.name,
        "pair": symbol.name,
        "contractType": "PERPETUAL",
        "deliveryDate": 4_133_404_800_000,
        "onboardDate": symbol.listing_time,
        "status": "TRADING",
        "baseAsset": symbol.base,
        "quoteAsset": symbol.quote,
        "marginAsset": symbol.quote,
        "pricePrecision": symbol.price_scale,
        "quantityPrecision": symbol.quantity_scale,
    }
    return orjson.dumps(entry)


class MemoryMarket:
    """Open bars move by ``trade`` and ``close``, and become visible by ``swap``."""

    def __init__(
        self, symbols: Sequence[Symbol] = SYMBOLS, intervals: Sequence[str] = INTERVAL_NAMES
    ) -> None:
        self.symbols: Sequence[Symbol] = symbols
        self.intervals: Sequence[Interval] = tuple(INTERVALS[name] for name in intervals)
        self.capacity = len(symbols) * len(intervals)
        self.reasons: list[str] = []
        self.metric_count = 1
        self.failure: Exception | None = None
        self.delay_s = 0.0
        self.unseeded: set[int] = set()
        self._write = np.zeros((self.capacity, kline.FIELD_COUNT), dtype=np.int64)
        self._read = self._write.copy()
        self._dirty: set[int] = set()
        self._closed: list[ClosedBar] = []
        self._history: list[dict[int, tuple[int, ...]]] = [{} for _ in range(self.capacity)]
        self._generation = 0
        self.now = START
        self.listing = Listing({"timezone": "UTC"}, [entry_of(each) for each in symbols])
        self.stands = [SymbolState("live", None) for _ in symbols]
        self._trades: list[AggTrade] = []
        self._fresh: list[AggTrade] = []

    def now_ms(self) -> int:
        """Return the exchange's time."""
        return self.now

    def take(self, trade: AggTrade) -> None:
        """Take a trade as such; no bar moves by it."""
        self._trades.append(trade)
        self._fresh.append(trade)

    def recent_trades(self, symbol_index: int) -> Sequence[AggTrade]:
        """Return the trades of a symbol, ascending by id."""
        name = self.symbols[symbol_index].name
        return sorted(each for each in self._trades if each.symbol == name)

    def interval_of(self, row: int) -> Interval:
        """Return the interval of a series."""
        return self.intervals[row % len(self.intervals)]

    def trade(self, row: int, price: int = 100, quantity: int = 1) -> None:
        """Fold one trade into the open bar of a series, or open its first bar with it."""
        bar = self._write[row]
        if not bar[kline.OPEN_TIME]:
            bar[kline.OPEN_TIME] = self.interval_of(row).open_of(START)
        if not bar[kline.TRADE_COUNT]:
            bar[[kline.OPEN, kline.HIGH, kline.LOW]] = price
        bar[kline.HIGH] = max(bar[kline.HIGH], price)
        bar[kline.LOW] = min(bar[kline.LOW], price)
        bar[kline.CLOSE] = price
        bar[kline.VOLUME] += quantity
        bar[kline.QUOTE_VOLUME] += price * quantity
        bar[kline.TRADE_COUNT] += 1
        self._dirty.add(row)

    def close(self, row: int) -> None:
        """Close the open bar of a series and open the next one, empty."""
        bar = self._write[row]
        self._put_closed(row, [*bar.tolist()[: kline.FLAGS], int(kline.Flag.FINAL)])
        open_time = self.interval_of(row).next_open(int(bar[kline.OPEN_TIME]))
        close = bar[kline.CLOSE]
        bar[:] = 0
        bar[kline.OPEN_TIME] = open_time
        bar[[kline.OPEN, kline.HIGH, kline.LOW, kline.CLOSE]] = close
        self._dirty.add(row)

    def correct(self, row: int) -> None:
        """Correct the last closed bar of a series: the same bar with a higher revision."""
        open_time = max(self._history[row])
        values = list(self._history[row][open_time])
        values[kline.VOLUME] += 1
        values[kline.FLAGS] = kline.make_flags(kline.bits_of(values), kline.revision_of(values) + 1)
        self._put_closed(row, values)

    def take_away(self, row: int, open_time: int) -> tuple[int, ...]:
        """Have a closed bar missing in the history; return it."""
        return self._history[row].pop(open_time)

    def put_back(self, row: int, bar: tuple[int, ...]) -> None:
        """Put a bar into the history, of which no swap tells."""
        self._history[row][bar[kline.OPEN_TIME]] = bar

    def has_open(self, row: int) -> bool:
        """Tell whether a series has an open bar."""
        return bool(self._write[row, kline.OPEN_TIME])

    def has_closed(self, row: int) -> bool:
        """Tell whether a series has a closed bar."""
        return bool(self._history[row])

    def _put_closed(self, row: int, values: list[int]) -> None:
        self._history[row][values[kline.OPEN_TIME]] = tuple(values)
        self._closed.append(ClosedBar(row, tuple(values)))

    def swap(self) -> Publication:
        """Show what was written; return what changed."""
        self._generation += 1
        self._read = self._write.copy()
        changed = np.array(sorted(self._dirty), dtype=np.int64)
        publication = Publication(
            self._generation, changed, tuple(self._closed), trades=tuple(self._fresh)
        )
        self._dirty.clear()
        self._closed.clear()
        self._fresh.clear()
        return publication

    def live_row(self, row: int) -> Sequence[int]:
        """Return the open bar of a series as of the last swap."""
        values: list[int] = self._read[row].tolist()
        return values

    async def klines(
        self, row: int, *, start: int | None, end: int | None, limit: int
    ) -> Sequence[Sequence[int]]:
        """Return closed bars and the open one."""
        await trio.sleep(self.delay_s)
        if self.failure is not None:
            raise self.failure
        bars = [self._history[row][time] for time in sorted(self._history[row])]
        live = self.live_row(row)
        bars += [tuple(live)] if kline.has_row(live) else []
        wanted = [
            bar
            for bar in bars
            if (start is None or bar[0] >= start) and (end is None or bar[0] <= end)
        ]
        return wanted[-limit:] if start is None else wanted[:limit]

    def is_seeded(self, symbol_index: int) -> bool:
        """Return what the test says."""
        return symbol_index not in self.unseeded

    def states(self) -> Sequence[SymbolState]:
        """Return what the test says."""
        return list(self.stands)

    def status(self) -> dict[str, Any]:
        """Return something to show."""
        return {"version": "test", "swaps": {"generation": self._generation}}

    def audit(self) -> list[dict[str, Any]]:
        """Return something to show."""
        return [{"symbol": "BTC_USDT", "compared": 1}]

    def metrics(self) -> Iterable[Metric]:
        """Return as many metrics as the test wants."""
        for number in range(self.metric_count):
            yield GaugeMetricFamily(f"klinetrio_test_{number}", "A number.", number)

    def unready(self) -> Sequence[str]:
        """Return what the test says."""
        return self.reasons


def with_minutes(count: int, row: int = 0) -> MemoryMarket:
    """Return a market whose series ``row`` has ``count`` closed bars and an open one."""
    market = MemoryMarket()
    for number in range(count):
        market.trade(row, 100 + number)
        market.close(row)
    market.trade(row, 100 + count)
    market.swap()
    return market


MINUTE_MS = MINUTE
