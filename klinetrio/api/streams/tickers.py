"""The exchange's mini tickers: the last 24 hours of each symbol, told twice a second.

Unlike bars they are not of a swap: a window may have to be read first.  So a task of their own works
out those that somebody follows and whose symbol has changed, and hands the events to the hub.

Invariants (tests/api/test_stream_tickers.py):
  I1  An event tells a symbol's window as ``ticker/24hr`` would at that moment.
  I2  Who follows all symbols knows, after every event, the newest window of each: also who was slow,
      as an event that was never taken is made up for by one of all symbols.
  I3  What nobody follows costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import orjson
import trio

from klinetrio.api.board import READING_S, SYMBOLS_PER_STEP
from klinetrio.api.day import rounded
from klinetrio.api.topics import Feed
from klinetrio.domain.decimals import format_scaled


if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from klinetrio.api.board import Board, TickerBoard
    from klinetrio.api.day import DayBar
    from klinetrio.api.hub import PushHub
    from klinetrio.api.ports import MarketSource
    from klinetrio.domain.symbol import Symbol

# The exchange's own pace: a symbol's every 500 ms, that of all every second one of these.
ROUND_S = 0.5
ROUNDS_OF_ALL = 2

# The exchange's number for USD-M futures.
_USD_M = 1


def mini_ticker(symbol: Symbol, day: DayBar, now_ms: int) -> bytes:
    """Return the event of one symbol."""
    price, quantity = symbol.price_scale, symbol.quantity_scale
    event = {
        "e": "24hrMiniTicker",
        "E": now_ms,
        "s": symbol.name,
        "c": format_scaled(day.close, price),
        "o": format_scaled(day.open, price),
        "h": format_scaled(day.high, price),
        "l": format_scaled(day.low, price),
        "v": format_scaled(day.volume, quantity),
        "q": format_scaled(rounded(day.quote_volume, 10**quantity), price),
        "ps": symbol.name.partition("_")[0],
        "st": _USD_M,
    }
    return orjson.dumps(event)


class MiniTickers:
    """Tells the hub's followers of tickers.

    Args:
        market: Returns the market, None while the daemon is starting.
        hub: Whose followers.
        board: Where the windows are.
    """

    def __init__(self, market: MarketSource, hub: PushHub, board: TickerBoard) -> None:
        self._source = market
        self._hub = hub
        self._tickers = board

    async def run(self) -> None:
        """Tell, for ever."""
        round_number = 0
        while True:
            await trio.sleep(ROUND_S)
            market = self._source()
            if market is None or not self._hub.followed_tickers:
                continue
            board = self._tickers.of(market)
            telling = _Telling(self._hub, board)
            while self._hub.followed_tickers and self._source() is market:
                round_number += 1
                await telling.tell(also_all=round_number % ROUNDS_OF_ALL == 0)
                await trio.sleep(ROUND_S)


class _Telling:
    """What has been told since somebody began to follow.

    Args:
        hub: Whose followers.
        board: Where the windows are.
    """

    def __init__(self, hub: PushHub, board: Board) -> None:
        self._hub = hub
        self._board = board
        self._symbols = board.market.symbols
        self._generation = 0
        # Events by symbol index, and of which symbols there has to be another one.
        self._events: dict[int, bytes] = {}
        self._is_stale: npt.NDArray[np.bool_] = np.ones(len(self._symbols), np.bool_)
        # Of which there has been one since all were last told.
        self._renewed: set[int] = set()

    async def tell(self, *, also_all: bool) -> None:
        """Tell what has changed since the last time."""
        topics = [
            topic for topic in self._hub.followed_tickers if also_all or topic.feed is Feed.TICKER
        ]
        all_of_them = any(topic.feed is Feed.TICKERS for topic in topics)
        wanted = range(len(self._symbols)) if all_of_them else {topic.index for topic in topics}
        renewed = await self._renew(sorted(wanted))
        self._renewed |= renewed
        for topic in topics:
            if not topic.clients:
                continue  # gone meanwhile
            is_first = not self._hub.live.has_tickers(topic)
            if topic.feed is Feed.TICKER:
                if topic.index in (self._events if is_first else renewed):
                    event = self._events[topic.index]
                    self._hub.tell_tickers(topic, event, event)
            elif (is_first and self._events) or self._renewed:
                whole = self._array_of(self._events)
                event = whole if is_first else self._array_of(self._renewed)
                self._hub.tell_tickers(topic, event, whole)
        if all_of_them:
            self._renewed.clear()

    async def _renew(self, wanted: list[int]) -> set[int]:
        """Work out the events of those symbols that have changed; return which have one now."""
        with trio.move_on_after(READING_S):
            await self._board.load_if_possible(wanted)
        self._is_stale[self._board.changed_since(self._generation)] = True
        self._generation = self._board.generation
        stale = [each for each in wanted if self._is_stale[each]]
        renewed = set()
        for first in range(0, len(stale), SYMBOLS_PER_STEP):
            step = stale[first : first + SYMBOLS_PER_STEP]
            now_ms = self._board.market.now_ms()
            for index, day in zip(step, self._board.day.bars(step), strict=True):
                if day is not None:
                    self._events[index] = mini_ticker(self._symbols[index], day, now_ms)
                    self._is_stale[index] = False
                    renewed.add(index)
            await trio.lowlevel.checkpoint()
        return renewed

    def _array_of(self, indexes: Iterable[int]) -> bytes:
        return b"[%b]" % b",".join(self._events[each] for each in sorted(indexes))
