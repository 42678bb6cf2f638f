"""Names of streams to topics.

Symbols are in lower case, ASCII letters alone, as the exchange has it; any other case names nothing.
What names nothing can be followed all the same: it is acknowledged, listed, counted, and silent.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from klinetrio.api.derived import most_parts, source_of
from klinetrio.api.folding import MAX_PARTS, Folding
from klinetrio.api.streams.events import (
    agg_trade_encoder,
    continuous_kline_encoder,
    kline_encoder,
)
from klinetrio.api.topics import Feed, Topic
from klinetrio.domain.interval import INTERVALS


if TYPE_CHECKING:
    from collections.abc import Mapping

    from klinetrio.api.names import OpenMarket

_ALL_TICKERS = "!miniTicker@arr"
_KLINE = "kline_"
_CONTINUOUS = "continuousKline_"
_PERPETUAL = "_perpetual"


def lowered(name: str) -> str:
    """Return ``name`` with its ASCII letters, and only those, in lower case."""
    return "".join(c.lower() if c.isascii() else c for c in name)


class StreamTopics:
    """The topics of a market by the names of the exchange's streams.

    Args:
        opened: The symbols and intervals that there are.
    """

    def __init__(self, opened: OpenMarket) -> None:
        self._opened = opened
        self._topics: dict[str, Topic] = {}

    @cached_property
    def _symbols(self) -> Mapping[str, int]:
        symbols = self._opened.catalog.symbols
        return {lowered(each.name): index for index, each in enumerate(symbols)}

    def named(self, name: str) -> Topic:
        """Return the topic of a stream, a silent one if there is no such stream."""
        topic = self._topics.get(name)
        if topic is None:
            topic = self._make(name)
            if topic.feed is Feed.NOTHING:
                return topic  # not kept: clients could make up as many as they like
            self._topics[name] = topic
        return topic

    def _make(self, name: str) -> Topic:
        if name == _ALL_TICKERS:
            return Topic(Feed.TICKERS, 0, _as_it_is, name)
        symbol, _, kind = name.rpartition("@")
        if kind == "miniTicker" and symbol in self._symbols:
            return Topic(Feed.TICKER, self._symbols[symbol], _as_it_is, name)
        if kind == "aggTrade" and symbol in self._symbols:
            return self._trades(name, self._symbols[symbol])
        if kind.startswith(_KLINE):
            return self._klines(name, symbol, kind.removeprefix(_KLINE))
        if kind.startswith(_CONTINUOUS) and symbol.endswith(_PERPETUAL):
            pair = symbol.removesuffix(_PERPETUAL)
            if "_" not in pair:
                return self._klines(name, pair, kind.removeprefix(_CONTINUOUS), continuous=True)
        return nothing(name)

    def _trades(self, name: str, symbol_index: int) -> Topic:
        encode = agg_trade_encoder(self._opened.catalog.symbols[symbol_index])
        return Topic(Feed.TRADES, symbol_index, encode, name)

    def _klines(self, name: str, symbol: str, interval: str, *, continuous: bool = False) -> Topic:
        symbol_index, wanted = self._symbols.get(symbol), INTERVALS.get(interval)
        kept = self._opened.catalog.intervals
        source = None if wanted is None else source_of(wanted, kept)
        if symbol_index is None or wanted is None or source is None:
            return nothing(name)
        fold = None
        if wanted != kept[source]:
            if most_parts(wanted, kept[source]) > MAX_PARTS:
                return nothing(name)
            fold = Folding(wanted, kept[source])
        make = continuous_kline_encoder if continuous else kline_encoder
        encode = make(self._opened.catalog.symbols[symbol_index], wanted)
        row = symbol_index * len(kept) + source
        return Topic(Feed.KLINES, row, encode, name, only_first_finals=True, fold=fold)


def nothing(name: str) -> Topic:
    """Return a topic of which nothing is ever told."""
    return Topic(Feed.NOTHING, 0, _never, name)


def _as_it_is(event: bytes, _now_ms: int) -> bytes:
    return event


def _never(_subject: object, _now_ms: int) -> bytes:
    raise AssertionError("nothing is told of what does not exist")
