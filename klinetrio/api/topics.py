"""What a push client can follow, and the messages about it, each encoded at most once.

A topic is one thing to follow in one wire format: a series as ``/api/v1/ws`` tells it and the same
series as the exchange tells it are two topics.  Whoever follows a topic gets the same bytes, ready
to be sent; on sockets that name the stream around each event, those of the second form.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

import attrs
import orjson

from klinetrio.httpd import text_frame


if TYPE_CHECKING:
    from collections.abc import Callable

    from klinetrio.api.client import Client
    from klinetrio.api.folding import Folding
    from klinetrio.api.names import OpenMarket
    from klinetrio.api.ports import Row


class Feed(Enum):
    """What a topic is about, and what its index means."""

    KLINES = "klines"
    """Open and closed bars of a series; the row."""

    TRADES = "trades"
    """Trades of a symbol; the symbol index."""

    TICKER = "ticker"
    """The last 24 hours of a symbol; the symbol index."""

    TICKERS = "tickers"
    """Those of all symbols; 0."""

    NOTHING = "nothing"
    """Nothing that exists: followed, but never told anything."""


@attrs.frozen(eq=False, slots=True)
class Topic:
    """One thing to follow in one wire format; there is one object per topic.

    Attributes:
        feed: What it is about.
        index: Which one.
        encode: Returns the event as JSON, of a bar, a trade or tickers, and of the exchange's time.
        stream: Its name on sockets that name the stream around each event.
        only_first_finals: Leaves out the corrections of closed bars.
        fold: Makes another interval's bars of those of the series, if that is what is told.
        clients: Who follows it.
    """

    feed: Feed
    index: int
    encode: Callable[[Any, int], bytes]
    stream: str = ""
    only_first_finals: bool = False
    fold: Folding | None = None
    clients: set[Client] = attrs.field(factory=set, init=False, repr=False)


@attrs.define
class Counters:
    """What happened to all clients since the start."""

    updates: int = 0
    finals: int = 0
    trades: int = 0
    encoded: int = 0
    conflated: int = 0
    clients: int = 0
    refused_clients: int = 0
    slow_clients: int = 0
    pending: int = 0
    most_pending: int = 0


class Message:
    """One event, shared by all who follow its topic.

    Args:
        topic: What it is about.
        subject: The bar, the trade or the tickers.
        now_ms: The exchange's time at which it became known.
        counters: Where its encoding is counted.
    """

    __slots__ = ("_counters", "_enveloped", "_now_ms", "_payload", "_plain", "subject", "topic")

    def __init__(self, topic: Topic, subject: Any, now_ms: int, counters: Counters) -> None:
        self.topic = topic
        self.subject = subject
        self._now_ms = now_ms
        self._counters = counters
        self._payload: bytes | None = None
        self._plain: bytes | None = None
        self._enveloped: bytes | None = None

    def frame(self, *, enveloped: bool) -> bytes:
        """Return it as a WebSocket frame, with the stream named around it or without."""
        if enveloped and self.topic.stream:
            if self._enveloped is None:
                name = orjson.dumps(self.topic.stream)
                self._enveloped = text_frame(b'{"stream":%b,"data":%b}' % (name, self._encoded()))
            return self._enveloped
        if self._plain is None:
            self._plain = text_frame(self._encoded())
        return self._plain

    def _encoded(self) -> bytes:
        if self._payload is None:
            self._counters.encoded += 1
            self._payload = self.topic.encode(self.subject, self._now_ms)
        return self._payload


class NativeTopics:
    """The series as ``/api/v1/ws`` tells them.

    Args:
        opened: The market and its names.
    """

    def __init__(self, opened: OpenMarket) -> None:
        self._opened = opened
        self._topics: dict[int, Topic] = {}

    def of_row(self, row: int) -> Topic:
        """Return the topic of a series."""
        topic = self._topics.get(row)
        if topic is None:
            topic = self._topics[row] = Topic(Feed.KLINES, row, self._encoder(row))
        return topic

    def _encoder(self, row: int) -> Callable[[Row, int], bytes]:
        series = self._opened.catalog.series(row)

        def encode(values: Row, _now_ms: int) -> bytes:
            return orjson.dumps({"type": "kline.update", "data": series.kline(values)})

        return encode
