"""One connection: what comes in goes on, what is bad is counted, and death is noticed."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import attrs
import orjson
import pytest
import trio
import trio.testing

from klinetrio.domain.symbol import Symbol
from klinetrio.errors import ConfigError, FeedLost, NetworkError, ProxyError
from klinetrio.exchange import connection, session
from klinetrio.exchange.clock import ExchangeClock
from klinetrio.exchange.connection import (
    RENEW_AFTER_S,
    FeedContext,
    FeedCounts,
    Link,
    make_link,
    run_connection,
)
from klinetrio.exchange.dial import Dialer, parse_proxy
from klinetrio.exchange.feed import MAX_STREAMS, plan_feed, run_feed
from klinetrio.exchange.pacer import Pacer
from klinetrio.exchange.session import MAX_AHEAD_MS, MAX_BEHIND_MS
from klinetrio.sim.faults import GARBAGE
from klinetrio.supervise import describe
from tests.exchange.surroundings import LIMIT_S, Surroundings, open_surroundings


if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from klinetrio.domain.trade import AggTrade
    from klinetrio.sim import FaultPlan

BTC = Symbol("BTCUSDT", "BTC", "USDT", 0, 2, 3)
ETH = Symbol("ETHUSDT", "ETH", "USDT", 0, 2, 3)
CHINESE = Symbol("币安人生USDT", "币安人生", "USDT", 0, 7, 0)


@attrs.define
class Sink:
    """Takes trades, remembers everything, and lets a test wait for it."""

    trades: list[AggTrade] = attrs.field(factory=list)
    feed: list[tuple[str, bool]] = attrs.field(factory=list)
    changed: trio.Event = attrs.field(factory=trio.Event)

    async def deliver(self, trade: AggTrade, received: float) -> None:
        """Take one trade."""
        assert received > 0
        self.trades.append(trade)
        await self._tell()

    def set_feed(self, symbol: Symbol, *, up: bool) -> None:
        """Take note."""
        self.feed.append((symbol.name, up))
        self.changed.set()

    async def _tell(self) -> None:
        self.changed.set()
        await trio.lowlevel.checkpoint()

    async def until_trades(self, number: int) -> None:
        """Wait until so many trades are here."""
        while len(self.trades) < number:
            self.changed = trio.Event()
            await self.changed.wait()

    async def until_id(self, agg_id: int) -> None:
        """Wait until a trade is here."""
        while agg_id not in self.ids():
            self.changed = trio.Event()
            await self.changed.wait()

    def ids(self) -> list[int]:
        """Return the ids in the order they came."""
        return [trade.agg_id for trade in self.trades]


@attrs.define
class Running:
    """A connection under way, and everything around it."""

    world: Surroundings
    link: Link
    sink: Sink
    counts: FeedCounts
    lost: trio.Event = attrs.field(factory=trio.Event)
    reason: NetworkError | None = None

    async def run(self, context: FeedContext) -> None:
        """Run the connection once and keep what it ended with."""
        try:
            await run_connection(self.link, context)
        except* NetworkError as group:
            self.reason = _first(group)
        self.lost.set()

    async def until_subscribed(self) -> None:
        """Wait until the exchange knows us."""
        while not self.world.exchange.subscribers("BTCUSDT"):
            await trio.sleep(0.001)

    async def until_frames(self, number: int) -> None:
        """Wait until so many frames have come in."""
        while self.counts.frames < number:
            await trio.sleep(0.001)

    def trade(self, symbol: str = "BTCUSDT") -> int:
        """Have a trade happen; return its id."""
        return self.world.market.trade(symbol, "100.00", "1.000").agg_id


def _first(group: BaseExceptionGroup[NetworkError]) -> NetworkError:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


@asynccontextmanager
async def open_running(
    *symbols: Symbol, faults: FaultPlan | None = None, renew_after_s: float = RENEW_AFTER_S
) -> AsyncIterator[Running]:
    """Open an exchange, and a connection to it that is subscribed."""
    async with open_surroundings(faults=faults) as world:
        link = make_link(world.ws_url, symbols or (BTC,))
        running = Running(world, link, Sink(), FeedCounts())
        pacer = Pacer(60_000)
        context = FeedContext(
            world.dialer(), pacer, world.clock, running.sink, running.counts, renew_after_s
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(running.run, context)
            await running.until_subscribed()
            yield running
            nursery.cancel_scope.cancel()


async def test_a_link_goes_to_a_raw_stream_or_a_combined_one() -> None:
    """Names are percent-encoded UTF-8, lowered where they are ASCII."""
    base = "wss://fstream.binance.com/market"
    assert make_link(base, [BTC]).url == f"{base}/ws/btcusdt@aggTrade"
    assert make_link(f"{base}/", [BTC]).url == f"{base}/ws/btcusdt@aggTrade"
    name = "%E5%B8%81%E5%AE%89%E4%BA%BA%E7%94%9Fusdt@aggTrade"
    assert make_link(base, [CHINESE]).url == f"{base}/ws/{name}"
    both = make_link(base, [BTC, CHINESE])
    assert both.url == f"{base}/stream?streams=btcusdt@aggTrade/{name}"
    assert both.name == "btcusdt@aggTrade+1"
    assert {"BTCUSDT", "币安人生USDT"} == set(both.symbols)


async def test_a_plan_covers_every_symbol_once() -> None:
    """In connections of the wanted size; one that makes too long a URL is refused."""
    symbols = [Symbol(f"S{number:03}USDT", f"S{number:03}", "USDT", 0, 2, 3) for number in range(7)]
    plan = plan_feed("ws://x", symbols, 3)
    assert [3, 3, 1] == [len(each.link.symbols) for each in plan]
    names = [name for each in plan for name in each.link.symbols]
    assert [symbol.name for symbol in symbols] == names
    many = [Symbol(f"S{number:04}USDT", "S", "USDT", 0, 2, 3) for number in range(MAX_STREAMS)]
    with pytest.raises(ConfigError, match=r"exchange\.streams_per_connection: expected a URL of"):
        plan_feed("ws://x", many, MAX_STREAMS)


async def test_trades_go_on_to_the_sink() -> None:
    """In order, and the feed is up while the connection is."""
    async with open_running() as running:
        ids = [running.trade() for _ in range(20)]
        await running.sink.until_trades(20)
        assert ids == running.sink.ids()
        assert running.link.state == "up"
        assert running.sink.feed == [("BTCUSDT", True)]
        assert (running.counts.frames, running.counts.trades, running.counts.bad) == (20, 20, {})
        assert running.link.frames == running.counts.transit.count == 20
    assert running.sink.feed == [("BTCUSDT", True), ("BTCUSDT", False)]
    assert running.link.state == "waiting"


async def test_several_streams_share_a_connection() -> None:
    """Each symbol's feed goes up and down with it."""
    async with open_running(BTC, ETH) as running:
        ids = [running.trade("BTCUSDT"), running.trade("ETHUSDT"), running.trade("BTCUSDT")]
        await running.sink.until_trades(3)
        assert ids == running.sink.ids()
        running.world.exchange.close_connections()
        await running.lost.wait()
    expected = [(name, up) for up in (True, False) for name in ("BTCUSDT", "ETHUSDT")]
    assert expected == running.sink.feed


async def test_bad_frames_are_counted_and_change_nothing() -> None:
    """Whatever comes between the trades."""
    async with open_running() as running:
        ids = []
        for garbage in GARBAGE:
            running.world.exchange.inject("BTCUSDT", garbage)
            ids.append(running.trade())
        await running.sink.until_trades(len(ids))
        assert ids == running.sink.ids()
        assert len(GARBAGE) * 2 == running.counts.frames
        assert set(running.counts.bad) == {"garbage", "field"}
        assert not running.lost.is_set()


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"s": "DOGEUSDT"}, "symbol"),
        ({"s": ["BTCUSDT"]}, "symbol"),
        ({"p": "100.001"}, "precision"),
        ({"q": "9999999999999999999"}, "range"),
        ({"a": -1}, "field"),
    ],
)
async def test_a_bad_trade_is_counted_by_its_kind(change: dict[str, object], kind: str) -> None:
    """And is not delivered."""
    async with open_running() as running:
        good = {"e": "aggTrade", "s": "BTCUSDT", "p": "1.00", "q": "1", "m": True}
        good |= {"a": 7, "f": 1, "l": 1, "T": running.world.clock.now_ms()}
        running.world.exchange.inject("BTCUSDT", orjson.dumps({**good, **change}).decode())
        running.world.exchange.inject("BTCUSDT", orjson.dumps(good).decode())
        await running.sink.until_trades(1)
        assert running.sink.ids() == [7]
        assert running.counts.bad == {kind: 1}


async def test_a_trade_of_the_future_is_refused() -> None:
    """No trade can be younger than the exchange's clock, give or take."""
    async with open_running() as running:
        now = running.world.clock.now_ms()
        running.world.market.trade("BTCUSDT", "1.00", "1.000", now + MAX_AHEAD_MS + 10_000)
        fine = running.world.market.trade("BTCUSDT", "1.00", "1.000", now + MAX_AHEAD_MS // 2)
        await running.sink.until_trades(1)
        assert [fine.agg_id] == running.sink.ids()
        assert running.counts.bad == {"future": 1}


async def test_an_ancient_trade_is_refused() -> None:
    """As a symbol's first it would make a bar of every minute since: 13 s for a year."""
    async with open_running() as running:
        now = running.world.clock.now_ms()
        for age in (now - 1, MAX_BEHIND_MS + 10_000):
            running.world.market.trade("BTCUSDT", "1.00", "1.000", now - age)
        fine = running.world.market.trade("BTCUSDT", "1.00", "1.000", now - MAX_BEHIND_MS // 2)
        await running.sink.until_trades(1)
        assert [fine.agg_id] == running.sink.ids()
        assert running.counts.bad == {"past": 2}


async def test_a_close_and_a_drop_are_lost_feeds() -> None:
    """With the server's reason where it gave one."""
    async with open_running() as running:
        running.world.exchange.close_connections(code=1008, reason="Too many requests")
        await running.lost.wait()
        assert str(running.reason) == "closed with 1008 Too many requests"
    async with open_running() as running:
        running.world.exchange.drop_connections()
        await running.lost.wait()
        assert isinstance(running.reason, FeedLost)


NOTICES = ['{"e":"serverShutdown","E":1}', '{"event":{"e":"serverShutdown","E":1}}']


@pytest.mark.parametrize("notice", NOTICES)
async def test_an_announced_shutdown_costs_no_trade(
    monkeypatch: pytest.MonkeyPatch, notice: str
) -> None:
    """The successor is up before the announced end; what both deliver is for the ids to sort out."""
    monkeypatch.setattr(connection, "MIN_AGE_S", 0.0)
    async with open_running() as running:
        ids = [running.trade()]
        running.world.exchange.inject("BTCUSDT", notice)
        await _until_renewed(running, ids)
        # The one that is left is not the one that was told to go.
        ids.append(running.trade())
        await running.sink.until_id(ids[-1])
        assert sorted(set(running.sink.ids())) == ids
        assert running.sink.feed == [("BTCUSDT", True)]
        assert running.link.state == "up"
        assert not running.lost.is_set()


async def test_a_session_is_succeeded_before_it_gets_too_old(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Again and again, while trades flow; nothing is lost, and only the overlap comes twice."""
    monkeypatch.setattr(connection, "LINGER_S", 0.05)
    async with open_running(renew_after_s=0.2) as running:
        ids: list[int] = []
        for _ in range(3):
            await _until_renewed(running, ids)
        await running.sink.until_id(ids[-1])
        assert sorted(set(running.sink.ids())) == ids
        assert running.sink.feed == [("BTCUSDT", True)]


async def test_a_quiet_symbol_is_succeeded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The successor never speaks, and takes over all the same."""
    monkeypatch.setattr(connection, "LINGER_S", 0.01)
    monkeypatch.setattr(connection, "OVERLAP_S", 0.05)
    async with open_running(renew_after_s=0.1) as running:
        await _until_renewed(running, None)
        while running.world.exchange.subscribers("BTCUSDT") != 1:
            await trio.sleep(0.001)
        running.trade()
        await running.sink.until_trades(1)


async def test_the_end_of_a_retiring_session_is_no_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exchange may close it first; nobody hears of it."""
    monkeypatch.setattr(connection, "MIN_AGE_S", 0.0)
    monkeypatch.setattr(connection, "OVERLAP_S", LIMIT_S)
    async with open_running() as running:
        (old,) = running.world.exchange._chosen("BTCUSDT")
        running.world.exchange.inject("BTCUSDT", NOTICES[0])
        while running.world.exchange.subscribers("BTCUSDT") < 2:
            await trio.sleep(0.001)
        old.drop()
        while running.world.exchange.subscribers("BTCUSDT") > 1:
            await trio.sleep(0.001)
        running.trade()
        await running.sink.until_trades(1)
        assert not running.lost.is_set()
        assert running.sink.feed == [("BTCUSDT", True)]


async def test_a_successor_that_cannot_connect_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The old session delivers meanwhile, and until the end if need be."""
    monkeypatch.setattr(connection, "MIN_AGE_S", 0.0)
    monkeypatch.setattr(connection, "LINGER_S", 0.01)
    async with open_running() as running:
        url, running.link.url = running.link.url, running.link.url.replace("/market", "/nowhere")
        running.world.exchange.inject("BTCUSDT", NOTICES[0])
        await running.until_frames(1)
        await trio.testing.wait_all_tasks_blocked(0.05)
        ids = [running.trade()]
        await running.sink.until_trades(1)
        running.link.url = url
        await _until_renewed(running, ids)
        assert set(running.sink.ids()) <= set(ids)
        assert running.sink.feed == [("BTCUSDT", True)]


async def _until_renewed(running: Running, ids: list[int] | None) -> None:
    """Wait for one more succession; have trades happen all the while if ``ids`` are to be noted."""
    before = running.counts.renewed
    while running.counts.renewed == before:
        await trio.sleep(0.005)
        if ids is not None:
            ids.append(running.trade())


async def test_without_frames_and_pongs_a_connection_is_dead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A server that has silently gone is noticed."""
    monkeypatch.setattr(session, "PING_AFTER_S", 0.2)
    monkeypatch.setattr(session, "PONG_TIMEOUT_S", 0.2)
    async with open_running() as running:
        assert running.world.exchange.mute("BTCUSDT", pongs=False) == 1
        await running.lost.wait()
        assert "neither frame nor pong" in str(running.reason)
    assert ("BTCUSDT", False) == running.sink.feed[-1]


async def test_with_pongs_alone_a_connection_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    """A symbol may be quiet for as long as it likes."""
    monkeypatch.setattr(session, "PING_AFTER_S", 0.05)
    monkeypatch.setattr(session, "PONG_TIMEOUT_S", 5.0)
    async with open_running() as running:
        assert running.world.exchange.mute("BTCUSDT", pongs=True) == 1
        seen: set[float] = set()
        while len(seen) < 5:
            await trio.sleep(0.01)
            seen.add(running.link.last_pong)
        assert not running.lost.is_set()
        assert running.link.state == "up"


async def test_a_refused_handshake_is_no_bug() -> None:
    """Neither HTTP 404 nor a proxy that is not there may look like one of ours."""
    async with open_surroundings() as world:
        sink, counts = Sink(), FeedCounts()
        url = world.ws_url.replace("/market", "/nowhere")
        context = FeedContext(world.dialer(), Pacer(60_000), world.clock, sink, counts)
        with pytest.raises(ExceptionGroup) as caught:
            await run_connection(make_link(url, [BTC]), context)
        assert describe(caught.value) == "WebSocket refused with HTTP 404"
        assert sink.feed == [("BTCUSDT", False)]

        nobody = Dialer(parse_proxy("socks5h://127.0.0.1:1"))
        context = attrs.evolve(context, dialer=nobody)
        with pytest.raises(ExceptionGroup) as caught:
            await run_connection(make_link(world.ws_url, [BTC]), context)
        assert caught.value.split(ProxyError)[1] is None


async def test_a_lost_connection_comes_back_by_itself() -> None:
    """Its supervisor opens it again, and only it; what it missed shows in the ids."""
    async with open_surroundings() as world:
        sink = Sink()
        context = FeedContext(world.dialer(), Pacer(60_000), world.clock, sink, FeedCounts())
        links = plan_feed(world.ws_url, [BTC, ETH], 1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_feed, links, context)
            await _until_both(world)
            first = world.market.trade("BTCUSDT", "1.00", "1.000").agg_id
            await sink.until_trades(1)
            world.exchange.drop_connections("BTCUSDT")
            while world.exchange.subscribers("BTCUSDT"):
                await trio.sleep(0.001)
            world.market.trade("BTCUSDT", "1.00", "1.000")
            await _until_both(world)
            world.market.trade("BTCUSDT", "1.00", "1.000")
            await sink.until_trades(2)
            assert [first, first + 2] == sink.ids()
            assert [1, 0] == [each.supervision.restarts for each in links]
            nursery.cancel_scope.cancel()


async def _until_both(world: Surroundings) -> None:
    while not (world.exchange.subscribers("BTCUSDT") and world.exchange.subscribers("ETHUSDT")):
        await trio.sleep(0.001)


async def test_connections_wait_for_their_place() -> None:
    """The pacer comes before the dialler, and waiting can be cancelled."""
    with trio.fail_after(LIMIT_S):
        pacer = Pacer(1)
        await pacer.wait()
        sink = Sink()
        nobody = Dialer(parse_proxy("socks5h://127.0.0.1:1"))
        context = FeedContext(nobody, pacer, ExchangeClock(), sink, FeedCounts())
        link = make_link("ws://x", [BTC])
        with trio.move_on_after(0.1):
            await run_connection(link, context)
        assert link.state == "waiting"
