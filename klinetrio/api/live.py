"""The open bars as messages, as of the last swap."""

from __future__ import annotations

from typing import TYPE_CHECKING

from klinetrio.api.topics import Message
from klinetrio.domain.kline import has_row, is_final


if TYPE_CHECKING:
    from klinetrio.api.names import OpenMarket
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

    def swapped(self, now_ms: int) -> None:
        """Forget the open bars of the swap before."""
        self.now_ms = now_ms
        self._messages.clear()

    def of(self, topic: Topic) -> Message | None:
        """Return the update of a series' open bar, None if it has none."""
        if topic not in self._messages:
            values = self._opened.market.live_row(topic.index)
            has_bar = has_row(values) and not is_final(values)
            self._messages[topic] = self.event(topic, values) if has_bar else None
        return self._messages[topic]

    def event(self, topic: Topic, subject: object) -> Message:
        """Return a message about something of the last swap."""
        return Message(topic, subject, self.now_ms, self._counters)
