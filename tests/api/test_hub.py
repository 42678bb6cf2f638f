"""The laws of the hub, for any sequence of trades, closes, corrections, swaps and slow clients."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klinetrio.api import hub as hub_module
from klinetrio.api import outbox as outbox_module
from klinetrio.api.hub import PushHub
from klinetrio.api.names import OpenMarket
from klinetrio.api.problems import ApiError
from klinetrio.api.streams.names import StreamTopics
from klinetrio.domain.trade import AggTrade
from tests.api.memory_market import START, MemoryMarket
from tests.api.wire import payloads


if TYPE_CHECKING:
    from collections.abc import Iterable

    from klinetrio.api.client import Client
    from klinetrio.api.topics import Topic


ROWS = range(4)


def open_hub(market: MemoryMarket | None = None) -> tuple[MemoryMarket, PushHub]:
    """Return a market and its hub."""
    market = market or MemoryMarket()
    return market, PushHub(lambda: market)


def take_all(client: Client) -> list[dict[str, Any]]:
    """Return everything that waits for a client."""
    taken = []
    while (frame := client.outbox.take()) is not None:
        taken.append(told(frame))
    return taken


def told(frame: bytes) -> dict[str, Any]:
    """Return what a frame of ``/api/v1/ws`` tells."""
    (payload,) = payloads(frame)
    data: dict[str, Any] = orjson.loads(payload)["data"]
    return data


def native(hub: PushHub, rows: Iterable[int]) -> list[Topic]:
    """Return series as ``/api/v1/ws`` tells them."""
    return [hub.native.of_row(row) for row in rows]


def rows_of(client: Client) -> set[int]:
    """Return the series that a client follows."""
    return {topic.index for topic in client.topics}


def series_of(data: dict[str, Any]) -> tuple[str, str]:
    """Return which series a message is about."""
    return data["symbol"], data["interval"]


steps = st.lists(
    st.one_of(
        st.tuples(st.just("trade"), st.sampled_from(ROWS), st.integers(1, 10**6)),
        st.tuples(st.sampled_from(["close", "correct"]), st.sampled_from(ROWS), st.just(0)),
        st.tuples(st.just("swap"), st.just(0), st.just(0)),
        st.tuples(st.just("take"), st.integers(0, 1), st.integers(1, 5)),
        st.tuples(st.just("toggle"), st.integers(0, 1), st.sampled_from(ROWS)),
    ),
    # Hypothesis prefers short lists, in which hardly anybody has subscribed to anything yet.
    min_size=30,
    max_size=100,
)


class Run:
    """Plays steps on a hub with two clients and records who had to get, and who got, what."""

    def __init__(self) -> None:
        self.market, self.hub = open_hub()
        self.clients = [self.hub.join(), self.hub.join()]
        self.due: list[list[tuple[int, int, int]]] = [[], []]
        self.got: list[list[dict[str, Any]]] = [[], []]

    def play(self, step: tuple[str, int, int]) -> None:
        """Carry out one step."""
        name, first, second = step
        if name == "trade":
            self.market.trade(first, second)
        elif name == "close" and self.market.has_open(first):
            self.market.close(first)
        elif name == "correct" and self.market.has_closed(first):
            self.market.correct(first)
        elif name == "swap":
            self.swap()
        elif name == "take":
            for _ in range(second):
                self.take(first)
        elif name == "toggle":
            self.toggle(first, second)

    def swap(self) -> None:
        """Publish, and note which finals each client has to get for it."""
        publication = self.market.swap()
        for client, due in zip(self.clients, self.due, strict=True):
            due += [
                (b.row, b.values[0], b.values[12])
                for b in publication.closed
                if b.row in rows_of(client)
            ]
        self.hub.publish(publication)

    def take(self, number: int) -> None:
        """Let a client take one message."""
        frame = self.clients[number].outbox.take()
        if frame is not None:
            self.got[number].append(told(frame))

    def toggle(self, number: int, row: int) -> None:
        """Subscribe or unsubscribe; the latter after taking all, so that what is due stays known."""
        client = self.clients[number]
        if row in rows_of(client):
            self.got[number] += take_all(client)
            self.hub.unsubscribe(client, native(self.hub, [row]))
        else:
            self.hub.subscribe(client, native(self.hub, [row]))

    def finish(self) -> None:
        """Swap once more and let everybody take everything."""
        self.swap()
        for client, got in zip(self.clients, self.got, strict=True):
            got.extend(take_all(client))

    def row_of(self, data: dict[str, Any]) -> int:
        """Return the row that a message is about."""
        symbols = [symbol.public_name for symbol in self.market.symbols]
        names = [interval.name for interval in self.market.intervals]
        return symbols.index(data["symbol"]) * len(names) + names.index(data["interval"])


def played(plan: list[tuple[str, int, int]]) -> Run:
    """Return a run that is over."""
    run = Run()
    for step in plan:
        run.play(step)
    run.finish()
    return run


@given(steps)
@settings(max_examples=50, deadline=None)
def test_no_final_is_skipped_or_doubled(plan: list[tuple[str, int, int]]) -> None:
    """I1: exactly the closed bars published while subscribed, in their order."""
    run = played(plan)

    for due, got in zip(run.due, run.got, strict=True):
        finals = [
            (run.row_of(d), d["open_time"], 1 | d["revision"] << 8) for d in got if d["is_final"]
        ]
        assert due == finals
        first = Counter((row, time) for row, time, flags in finals if flags >> 8 == 0)
        assert all(count == 1 for count in first.values())


@given(steps)
@settings(max_examples=50, deadline=None)
def test_nothing_but_corrections_follows_a_final(plan: list[tuple[str, int, int]]) -> None:
    """I2: an open bar is never shown again once its final message is out."""
    run = played(plan)

    for got in run.got:
        final_of: dict[tuple[str, str], int] = {}
        for data in got:
            if data["is_final"]:
                final_of[series_of(data)] = max(data["open_time"], final_of.get(series_of(data), 0))
            else:
                assert data["open_time"] > final_of.get(series_of(data), 0)


@given(steps)
@settings(max_examples=50, deadline=None)
def test_final_comes_before_the_next_bar(plan: list[tuple[str, int, int]]) -> None:
    """I2: nobody sees a bar begin before having seen the end of the one before."""
    run = played(plan)

    for got in run.got:
        newest: dict[tuple[str, str], int] = defaultdict(int)
        for data in got:
            if data["is_final"] and data["revision"] == 0:
                assert newest[series_of(data)] <= data["open_time"]
            newest[series_of(data)] = max(newest[series_of(data)], data["open_time"])


@given(steps)
@settings(max_examples=50, deadline=None)
def test_last_update_is_the_newest_state(plan: list[tuple[str, int, int]]) -> None:
    """I3: whatever was left out in between, everybody ends up with the current bar."""
    run = played(plan)

    for client, got in zip(run.clients, run.got, strict=True):
        newest = {run.row_of(data): data for data in got if not data["is_final"]}
        for row in rows_of(client):
            live = run.market.live_row(row)
            if live[0]:
                assert (live[0], live[7]) == (newest[row]["open_time"], newest[row]["trade_count"])


@given(steps)
@settings(max_examples=50, deadline=None)
def test_states_only_move_forward(plan: list[tuple[str, int, int]]) -> None:
    """A client never sees an open bar go back in time."""
    run = played(plan)

    for got in run.got:
        seen: dict[tuple[str, str], tuple[int, int]] = defaultdict(lambda: (0, 0))
        for data in got:
            if not data["is_final"]:
                state = (data["open_time"], data["trade_count"])
                assert state >= seen[series_of(data)]
                seen[series_of(data)] = state


def test_bar_is_encoded_once_for_all_clients() -> None:
    """I4: ten clients on the same two bars cost two encodings per swap."""
    market, hub = open_hub()
    clients = [hub.join() for _ in range(10)]
    for client in clients:
        hub.subscribe(client, native(hub, [0, 1]))
    for _ in range(3):
        market.trade(0)
        market.trade(1)
        hub.publish(market.swap())
        assert all(len(take_all(client)) == 2 for client in clients)
    market.close(0)
    hub.publish(market.swap())
    assert all(len(take_all(client)) == 2 for client in clients)

    assert hub.statistics().encoded == 3 * 2 + 2


def test_unwatched_rows_are_not_touched() -> None:
    """A swap looks up and encodes nothing that nobody watches."""
    market, hub = open_hub()
    client = hub.join()
    hub.subscribe(client, native(hub, [1]))
    take_all(client)
    before = hub.statistics().encoded
    market.trade(0)
    market.close(0)
    market.trade(2)
    hub.publish(market.swap())

    assert take_all(client) == []
    assert hub.statistics().encoded == before


def test_slow_client_gets_the_newest_state_only() -> None:
    """A hundred swaps missed are one message, and counted."""
    market, hub = open_hub()
    client = hub.join()
    hub.subscribe(client, native(hub, [0]))
    for price in range(1, 101):
        market.trade(0, price)
        hub.publish(market.swap())
    (data,) = take_all(client)

    assert (data["trade_count"], data["close"]) == (100, "1.00")
    assert hub.statistics().conflated == 100


def test_client_that_cannot_take_its_finals_is_condemned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Finals are never skipped: too many of them cost the connection, and nobody else's."""
    monkeypatch.setattr(outbox_module, "MAX_PENDING", 3)
    market, hub = open_hub()
    slow, quick = hub.join(), hub.join()
    for client in (slow, quick):
        hub.subscribe(client, native(hub, [0]))
    market.trade(0)
    for _ in range(4):
        market.close(0)
        hub.publish(market.swap())
        assert len(take_all(quick)) == 2

    assert slow.outbox.verdict == "slow consumer: more than 3 messages behind"
    assert slow.outbox.take() is None
    assert quick.outbox.verdict is None
    statistics = hub.statistics()
    assert (statistics.slow_clients, statistics.clients, statistics.subscriptions) == (1, 1, 1)


def test_subscribing_shows_the_current_state_at_once() -> None:
    """A subscriber need not wait for the next trade."""
    market, hub = open_hub()
    market.trade(0, 4242)
    hub.publish(market.swap())
    client = hub.join()
    hub.subscribe(client, native(hub, [0, 1]))

    (data,) = take_all(client)
    assert (data["close"], data["is_final"], data["open_time"]) == ("42.42", False, START)


def test_unsubscribed_series_is_silent() -> None:
    """What waits of a series goes with the subscription, closed bars too."""
    market, hub = open_hub()
    client = hub.join()
    hub.subscribe(client, native(hub, [0, 1]))
    for row in (0, 1):
        market.trade(row)
        market.close(row)
    hub.publish(market.swap())
    hub.unsubscribe(client, native(hub, [0]))

    assert {("BTC_USDT", "1h")} == {series_of(data) for data in take_all(client)}
    assert hub.statistics().subscriptions == 1


def test_subscriptions_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """One row too many adds none of them, per client and in all."""
    monkeypatch.setattr(hub_module, "MAX_SUBSCRIPTIONS_PER_CLIENT", 2)
    monkeypatch.setattr(hub_module, "MAX_SUBSCRIPTIONS", 3)
    _, hub = open_hub()
    first, second = hub.join(), hub.join()
    with pytest.raises(ApiError, match="at most 2 of one client"):
        hub.subscribe(first, native(hub, [0, 1, 2]))
    assert first.topics == set()
    hub.subscribe(first, native(hub, [0, 1]))
    hub.subscribe(first, native(hub, [0, 1]))
    with pytest.raises(ApiError, match="at most 3 of all clients"):
        hub.subscribe(second, native(hub, [0, 1]))

    assert hub.statistics().subscriptions == 2


def test_clients_are_bounded() -> None:
    """One client too many is told to come back later; there is room when one leaves."""
    market = MemoryMarket()
    hub = PushHub(lambda: market, max_clients=1)
    client = hub.join()
    with pytest.raises(ApiError, match="at most 1 push clients"):
        hub.join()
    hub.leave(client)
    hub.leave(client)
    hub.join()

    assert hub.statistics().refused_clients == 1


def test_publishing_needs_neither_clients_nor_market() -> None:
    """The swapper may run before anybody looks."""
    market, hub = MemoryMarket(), PushHub(lambda: None)
    market.trade(0)
    market.close(0)
    hub.publish(market.swap())

    assert hub.statistics().encoded == 0


def open_streams() -> tuple[MemoryMarket, PushHub, StreamTopics]:
    """Return a market, its hub, and the exchange's streams of it."""
    market, hub = open_hub()
    return market, hub, StreamTopics(OpenMarket(lambda: market))


def raw(client: Client) -> list[dict[str, Any]]:
    """Return everything that waits for a client, as it is."""
    taken: list[dict[str, Any]] = []
    while (frame := client.outbox.take()) is not None:
        taken += [orjson.loads(payload) for payload in payloads(frame)]
    return taken


@given(st.lists(st.sampled_from(["a", "b", "swap", "take"]), max_size=60))
@settings(max_examples=50, deadline=None)
def test_every_trade_comes_once_and_in_order(plan: list[str]) -> None:
    """I5: whatever is swapped and taken in between, and of the symbol followed alone."""
    market, hub, streams = open_streams()
    client = hub.join()
    hub.subscribe(client, [streams.named("btcusdt@aggTrade")])
    names = {"a": "BTCUSDT", "b": "ETHUSDC"}
    made, got = 0, []
    for step in [*plan, "swap", "take"]:
        if step in names:
            made += step == "a"
            market.take(AggTrade(names[step], made, 1, 1, 1, 1, START, False))
        elif step == "swap":
            hub.publish(market.swap())
        else:
            got += [event["a"] for event in raw(client)]

    assert got == list(range(1, made + 1))
    assert hub.statistics().pending == 0


@given(steps)
@settings(max_examples=50, deadline=None)
def test_stream_tells_one_end_of_each_bar(plan: list[tuple[str, int, int]]) -> None:
    """I6: corrections are left out, whoever followed when the bar was closed."""
    run = Run()
    topic = StreamTopics(OpenMarket(lambda: run.market)).named("btcusdt@kline_1m")
    client = run.hub.join()
    run.hub.subscribe(client, [topic])
    for step in plan:
        run.play(step)
    run.finish()
    ended = [event["k"]["t"] for event in raw(client) if event["k"]["x"]]
    closed = sorted(run.market._history[0])

    assert closed == ended


def test_clients_together_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """I7: the one that is farthest behind is closed, and the others keep what they have."""
    monkeypatch.setattr(hub_module, "MAX_PENDING_TOTAL", 10)
    market, hub = open_hub()
    slow, slower, quick = hub.join(), hub.join(), hub.join()
    hub.subscribe(slow, native(hub, [0]))
    hub.subscribe(slower, native(hub, [0, 1]))
    for row in (0, 1):
        market.trade(row)
    for _ in range(4):
        market.close(0)
        market.close(1)
        hub.publish(market.swap())

    assert slower.outbox.verdict == "slow consumer: the clients together are too far behind"
    assert (slow.outbox.verdict, slow.outbox.queued) == (None, 4)
    assert quick.outbox.verdict is None
    assert hub.statistics().pending == 4
    assert hub.statistics().slow_clients == 1


def test_names_of_nothing_count_like_any_other() -> None:
    """Made-up streams take room, are not kept when their client goes, and never speak."""
    market, hub, streams = open_streams()
    client = hub.join()
    hub.subscribe(client, [streams.named(f"made-up-{number}") for number in range(100)])
    assert hub.statistics().subscriptions == 100
    market.trade(0)
    hub.publish(market.swap())
    assert raw(client) == []
    hub.leave(client)

    assert (hub.statistics().subscriptions, hub.statistics().series) == (0, 0)
    assert streams._topics == {}
