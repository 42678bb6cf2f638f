"""Who gets which stream, and what they really got.

Invariants:
  I1  a frame is encoded at most twice (plain and in the envelope), for any number of subscribers.
  I2  ``delivered`` holds an id only after a socket has taken its frame.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from klinetrio.sim.idset import IdSet
from klinetrio.sim.wire import text_frame


if TYPE_CHECKING:
    from collections.abc import Iterable

    from klinetrio.domain.symbol import Symbol
    from klinetrio.sim.market import Frame


class Subscriber(Protocol):
    """A connection, as the hub sees it."""

    @property
    def combined(self) -> bool:
        """Whether it wants the envelope."""
        ...

    def offer(self, data: bytes, receipt: tuple[IdSet, int] | None = None) -> None:
        """Queue a WebSocket frame; the receipt is entered once it is sent."""
        ...


class Hub:
    """The fan-out of all trade streams.

    Args:
        symbols: All symbols that may have a stream.
    """

    def __init__(self, symbols: Iterable[Symbol]) -> None:
        self._streams = {each.name: each.stream for each in symbols}
        self._symbols = {stream: name for name, stream in self._streams.items()}
        self._subscribers: dict[str, dict[Subscriber, None]] = {name: {} for name in self._streams}
        self._delivered = {name: IdSet() for name in self._streams}

    def subscribe(self, subscriber: Subscriber, streams: Iterable[str]) -> list[str]:
        """Make these all the streams of the subscriber; return the symbols among them."""
        self.remove(subscriber)
        names = [self._symbols[each] for each in streams if each in self._symbols]
        for name in names:
            self._subscribers[name][subscriber] = None
        return names

    def remove(self, subscriber: Subscriber) -> None:
        """Forget a subscriber."""
        for subscribers in self._subscribers.values():
            subscribers.pop(subscriber, None)

    def subscribers(self, symbol: str) -> list[Subscriber]:
        """Return who gets a symbol's trades."""
        return list(self._subscribers[symbol])

    def delivered(self, symbol: str) -> IdSet:
        """Return the aggregate ids that at least one socket has taken."""
        return self._delivered[symbol]

    def publish(self, frame: Frame) -> None:
        """Hand a frame to all its subscribers."""
        self._send(frame.symbol, frame.payload, (self._delivered[frame.symbol], frame.agg_id))

    def inject(self, symbol: str, text: str) -> None:
        """Send any text to a symbol's subscribers as it is, without the envelope."""
        data = text_frame(text.encode())
        for subscriber in self._subscribers[symbol]:
            subscriber.offer(data)

    def _send(self, symbol: str, payload: bytes, receipt: tuple[IdSet, int]) -> None:
        plain = combined = b""
        for subscriber in self._subscribers[symbol]:
            if subscriber.combined:
                combined = combined or text_frame(self._enveloped(symbol, payload))
                subscriber.offer(combined, receipt)
            else:
                plain = plain or text_frame(payload)
                subscriber.offer(plain, receipt)

    def _enveloped(self, symbol: str, payload: bytes) -> bytes:
        return b'{"stream":"%s","data":%s}' % (self._streams[symbol].encode(), payload)
