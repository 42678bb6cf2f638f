"""The exchange's mini tickers, over real sockets and beside ``ticker/24hr``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest
import trio

from klinetrio.api.hub import PushHub
from klinetrio.api.names import OpenMarket
from klinetrio.api.streams import tickers
from klinetrio.api.streams.names import StreamTopics
from klinetrio.errors import StoreError
from tests.api.daemon import Daemon, connected, hear, running
from tests.api.memory_market import START, SYMBOLS, MemoryMarket
from tests.api.wire import ask, payloads, request


if TYPE_CHECKING:
    from collections.abc import Sequence

ALL = "!miniTicker@arr"
BTC = "btcusdt@miniTicker"
NAMES = [each.name for each in SYMBOLS]


class CountedMarket(MemoryMarket):
    """Counts how often its history was read."""

    reads = 0

    async def klines(
        self, row: int, *, start: int | None, end: int | None, limit: int
    ) -> Sequence[Sequence[int]]:
        """Return bars."""
        self.reads += 1
        return await super().klines(row, start=start, end=end, limit=limit)


@pytest.fixture(autouse=True)
def in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds follow each other closely."""
    monkeypatch.setattr(tickers, "ROUND_S", 0.01)


def move(daemon: Daemon, *indexes: int, price: int = 100) -> None:
    """Have trades change the open minute and hour of symbols."""
    for index in indexes:
        for which in (0, 1):
            daemon.market.trade(3 * index + which, price)
    daemon.swap()


async def day_of(daemon: Daemon, symbol: str) -> dict[str, Any]:
    """Return what ``ticker/24hr`` answers."""
    headers = "Connection: close\r\n"
    reply = await ask(
        daemon.served, request(f"/fapi/v1/ticker/24hr?symbol={symbol}", headers=headers)
    )
    answer: dict[str, Any] = orjson.loads(reply.partition(b"\r\n\r\n")[2])
    return answer


async def test_an_event_is_the_exchanges_to_the_byte() -> None:
    """Keys, their order, types; the window is that of the last 24 hours."""
    async with running() as daemon:
        daemon.market.now = START + 700
        move(daemon, 0, price=9_308_490)
        move(daemon, 0, price=9_308_500)
        async with connected(daemon, f"/market/ws/{BTC}") as client:
            text = await client.get_message()

    assert text == (
        f'{{"e":"24hrMiniTicker","E":{START + 700},"s":"BTCUSDT","c":"93085.00","o":"93084.90",'
        '"h":"93085.00","l":"93084.90","v":"0.002","q":"186.17","ps":"BTCUSDT","st":1}'
    )


async def test_a_ticker_is_what_ticker_24hr_says() -> None:
    """At every change, and again for who comes later though nothing has changed."""
    async with running() as daemon:
        move(daemon, 0)
        async with connected(daemon, f"/ws/{BTC}") as client, connected(daemon, "/ws") as other:
            for price in (100, 170, 40):
                move(daemon, 0, price=price)
                day = await day_of(daemon, "BTCUSDT")
                event = await hear(client)
                while event["c"] != day["lastPrice"] or event["v"] != day["volume"]:
                    event = await hear(client)
                told = [event[key] for key in "ohlvq"]
                keys = ("openPrice", "highPrice", "lowPrice", "volume", "quoteVolume")
                assert told == [day[key] for key in keys]
            await other.send_message(f'{{"method":"SUBSCRIBE","params":["{BTC}"],"id":1}}')
            heard = [await hear(other), await hear(other)]
            assert event in heard


async def test_all_symbols_come_first_and_then_those_that_changed() -> None:
    """One array a round, none if nothing has changed."""
    async with running() as daemon:
        move(daemon, 0, 1, 2)
        async with connected(daemon, f"/stream?streams={ALL}") as client:
            first = await hear(client)
            move(daemon, 1, price=150)
            second = await hear(client)
            async with connected(daemon, f"/ws/{ALL}") as late:
                third = await hear(late)

    assert first["stream"] == second["stream"] == ALL
    assert [each["s"] for each in first["data"]] == NAMES
    assert [(each["s"], each["c"]) for each in second["data"]] == [("ETHUSDC", "1.50")]
    assert [(each["s"], each["c"]) for each in third] == [
        ("BTCUSDT", "1.00"),
        ("ETHUSDC", "1.50"),
        ("币安人生USDT", "0.00100"),
    ]


async def test_a_symbol_that_never_traded_is_not_told() -> None:
    """It has no window; nor do all of them together have one before the first trade."""
    async with running() as daemon, connected(daemon, f"/ws/{ALL}") as client:
        while not daemon.hub.followed_tickers:
            await trio.sleep(0.01)
        move(daemon, 2)
        assert [each["s"] for each in await hear(client)] == ["币安人生USDT"]
        move(daemon, 0)
        assert [each["s"] for each in await hear(client)] == ["BTCUSDT"]


def test_who_missed_an_array_is_told_all() -> None:
    """Two clients of one topic: the one takes every event, the other one is slow."""
    market = MemoryMarket()
    hub = PushHub(lambda: market)
    topic = StreamTopics(OpenMarket(lambda: market)).named(ALL)
    quick, slow = hub.join(), hub.join()
    for client in (quick, slow):
        hub.subscribe(client, [topic])
    for renewed, whole in ((b"[1]", b"[1]"), (b"[2]", b"[1,2]"), (b"[3]", b"[1,2,3]")):
        hub.tell_tickers(topic, renewed, whole)
        assert payloads(quick.outbox.take_batch()) == [whole if renewed == b"[1]" else renewed]

    assert payloads(slow.outbox.take_batch()) == [b"[1,2,3]"]
    hub.tell_tickers(topic, b"[4]", b"[1,2,3,4]")
    assert payloads(slow.outbox.take_batch()) == [b"[4]"]


async def test_what_nobody_follows_costs_nothing() -> None:
    """No window is read, and none is kept, before somebody asks and after everybody has gone."""
    market = CountedMarket()
    async with running(market) as daemon:
        move(daemon, 0, 1)
        await trio.sleep(5 * tickers.ROUND_S)
        assert market.reads == 0
        async with connected(daemon, f"/ws/{BTC}") as client:
            await hear(client)
            # The edge and the closed long bars, of that symbol alone.
            assert market.reads == 2
            await client.aclose()
        while daemon.hub.followed_tickers:
            await trio.sleep(0.01)
        assert not daemon.hub.statistics().series


async def test_a_history_that_cannot_be_read_delays_tickers_only() -> None:
    """They come once it can."""
    market = MemoryMarket()
    market.failure = StoreError("the database is away")
    async with running(market) as daemon:
        move(daemon, 0)
        async with connected(daemon, f"/ws/{BTC}/btcusdt@kline_1m") as client:
            assert (await hear(client))["e"] == "kline"
            await trio.sleep(5 * tickers.ROUND_S)
            market.failure = None
            assert (await hear(client))["e"] == "24hrMiniTicker"
