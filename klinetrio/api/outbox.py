"""What waits to be sent to one push client.

Three kinds of messages, in the order in which they leave:
  1. replies to the client's own messages;
  2. the queue: closed bars and trades, all of them, in the order in which they became known;
  3. of each series whose open bar changed, and of tickers, the newest state: however many of them a
     slow client misses, it is sent the last one only.

As an open bar is looked up when it leaves and closed bars leave before it, the final message of a
bar always comes before the first update of the next.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING

import trio

from klinetrio.api.topics import Feed
from klinetrio.httpd import text_frame


if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from klinetrio.api.live import LiveMessages
    from klinetrio.api.topics import Counters, Message, Topic

# Midnight on a Monday closes every bar a client can have subscribed to, 10,000 of them, at once.
# It may be that far behind, and once more; with trades, 2 s of 10,000 a second.  One place costs
# 8 bytes, so 160 KB per client; what all clients together may have waiting is the hub's to bound.
MAX_PENDING = 20_000

# The session reads no further message of a client that has as many replies, or as many bytes of
# them, to fetch.  One reply has up to 0.2 MB: the names of 1,024 streams.
MAX_PENDING_REPLIES = 16
MAX_REPLY_BYTES = 64 * 1024

# What one turn sends to one client at most, some 70 bars: encoding them takes less than 1 ms.
MAX_BATCH = 32 * 1024


class Outbox:
    """The messages of one client; filled by the hub and the reader, emptied by the pump.

    Args:
        live: The open bars.
        counters: Of all clients together.
        on_work: Called when there is something to take, or a verdict.

    Attributes:
        enveloped: Whether events name their stream.
        verdict: Why the client has to go; None as long as it may stay.
    """

    def __init__(self, live: LiveMessages, counters: Counters, on_work: Callable[[], None]) -> None:
        self.enveloped = False
        self.verdict: str | None = None
        self._live = live
        self._counters = counters
        self._on_work = on_work
        self._replies: deque[bytes] = deque()
        self._reply_bytes = 0
        self._queue: deque[Message] = deque()
        # Of each whether the state before it is unknown to the client.
        self._changed: OrderedDict[Topic, bool] = OrderedDict()
        self._taken = trio.Event()

    @property
    def queued(self) -> int:
        """Closed bars and trades that wait."""
        return len(self._queue)

    @property
    def has_work(self) -> bool:
        """Whether there may be something to take."""
        return bool(self._replies or self._queue or self._changed)

    def put_reply(self, payload: bytes) -> None:
        """Queue a reply."""
        frame = text_frame(payload)
        self._replies.append(frame)
        self._reply_bytes += len(frame)
        self._on_work()

    def put(self, message: Message) -> bool:
        """Queue a closed bar or a trade; return whether there was room for it."""
        if len(self._queue) >= MAX_PENDING:
            self.condemn(f"slow consumer: more than {MAX_PENDING} messages behind")
            return False
        self._queue.append(message)
        counters = self._counters
        counters.pending += 1
        counters.most_pending = max(counters.most_pending, len(self._queue))
        self._on_work()
        return True

    def put_changed(self, topic: Topic, *, afresh: bool = False) -> None:
        """Note that a series' open bar or a ticker changed, or has to be told afresh."""
        if topic in self._changed:
            self._counters.conflated += 1
            self._changed[topic] = True
            return
        self._changed[topic] = afresh
        self._on_work()

    def unmark(self, topics: Iterable[Topic]) -> None:
        """Take back that the open bars of topics changed."""
        for topic in topics:
            self._changed.pop(topic, None)

    def condemn(self, reason: str) -> None:
        """Drop everything; the session closes the connection with ``reason``."""
        self.verdict = reason
        self.clear()
        self._on_work()

    def clear(self) -> None:
        """Drop everything but replies."""
        self._counters.pending -= len(self._queue)
        self._queue.clear()
        self._changed.clear()
        self._taken.set()

    def forget(self, topics: Iterable[Topic]) -> None:
        """Drop what waits of topics that are no longer followed."""
        gone = set(topics)
        for topic in gone:
            self._changed.pop(topic, None)
        kept = deque(message for message in self._queue if message.topic not in gone)
        self._counters.pending -= len(self._queue) - len(kept)
        self._queue = kept
        self._taken.set()

    def take(self) -> bytes | None:
        """Return the next message as a frame, None if nothing waits."""
        if self._replies:
            reply = self._replies.popleft()
            self._reply_bytes -= len(reply)
            self._taken.set()
            return reply
        if self._queue:
            message = self._queue.popleft()
            self._count(message)
            self._taken.set()
            return message.frame(enveloped=self.enveloped)
        while self._changed:
            topic, afresh = self._changed.popitem(last=False)
            update = self._live.of(topic, afresh=afresh)
            if update is not None:
                self._counters.updates += 1
                return update.frame(enveloped=self.enveloped)
        return None

    def take_batch(self) -> bytes:
        """Return the next messages, up to ``MAX_BATCH`` and the one that exceeds it."""
        first = self.take()
        if first is None:
            return b""
        frames, size = [first], len(first)
        while size < MAX_BATCH and (frame := self.take()) is not None:
            frames.append(frame)
            size += len(frame)
        return b"".join(frames)

    def _count(self, message: Message) -> None:
        self._counters.pending -= 1
        if message.topic.feed is Feed.TRADES:
            self._counters.trades += 1
        else:
            self._counters.finals += 1

    async def wait_room(self) -> None:
        """Wait until a further reply may be queued."""
        while len(self._replies) >= MAX_PENDING_REPLIES or self._reply_bytes >= MAX_REPLY_BYTES:
            await self._wait_taken()

    async def wait_replied(self) -> None:
        """Wait until no reply waits any more."""
        while self._replies:
            await self._wait_taken()

    async def wait_queue(self, most: int) -> None:
        """Wait until at most so many closed bars and trades wait."""
        while len(self._queue) > most:
            await self._wait_taken()

    async def _wait_taken(self) -> None:
        if self._taken.is_set():
            self._taken = trio.Event()
        await self._taken.wait()
