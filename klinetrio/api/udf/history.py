"""``/udf/history``: bars as columns, of a span or a number of them back from its end.

TradingView's documentation leaves open which bars ``to`` ends with; its charting library counts it
out, and so does its sample server, so here a bar belongs to the span if it opens in ``[from, to)``.
``countback`` goes before ``from``.  Of more than ``MAX_BARS`` the newest are answered.

Numbers are JSON numbers written from integers: they have the symbol's decimals, and no float is on
their way.

Invariants (tested in tests/api/test_udf.py):
  I1  The bars are those of ``/api/v1/klines`` that open in the span, the newest ``MAX_BARS``.
  I2  Nothing is ``no_data``, with the newest bar before the span as ``nextTime`` if there is one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import trio

from klinetrio.api.pages import in_time
from klinetrio.api.parameters import Integer, Text, parse_query
from klinetrio.api.selection import MAX_TIME_MS
from klinetrio.api.udf.resolutions import RESOLUTIONS, interval_name
from klinetrio.api.udf.symbols import without_exchange
from klinetrio.domain.decimals import format_scaled
from klinetrio.domain.interval import DAY
from klinetrio.domain.kline import CLOSE, HIGH, LOW, OPEN, OPEN_TIME, VOLUME


if TYPE_CHECKING:
    from collections.abc import Sequence

    from klinetrio.api.names import Catalog, OpenMarket
    from klinetrio.api.ports import Row
    from klinetrio.domain.interval import Interval
    from klinetrio.domain.symbol import Symbol

# As in v1: 1,500 bars are 0.9 MB as numbers and 0.1 MB as text.
MAX_BARS = 1_500

# 50 bars take 0.2 ms to turn into text; trades are not kept waiting longer than that.
BARS_PER_STEP = 50

# No calendar month is shorter.
_SHORTEST_MONTH = 28 * DAY

_LATEST_S = MAX_TIME_MS // 1000

SYMBOL = Text(
    name="symbol",
    description="As in `BTC_USDT`, `BTCUSDT` or `BINANCE:BTC_USDT`.",
    required=True,
)

RESOLUTION = Text(
    name="resolution",
    description="One of the `supported_resolutions`; `D`, `W` and `M` are `1D`, `1W` and `1M`.",
    values=tuple(RESOLUTIONS),
    checked=False,  # those kept are the catalog's to know
    required=True,
)

# Front ends that scroll back ask for times before 1970, too.
FROM = Integer(
    name="from",
    description="Where the span begins, inclusive, in seconds.",
    lowest=-_LATEST_S,
    highest=_LATEST_S,
    default=0,
)

TO = Integer(
    name="to",
    description="Where the span ends, exclusive, in seconds; without it with the newest bar.",
    lowest=-_LATEST_S,
    highest=_LATEST_S,
)

COUNTBACK = Integer(
    name="countback",
    description="How many bars back from `to`, whatever `from` says; 0 is as if not given.",
    highest=1_000_000,
    default=0,
)

PARAMETERS = (SYMBOL, RESOLUTION, FROM, TO, COUNTBACK)

_NUMBERS = (("o", OPEN), ("h", HIGH), ("l", LOW), ("c", CLOSE), ("v", VOLUME))


@attrs.frozen
class HistoryQuery:
    """What was asked for.

    Attributes:
        row: The series.
        start: Lowest open time, inclusive, UTC ms.
        end: Highest open time, inclusive, UTC ms; None up to the newest bar.
        count: How many bars back from the end; None for those from ``start`` on.
    """

    row: int
    start: int
    end: int | None
    count: int | None


def parse_history_query(raw: bytes, catalog: Catalog) -> HistoryQuery:
    """Return what a query string asks for.

    Raises:
        ApiError: Anything about it is not as expected.
    """
    given = parse_query(raw, None)
    resolution = RESOLUTION.demand(given)
    row = catalog.row_of(without_exchange(SYMBOL.demand(given)), interval_name(resolution))
    start, end, count = FROM.read(given) or 0, TO.read(given), COUNTBACK.read(given)
    return HistoryQuery(
        row,
        start=max(start, 0) * 1000,
        end=None if end is None else end * 1000 - 1,
        count=min(count, MAX_BARS) if count else None,
    )


class HistoryAnswers:
    """Answers requests for history.

    Args:
        opened: The market and its names.
    """

    def __init__(self, opened: OpenMarket) -> None:
        self._opened = opened
        # Of all answers together one step at a time: trades wait for one of them, not for all.
        self._turn = trio.Lock()

    async def reply(self, query: HistoryQuery) -> bytes:
        """Return the answer, as JSON.

        Raises:
            ApiError: The database could not be read, or not in time.
        """
        market, series = self._opened.market, self._opened.catalog.series(query.row)
        end = query.end
        if end is None:
            end = max(market.now_ms(), market.live_row(query.row)[OPEN_TIME])
        limit = query.count or _most_bars(series.interval, query.start, end)
        with in_time():
            bars = await market.klines(query.row, start=None, end=query.end, limit=limit)
            wanted = [bar for bar in bars if query.count or bar[OPEN_TIME] >= query.start]
            if wanted:
                return await self._columns(series.symbol, wanted)
        if len(bars):
            return b'{"s":"no_data","nextTime":%d}' % (bars[-1][OPEN_TIME] // 1000)
        return b'{"s":"no_data"}'

    async def _columns(self, symbol: Symbol, bars: Sequence[Row]) -> bytes:
        columns: dict[str, list[str]] = {name: [] for name in ("t", "o", "h", "l", "c", "v")}
        for first in range(0, len(bars), BARS_PER_STEP):
            async with self._turn:
                _extend(columns, symbol, bars[first : first + BARS_PER_STEP])
        parts = [f'"{name}":[{",".join(numbers)}]' for name, numbers in columns.items()]
        return f'{{"s":"ok",{",".join(parts)}}}'.encode()


def _extend(columns: dict[str, list[str]], symbol: Symbol, bars: Sequence[Row]) -> None:
    columns["t"] += [str(bar[OPEN_TIME] // 1000) for bar in bars]
    for name, field in _NUMBERS:
        scale = symbol.quantity_scale if field == VOLUME else symbol.price_scale
        columns[name] += [format_scaled(bar[field], scale) for bar in bars]


def _most_bars(interval: Interval, start: int, end: int) -> int:
    """Return how many bars to read back from the end of a span to have all of it, and one before."""
    length = _SHORTEST_MONTH if interval.is_calendar else interval.length
    return max(1, min(MAX_BARS, (end - start) // length + 2))
