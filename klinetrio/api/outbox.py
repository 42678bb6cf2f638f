"""What waits to be sent to one push client.

Three kinds of messages, in the order in which they leave:
  1. replies to the client's own messages;
  2. closed bars, all of them, in the order in which they were closed;
  3. of each series whose open bar changed, its newest state: however many swaps a slow client
     misses, it is sent the last one only.

As an open bar is looked up when it leaves and closed bars leave before it, the final message of a
bar always comes before the first update of the next.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING

import attrs
import orjson
import trio

from klinetrio.domain.kline import has_row, is_final


if TYPE_CHECKING:
    from collections.abc import Iterable

    from klinetrio.api.names import OpenMarket
    from klinetrio.api.ports import Row
    from klinetrio.engine.publication import ClosedBar

# Midnight on a Monday closes every bar a client can have subscribed to, 10,000 of them, at once.
# It may be that far behind, and once more.  One place costs 8 bytes, so 160 KB per client and 41 MB
# for 256 of them; the bars themselves are shared by all clients.
MAX_PENDING_FINALS = 20_000

# The session reads no further message of a client that has that many replies to fetch.
MAX_PENDING_REPLIES = 16


@attrs.define
class Counters:
    """What happened to all clients since the start."""

    updates: int = 0
    finals: int = 0
    encoded: int = 0
    conflated: int = 0
    clients: int = 0
    refused_clients: int = 0
    slow_clients: int = 0
    most_pending_finals: int = 0


class Messages:
    """Bars as text, each encoded at most once for all clients."""

    def __init__(self, opened: OpenMarket, counters: Counters) -> None:
        self._opened = opened
        self._counters = counters
        self._live: dict[int, str | None] = {}

    def swapped(self) -> None:
        """Forget the open bars of the swap before."""
        self._live.clear()

    def live(self, row: int) -> str | None:
        """Return the update of a series' open bar, ``None`` if it has none."""
        if row not in self._live:
            values = self._opened.market.live_row(row)
            has_bar = has_row(values) and not is_final(values)
            self._live[row] = self.encode(row, values) if has_bar else None
        return self._live[row]

    def encode(self, row: int, values: Row) -> str:
        """Return the update message of a bar."""
        self._counters.encoded += 1
        data = self._opened.catalog.kline_of(row, values)
        return orjson.dumps({"type": "kline.update", "data": data}).decode()


class Final:
    """A closed bar, shared by the outboxes of all its subscribers."""

    __slots__ = ("_messages", "_text", "bar")

    def __init__(self, bar: ClosedBar, messages: Messages) -> None:
        self.bar = bar
        self._messages = messages
        self._text: str | None = None

    @property
    def text(self) -> str:
        """The message."""
        if self._text is None:
            self._text = self._messages.encode(self.bar.row, self.bar.values)
        return self._text


class Outbox:
    """The messages of one client; filled by the hub and the reader, emptied by its pusher."""

    def __init__(self, messages: Messages, counters: Counters) -> None:
        self._messages = messages
        self._counters = counters
        self._replies: deque[str] = deque()
        self._finals: deque[Final] = deque()
        self._changed: OrderedDict[int, None] = OrderedDict()
        self._work = trio.Event()
        self._room = trio.Event()
        self.verdict: str | None = None
        """Why the client has to go; ``None`` as long as it may stay."""

    def put_reply(self, text: str) -> None:
        """Queue a reply."""
        self._replies.append(text)
        self._work.set()

    def put_final(self, final: Final) -> bool:
        """Queue a closed bar; return whether there was room for it."""
        if len(self._finals) >= MAX_PENDING_FINALS:
            self.condemn(f"slow consumer: more than {MAX_PENDING_FINALS} closed bars behind")
            return False
        self._finals.append(final)
        self._counters.most_pending_finals = max(
            self._counters.most_pending_finals, len(self._finals)
        )
        self._work.set()
        return True

    def put_changed(self, row: int) -> None:
        """Note that a series' open bar changed."""
        if row in self._changed:
            self._counters.conflated += 1
            return
        self._changed[row] = None
        self._work.set()

    def condemn(self, reason: str) -> None:
        """Drop everything; the session closes the connection with ``reason``."""
        self.verdict = reason
        self._finals.clear()
        self._changed.clear()
        self._work.set()

    def forget(self, rows: Iterable[int]) -> None:
        """Drop what waits of series that are no longer subscribed."""
        gone = set(rows)
        for row in gone:
            self._changed.pop(row, None)
        self._finals = deque(final for final in self._finals if final.bar.row not in gone)

    def take(self) -> str | None:
        """Return the next message, ``None`` if nothing waits."""
        if self._replies:
            self._room.set()
            return self._replies.popleft()
        if self._finals:
            self._counters.finals += 1
            return self._finals.popleft().text
        while self._changed:
            row, _ = self._changed.popitem(last=False)
            text = self._messages.live(row)
            if text is not None:
                self._counters.updates += 1
                return text
        return None

    async def wait_work(self) -> None:
        """Wait until there may be something to take, or a verdict."""
        while not (self._replies or self._finals or self._changed or self.verdict):
            self._work = trio.Event()
            await self._work.wait()

    async def wait_room(self) -> None:
        """Wait until a further reply may be queued."""
        while len(self._replies) >= MAX_PENDING_REPLIES:
            self._room = trio.Event()
            await self._room.wait()
