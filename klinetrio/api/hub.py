"""Who is told of which series.

The swapper calls ``publish`` in the step of the swap itself, with no checkpoint in between, so
that live rows and publication always are of the same moment.  It only marks: encoding and sending
are the clients' own tasks' business, so that no client can delay the swap or another client.

Invariants (tests/api/test_hub.py):
  I1  A subscriber gets every closed bar of its series that is published, once, in order.
  I2  The final message of a bar comes before anything of the next bar, and nothing but
      corrections (a higher revision) comes after it.
  I3  The last update a client gets of an open bar is that bar's newest state.
  I4  A bar is encoded at most once per swap, however many clients watch it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np

from klinetrio.api.names import OpenMarket
from klinetrio.api.outbox import Counters, Final, Messages, Outbox
from klinetrio.api.problems import ApiError


if TYPE_CHECKING:
    from collections.abc import Collection

    import numpy.typing as npt

    from klinetrio.api.ports import MarketSource
    from klinetrio.engine.publication import Publication

# Half of what the server accepts at all (httpd.MAX_CONNECTIONS): REST stays reachable.
MAX_CLIENTS = 256

# 1,000 symbols at 8 intervals are 8,000 series; 10,000 is all of those and room to grow.
MAX_SUBSCRIPTIONS_PER_CLIENT = 10_000

# One subscription costs up to 330 bytes (measured: entries in two sets and one dict), so all of
# them 66 MB.  Enough for 25 clients that want everything of 1,000 symbols.
MAX_SUBSCRIPTIONS = 200_000


@attrs.frozen
class PushStatistics:
    """The push side in numbers.

    Attributes:
        clients: Connected now.
        subscriptions: Held by them together.
        series: Distinct series among these.
        accepted_clients: Since the start.
        refused_clients: Turned away because ``MAX_CLIENTS`` were there.
        slow_clients: Closed because they could not take their closed bars.
        updates: Messages of open bars that were sent.
        finals: Messages of closed bars that were sent.
        encoded: Bars turned into text; each serves all its subscribers.
        conflated: Changes that a later one of the same bar made superfluous before being sent.
        most_pending_finals: High-water mark of any client's queue of closed bars.
    """

    clients: int
    subscriptions: int
    series: int
    accepted_clients: int
    refused_clients: int
    slow_clients: int
    updates: int
    finals: int
    encoded: int
    conflated: int
    most_pending_finals: int


@attrs.define(eq=False)
class Client:
    """One push client: what it wants and what it is to get."""

    outbox: Outbox
    rows: set[int] = attrs.Factory(set)


class PushHub:
    """Carries each swap to the clients that want to know."""

    def __init__(self, market: MarketSource) -> None:
        self._opened = OpenMarket(market)
        self._counters = Counters()
        self._messages = Messages(self._opened, self._counters)
        self._clients: set[Client] = set()
        self._subscribers: dict[int, set[Client]] = {}
        self._subscription_count = 0
        # Which rows somebody subscribed to: picks them out of thousands of changed ones at once.
        self._is_watched: npt.NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)

    def publish(self, publication: Publication) -> None:
        """Tell subscribers of one swap; never blocks, never raises because of a client."""
        self._messages.swapped()
        if not self._subscribers:
            return
        for bar in publication.closed:
            if bar.row in self._subscribers:
                self._publish_final(Final(bar, self._messages))
        for row in publication.changed[self._is_watched[publication.changed]].tolist():
            for client in self._subscribers[row]:
                client.outbox.put_changed(row)

    def _publish_final(self, final: Final) -> None:
        # A copy, as a client that has no room leaves on the spot.
        for client in tuple(self._subscribers.get(final.bar.row, ())):
            if not client.outbox.put_final(final):
                self._counters.slow_clients += 1
                self.leave(client)

    def join(self) -> Client:
        """Return a new client.

        Raises:
            ApiError: There are ``MAX_CLIENTS`` already, or the daemon is still starting.
        """
        series_count = len(self._opened.market.symbols) * len(self._opened.market.intervals)
        if len(self._clients) >= MAX_CLIENTS:
            self._counters.refused_clients += 1
            message = f"expected at most {MAX_CLIENTS} push clients"
            raise ApiError(503, "too_many_clients", message, retry_after_s=10)
        if len(self._is_watched) != series_count:
            self._is_watched = np.zeros(series_count, dtype=np.bool_)
        client = Client(Outbox(self._messages, self._counters))
        self._clients.add(client)
        self._counters.clients += 1
        return client

    def leave(self, client: Client) -> None:
        """Forget a client; may be called twice."""
        self._clients.discard(client)
        self.unsubscribe(client, tuple(client.rows))

    def subscribe(self, client: Client, rows: Collection[int]) -> None:
        """Add series; the current state of each is sent at once.

        Raises:
            ApiError: Too many; none was added.
        """
        added = [row for row in rows if row not in client.rows]
        if len(client.rows) + len(added) > MAX_SUBSCRIPTIONS_PER_CLIENT:
            raise _too_many(MAX_SUBSCRIPTIONS_PER_CLIENT, "of one client")
        if self._subscription_count + len(added) > MAX_SUBSCRIPTIONS:
            raise _too_many(MAX_SUBSCRIPTIONS, "of all clients together")
        for row in added:
            client.rows.add(row)
            self._subscribers.setdefault(row, set()).add(client)
            self._is_watched[row] = True
        self._subscription_count += len(added)
        for row in rows:
            client.outbox.put_changed(row)

    def unsubscribe(self, client: Client, rows: Collection[int]) -> None:
        """Remove series; what still waits of them is not sent any more."""
        removed = client.rows.intersection(rows)
        client.rows -= removed
        self._subscription_count -= len(removed)
        client.outbox.forget(removed)
        for row in removed:
            subscribers = self._subscribers[row]
            subscribers.discard(client)
            if not subscribers:
                del self._subscribers[row]
                self._is_watched[row] = False

    def statistics(self) -> PushStatistics:
        """Return the push side in numbers."""
        counters = self._counters
        return PushStatistics(
            clients=len(self._clients),
            subscriptions=self._subscription_count,
            series=len(self._subscribers),
            accepted_clients=counters.clients,
            refused_clients=counters.refused_clients,
            slow_clients=counters.slow_clients,
            updates=counters.updates,
            finals=counters.finals,
            encoded=counters.encoded,
            conflated=counters.conflated,
            most_pending_finals=counters.most_pending_finals,
        )


def _too_many(limit: int, whose: str) -> ApiError:
    return ApiError(400, "too_many_subscriptions", f"expected at most {limit} {whose}")
