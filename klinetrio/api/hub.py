"""Who is told of what.

The swapper calls ``publish`` in the step of the swap itself, with no checkpoint in between, so
that live rows and publication always are of the same moment.  It only marks: encoding and sending
are the pump's business, so that no client can delay the swap or another client.

Invariants (tests/api/test_hub.py):
  I1  A follower gets every closed bar of its series that is published, once, in order.
  I2  The final message of a bar comes before anything of the next bar, and nothing but
      corrections (a higher revision) comes after it.
  I3  The last update a client gets of an open bar is that bar's newest state.
  I4  A bar is encoded at most once per wire format and swap, however many clients watch it.
  I5  A follower of trades gets every trade of its symbol that is published, once, in order.
  I6  A topic that tells first finals only tells one of each bar.
  I7  All clients together have at most ``MAX_PENDING_TOTAL`` messages waiting after a swap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np

from klinetrio.api.client import Client
from klinetrio.api.folding import Unread
from klinetrio.api.live import LiveMessages
from klinetrio.api.names import OpenMarket
from klinetrio.api.problems import ApiError
from klinetrio.api.pump import Pump
from klinetrio.api.topics import Counters, Feed, NativeTopics
from klinetrio.domain.kline import OPEN_TIME, revision_of
from klinetrio.httpd import MAX_CONNECTIONS


if TYPE_CHECKING:
    from collections.abc import Collection

    import numpy.typing as npt

    from klinetrio.api.ports import MarketSource
    from klinetrio.api.topics import Message, Topic
    from klinetrio.engine.publication import ClosedBar, Publication

# Half of what the server accepts at all: REST stays reachable.
MAX_CLIENTS = MAX_CONNECTIONS // 2

# 1,000 symbols at 8 intervals are 8,000 series; 10,000 is all of those and room to grow.
MAX_SUBSCRIPTIONS_PER_CLIENT = 10_000

# One subscription costs up to 330 bytes (measured: entries in two sets and one dict), so all of
# them 66 MB.  Enough for 25 clients that want everything of 1,000 symbols.
MAX_SUBSCRIPTIONS = 200_000

# Every subscription's bar closes at once on a Monday's midnight; that, and once more.  Places cost
# 8 bytes each; messages are shared, and only clients that fall behind with different ones reach
# 0.8 KB each: 320 MB.
MAX_PENDING_TOTAL = 2 * MAX_SUBSCRIPTIONS


@attrs.frozen
class PushStatistics:
    """The push side in numbers.

    Attributes:
        clients: Connected now.
        subscriptions: Held by them together.
        series: Distinct topics among these: one thing in one wire format.
        accepted_clients: Since the start.
        refused_clients: Turned away because there was no room.
        slow_clients: Closed because they could not take their closed bars or trades.
        updates: Messages of open bars that were sent.
        finals: Messages of closed bars that were sent.
        trades: Messages of trades that were sent.
        encoded: Messages turned into text; each serves all its followers.
        conflated: Changes that a later one of the same bar made superfluous before being sent.
        pending: Closed bars and trades that wait, of all clients.
        most_pending: High-water mark of any client's.
    """

    clients: int
    subscriptions: int
    series: int
    accepted_clients: int
    refused_clients: int
    slow_clients: int
    updates: int
    finals: int
    trades: int
    encoded: int
    conflated: int
    pending: int
    most_pending: int


class PushHub:
    """Carries each swap to the clients that want to know.

    Args:
        market: Returns the market, None while the daemon is starting.
        max_clients: How many there may be at once.

    Attributes:
        pump: Sends; has to be run.
        native: The series as ``/api/v1/ws`` tells them.
        live: The open bars and tickers.
        followed_tickers: The topics of tickers that somebody follows.
        unread: Those of folded series whose past has to be read before anything is told.
    """

    def __init__(self, market: MarketSource, max_clients: int = MAX_CLIENTS) -> None:
        self._source = market
        self._opened = OpenMarket(market)
        self._max_clients = max_clients
        self._counters = Counters()
        self.pump = Pump()
        self.native = NativeTopics(self._opened)
        self.live = LiveMessages(self._opened, self._counters)
        self._clients: set[Client] = set()
        self._subscription_count = 0
        # The topics that somebody follows.
        self._topic_count = 0
        # Whose past has been told since the last swap.
        self._settling: list[tuple[Client, Topic]] = []
        self._of_rows: dict[int, list[Topic]] = {}
        self._of_symbols: dict[str, list[Topic]] = {}
        self.followed_tickers: set[Topic] = set()
        self.unread = Unread()
        # Which rows somebody follows: picks them out of thousands of changed ones at once.
        self._is_watched: npt.NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)
        # By row the newest bar whose first final has been published.
        self._newest_final: dict[int, int] = {}

    def publish(self, publication: Publication) -> None:
        """Tell followers of one swap; never blocks, never raises because of a client."""
        market = self._source()
        self.live.swapped(0 if market is None else market.now_ms())
        for bar in publication.closed:
            self._publish_final(bar)
        if self._of_symbols:
            self._publish_trades(publication)
        if self._of_rows:
            for row in publication.changed[self._is_watched[publication.changed]].tolist():
                for topic in self._of_rows[row]:
                    self._mark(topic)
        while self._counters.pending > MAX_PENDING_TOTAL:
            self._shed()
        for client, topic in self._settling:
            resumption = client.resuming.get(topic)
            if resumption is not None and resumption.is_over:
                del client.resuming[topic]
        self._settling.clear()

    def settle(self, client: Client, topic: Topic) -> None:
        """Have a resumption that is over end with the next swap."""
        self._settling.append((client, topic))

    def _publish_final(self, bar: ClosedBar) -> None:
        is_first = self._note_final(bar)
        for topic in tuple(self._of_rows.get(bar.row, ())):
            if topic.fold is not None:
                ended = topic.fold.close(bar.values)
                if ended is not None:
                    self._queue(self.live.event(topic, ended))
            elif is_first or not topic.only_first_finals:
                self._queue(self.live.event(topic, bar.values))

    def _publish_trades(self, publication: Publication) -> None:
        for trade in publication.trades:
            for topic in tuple(self._of_symbols.get(trade.symbol, ())):
                self._queue(self.live.event(topic, trade))

    def _note_final(self, bar: ClosedBar) -> bool:
        """Tell whether this is the first time that a bar is told to be closed."""
        newest = self._newest_final.get(bar.row)
        open_time = bar.values[OPEN_TIME]
        if newest is not None and open_time <= newest:
            return False
        self._newest_final[bar.row] = open_time
        # Before the first one of a series it is not known what has been told.
        return newest is not None or revision_of(bar.values) == 0

    def _queue(self, message: Message) -> None:
        # A copy, as a client that has no room leaves on the spot.
        for client in tuple(message.topic.clients):
            resumption = client.resuming.get(message.topic)
            if resumption is not None and resumption.keeps(message):
                continue
            if not client.outbox.put(message):
                self._drop(client)

    def _mark(self, topic: Topic) -> None:
        for client in topic.clients:
            resumption = client.resuming.get(topic)
            if resumption is None or resumption.is_over:
                client.outbox.put_changed(topic)

    def now_read(self, topic: Topic) -> None:
        """Tell followers of a folded series where it stands, as its past is here."""
        self.live.forget(topic)
        self._mark(topic)

    def tell_tickers(self, topic: Topic, renewed: bytes, whole: bytes) -> None:
        """Tell followers of tickers: what is new, or everything to who has missed an event."""
        self.live.put_tickers(topic, renewed, whole)
        for client in topic.clients:
            client.outbox.put_changed(topic)

    def _shed(self) -> None:
        """Close the client that is farthest behind."""
        slowest = max(self._clients, key=lambda client: client.outbox.queued)
        slowest.outbox.condemn("slow consumer: the clients together are too far behind")
        self._drop(slowest)

    def _drop(self, client: Client) -> None:
        self._counters.slow_clients += 1
        self.leave(client)

    def join(self) -> Client:
        """Return a new client.

        Raises:
            ApiError: There are as many as there may be, or the daemon is still starting.
        """
        series_count = len(self._opened.market.symbols) * len(self._opened.market.intervals)
        if len(self._clients) >= self._max_clients:
            self._counters.refused_clients += 1
            message = f"expected at most {self._max_clients} push clients"
            raise ApiError(503, "too_many_clients", message, retry_after_s=10)
        if len(self._is_watched) != series_count:
            self._is_watched = np.zeros(series_count, dtype=np.bool_)
        self.live.now_ms = self.live.now_ms or self._opened.market.now_ms()
        client = Client(self.live, self._counters, self.pump)
        self._clients.add(client)
        self._counters.clients += 1
        return client

    def leave(self, client: Client) -> None:
        """Forget a client; may be called twice."""
        self._clients.discard(client)
        self.unsubscribe(client, tuple(client.topics))
        client.outbox.clear()

    def subscribe(self, client: Client, topics: Collection[Topic]) -> None:
        """Add topics; the newest state of each is sent at once, also of those followed already.

        Raises:
            ApiError: Too many; none was added.
        """
        added = [topic for topic in topics if topic not in client.topics]
        if len(client.topics) + len(added) > MAX_SUBSCRIPTIONS_PER_CLIENT:
            raise _too_many(MAX_SUBSCRIPTIONS_PER_CLIENT, "of one client")
        if self._subscription_count + len(added) > MAX_SUBSCRIPTIONS:
            raise _too_many(MAX_SUBSCRIPTIONS, "of all clients together")
        if client not in self._clients:
            return  # condemned, and about to hear of it
        for topic in added:
            client.topics.add(topic)
            if not topic.clients:
                self._add(topic)
            topic.clients.add(client)
        self._subscription_count += len(added)
        for topic in topics:
            if topic.feed in {Feed.KLINES, Feed.TICKER, Feed.TICKERS}:
                client.outbox.put_changed(topic, afresh=True)

    def unsubscribe(self, client: Client, topics: Collection[Topic]) -> None:
        """Remove topics; what still waits of them is not sent any more."""
        removed = client.topics.intersection(topics)
        if not removed:
            return
        client.topics -= removed
        self._subscription_count -= len(removed)
        client.outbox.forget(removed)
        for topic in removed:
            client.resuming.pop(topic, None)
            topic.clients.discard(client)
            if not topic.clients:
                self._remove(topic)

    def statistics(self) -> PushStatistics:
        """Return the push side in numbers."""
        counters = self._counters
        return PushStatistics(
            clients=len(self._clients),
            subscriptions=self._subscription_count,
            series=self._topic_count,
            accepted_clients=counters.clients,
            refused_clients=counters.refused_clients,
            slow_clients=counters.slow_clients,
            updates=counters.updates,
            finals=counters.finals,
            trades=counters.trades,
            encoded=counters.encoded,
            conflated=counters.conflated,
            pending=counters.pending,
            most_pending=counters.most_pending,
        )

    def _add(self, topic: Topic) -> None:
        """Have swaps reach a topic, which its first client is about to follow."""
        self._topic_count += 1
        if topic.feed is Feed.KLINES:
            self._of_rows.setdefault(topic.index, []).append(topic)
            self._is_watched[topic.index] = True
            if topic.fold is not None:
                self.unread.add(topic, topic.fold)
        elif topic.feed is Feed.TRADES:
            self._of_symbols.setdefault(self._name_of(topic), []).append(topic)
        elif topic.feed in {Feed.TICKER, Feed.TICKERS}:
            self.followed_tickers.add(topic)

    def _remove(self, topic: Topic) -> None:
        """Have swaps leave a topic alone, as its last client is gone."""
        self._topic_count -= 1
        if topic.feed is Feed.KLINES:
            self._of_rows[topic.index].remove(topic)
            if not self._of_rows[topic.index]:
                del self._of_rows[topic.index]
                self._is_watched[topic.index] = False
            if topic.fold is not None:
                topic.fold.reset()
                self.unread.discard(topic)
        elif topic.feed is Feed.TRADES:
            name = self._name_of(topic)
            self._of_symbols[name].remove(topic)
            if not self._of_symbols[name]:
                del self._of_symbols[name]
        elif topic.feed in {Feed.TICKER, Feed.TICKERS}:
            self.followed_tickers.discard(topic)
            self.live.forget_tickers(topic)

    def _name_of(self, topic: Topic) -> str:
        return self._opened.catalog.symbols[topic.index].name


def _too_many(limit: int, whose: str) -> ApiError:
    return ApiError(400, "too_many_subscriptions", f"expected at most {limit} {whose}")
