"""The ticker board: every symbol's newest trade, its last 24 hours, and how its feed stands.

The swapper's publications tell what has changed, so that who asks again and again is told only that.
Changes are numbered by a count that begins at the exchange's time in ms and rises more slowly than it:
so it goes on rising over a restart, and a number of an earlier run asks for everything.

Invariants (tested in tests/api/test_board.py):
  I1  Who has taken every answer since the first, each with the generation of the one before, has every
      symbol as the last answer would tell it in full.
  I2  Nothing of the board's holds up a swap: publishing only marks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import trio

from klinetrio.api.day import DayWindow
from klinetrio.domain.decimals import format_scaled
from klinetrio.domain.kline import CLOSE, has_row, is_complete, revision_of
from klinetrio.errors import StoreError


if TYPE_CHECKING:
    from collections.abc import Sequence

    from klinetrio.api.day import DayBar
    from klinetrio.api.names import Catalog
    from klinetrio.api.ports import Market, MarketSource, SymbolState
    from klinetrio.domain.symbol import Symbol
    from klinetrio.domain.trade import AggTrade
    from klinetrio.engine.publication import Publication

# A window that has not been read within this is told as unknown; the next one who asks goes on.
READING_S = 2.0

# 50 tickers take about 0.5 ms to be worked out; trades are not kept waiting longer than that.
SYMBOLS_PER_STEP = 50


class TickerBoard:
    """What tickers are made of.

    Args:
        market: Returns the market, None while the daemon is starting.
    """

    def __init__(self, market: MarketSource) -> None:
        self._source = market
        self._board: Board | None = None

    def publish(self, publication: Publication) -> None:
        """Take note of what a swap has changed."""
        market = self._source()
        if market is not None:
            self.of(market).take(publication)

    def of(self, market: Market) -> Board:
        """Return the board of a market; a daemon that starts over has another one."""
        if self._board is None or self._board.market is not market:
            self._board = Board(market)
        return self._board


class Board:
    """The board of one market.

    Args:
        market: Whose.

    Attributes:
        market: As given.
        day: The last 24 hours of each symbol.
        newest: The newest trade of each symbol since the start, by its exchange name.
    """

    def __init__(self, market: Market) -> None:
        self.market = market
        self.day = DayWindow(market)
        self.newest: dict[str, AggTrade] = {}
        self._width = len(market.intervals)
        self._generation = market.now_ms()
        self._changed = np.full(len(market.symbols), self._generation, np.int64)
        self._states: Sequence[SymbolState] = ()

    def take(self, publication: Publication) -> None:
        """Take note of what a swap has changed."""
        self._generation += 1
        self._changed[publication.changed // self._width] = self._generation
        newest = self.newest
        for trade in publication.trades:
            other = newest.get(trade.symbol)
            # By time first: ids may start over, times go on.
            if other is None or (trade.time, trade.agg_id) > (other.time, other.agg_id):
                newest[trade.symbol] = trade
        for bar in publication.closed:
            if revision_of(bar.values):
                self._mark(bar.row // self._width)
                self.day.forget(bar.row // self._width)

    def _mark(self, symbol_index: int) -> None:
        self._changed[symbol_index] = self._generation

    @property
    def generation(self) -> int:
        """The number of the last change."""
        return self._generation

    def changed_since(self, generation: int) -> list[int]:
        """Return the symbols that have changed after a generation."""
        return np.flatnonzero(self._changed > generation).tolist()

    async def load(self, indexes: Sequence[int]) -> None:
        """Read the windows that are not at hand.

        Raises:
            StoreError: The history could not be read.
        """
        loaded = await self.day.load(indexes)
        if loaded:
            self._generation += 1
            self._changed[loaded] = self._generation

    async def tickers(self, catalog: Catalog, since: int | None) -> dict[str, Any]:
        """Return what ``/api/v1/tickers`` answers.

        Args:
            catalog: The names of the symbols.
            since: The generation of an earlier answer; None asks for all.
        """
        symbols = self.market.symbols
        with trio.move_on_after(READING_S):
            await self.load_if_possible(range(len(symbols)))
        self._note_states()
        generation = self._generation
        if since is None or since > generation:
            chosen = list(range(len(symbols)))
        else:
            chosen = self.changed_since(since)
        tickers: list[dict[str, Any]] = []
        for first in range(0, len(chosen), SYMBOLS_PER_STEP):
            step = chosen[first : first + SYMBOLS_PER_STEP]
            tickers += [
                self._ticker(catalog.shown[index], index, day)
                for index, day in zip(step, self.day.bars(step), strict=True)
            ]
            await trio.lowlevel.checkpoint()
        return {"time": self.market.now_ms(), "generation": generation, "tickers": tickers}

    async def load_if_possible(self, indexes: Sequence[int]) -> None:
        """Read the windows that are not at hand, as far as the history can be read."""
        try:
            await self.load(indexes)
        except StoreError:
            # What is at hand is told; the next one who asks tries again.
            await trio.lowlevel.checkpoint()

    def _note_states(self) -> None:
        """Take note of whose state has changed since somebody last asked."""
        states = self.market.states()
        if states != self._states:
            self._generation += 1
            for index, state in enumerate(states):
                if not self._states or state != self._states[index]:
                    self._mark(index)
            self._states = states

    def _ticker(self, name: str, index: int, day: DayBar | None) -> dict[str, Any]:
        symbol, state = self.market.symbols[index], self._states[index]
        live = self.market.live_row(index * self._width)
        known = has_row(live)
        return {
            "symbol": name,
            "price": format_scaled(live[CLOSE], symbol.price_scale) if known else None,
            **(_no_day() if day is None else _day(day, symbol)),
            "last_trade_time": state.last_trade_time,
            "state": state.state,
            "is_complete": known and is_complete(live),
        }


def _day(day: DayBar, symbol: Symbol) -> dict[str, Any]:
    price = symbol.price_scale
    return {
        "price_change": format_scaled(day.change, price),
        "price_change_percent": format_scaled(day.change_percent, 3),
        "open": format_scaled(day.open, price),
        "high": format_scaled(day.high, price),
        "low": format_scaled(day.low, price),
        "volume": format_scaled(day.volume, symbol.quantity_scale),
        "quote_volume": format_scaled(day.quote_volume, symbol.quote_scale),
        "trade_count": day.trade_count,
    }


def _no_day() -> dict[str, None]:
    return dict.fromkeys(
        (
            "price_change",
            "price_change_percent",
            "open",
            "high",
            "low",
            "volume",
            "quote_volume",
            "trade_count",
        )
    )
