"""What has a newest state: the open bars as of the last swap, and tickers, as messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from klinetrio.api.topics import Feed, Message
from klinetrio.domain.kline import has_row, is_final


if TYPE_CHECKING:
    from klinetrio.api.names import OpenMarket
    from klinetrio.api.ports import Row
    from klinetrio.api.topics import Counters, Topic


class LiveMessages:
    """One message per topic and swap, made when the first client takes it.

    Args:
        opened: Where the bars are.
        counters: Where encodings are counted.

    Attributes:
        now_ms: The exchange's time at the last swap.
    """

    def __init__(self, opened: OpenMarket, counters: Counters) -> None:
        self.now_ms = 0
        self._opened = opened
        self._counters = counters
        self._messages: dict[Topic, Message | None] = {}
        # What changed last, and all there is.
        self._tickers: dict[Topic, tuple[Message, Message]] = {}

    def swapped(self, now_ms: int) -> None:
        """Forget the open bars of the swap before."""
        self.now_ms = now_ms
        self._messages.clear()

    def put_tickers(self, topic: Topic, renewed: bytes, whole: bytes) -> None:
        """Take the newest event of tickers, and the one for who has missed an earlier one."""
        self._tickers[topic] = self.event(topic, renewed), self.event(topic, whole)

    def has_tickers(self, topic: Topic) -> bool:
        """Tell whether there has been an event since somebody follows."""
        return topic in self._tickers

    def forget_tickers(self, topic: Topic) -> None:
        """Forget the newest event of tickers that nobody follows any more."""
        self._tickers.pop(topic, None)

    def of(self, topic: Topic, *, afresh: bool) -> Message | None:
        """Return the newest state of something, None if there is none.

        Args:
            topic: A series, of which it is the update of the open bar, or tickers.
            afresh: To one who does not know the state before.
        """
        if topic.feed is not Feed.KLINES:
            renewed, whole = self._tickers.get(topic, (None, None))
            return whole if afresh else renewed
        if topic not in self._messages:
            self._messages[topic] = self._open_bar(topic)
        return self._messages[topic]

    def forget(self, topic: Topic) -> None:
        """Have the open bar of a series made anew, before the next swap."""
        self._messages.pop(topic, None)

    def _open_bar(self, topic: Topic) -> Message | None:
        values: Row | None = self._opened.market.live_row(topic.index)
        if values is None or not has_row(values) or is_final(values):
            return None
        if topic.fold is not None:
            values = topic.fold.live(values)
        return None if values is None else self.event(topic, values)

    def event(self, topic: Topic, subject: object) -> Message:
        """Return a message about something of the last swap."""
        return Message(topic, subject, self.now_ms, self._counters)
