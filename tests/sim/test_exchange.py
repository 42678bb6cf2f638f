"""The streams and the imperative faults, over real sockets with a client of another make."""

from __future__ import annotations

import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import quote

import httpx2
import orjson
import pytest
import trio
import trustme
from trio_websocket import ConnectionClosed, WebSocketConnection

from klinetrio.sim import (
    FaultPlan,
    ScriptedMarket,
    SeededMarket,
    SimulatedExchange,
    open_simulated_exchange,
)
from klinetrio.sim.ws import MAX_QUEUED


if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    Bounded = Callable[[], AbstractContextManager[Any]]

CHINESE = "币安人生USDT"

UPGRADE = (
    b"GET %s HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@pytest.fixture
def market() -> ScriptedMarket:
    """Return a market of three symbols in which nothing happens by itself."""
    return ScriptedMarket(["BTCUSDT", "ETHUSDT", CHINESE])


async def subscribers(exchange: SimulatedExchange, symbol: str, count: int) -> None:
    """Wait until so many connections are subscribed: the server learns of it a turn later."""
    while exchange.subscribers(symbol) != count:
        await trio.sleep(0.001)


async def receive(websocket: WebSocketConnection) -> Any:
    """Return the next message, parsed."""
    return orjson.loads(await websocket.get_message())


async def nothing_comes(websocket: WebSocketConnection) -> bool:
    """Tell whether the stream is silent for a moment."""
    with trio.move_on_after(0.1) as patience:
        await websocket.get_message()
    return patience.cancelled_caught


async def test_raw_and_combined_streams(
    market: ScriptedMarket, bounded: Bounded, open_stream: Any
) -> None:
    """The raw stream has the event, the combined one has it in an envelope, byte for byte."""
    with bounded():
        async with (
            open_simulated_exchange(market) as exchange,
            open_stream(f"{exchange.ws_url}/ws/btcusdt@aggTrade") as raw,
            open_stream(f"{exchange.ws_url}/stream?streams=btcusdt@aggTrade") as combined,
        ):
            await subscribers(exchange, "BTCUSDT", 2)
            trade = market.trade("BTCUSDT", "83091.70", "0.022", 1_791_382_992_338)
            text = await raw.get_message()
            envelope = f'{{"stream":"btcusdt@aggTrade","data":{text}}}'
            assert envelope == await combined.get_message()
    event = orjson.loads(text)
    assert list(event) == ["e", "E", "a", "s", "p", "q", "nq", "f", "l", "T", "m", "st"]
    assert [event[k] for k in ("e", *"spq", "st")] == [
        "aggTrade",
        "BTCUSDT",
        "83091.70",
        "0.022",
        1,
    ]
    assert (trade.agg_id, trade.time, False) == (event["a"], event["T"], event["m"])


async def test_trades_come_under_market_only(
    market: ScriptedMarket, bounded: Bounded, open_stream: Any
) -> None:
    """Unrouted and /public connections, and upper-case names: acknowledged, and silent."""
    with bounded():
        async with open_simulated_exchange(market) as exchange:
            base = exchange.ws_url.removesuffix("/market")
            async with (
                open_stream(f"{base}/ws") as unrouted,
                open_stream(f"{base}/public/ws/btcusdt@aggTrade") as public,
                open_stream(f"{base}/market/ws/BTCUSDT@aggTrade") as upper,
                open_stream(f"{base}/market/ws") as routed,
            ):
                ask = '{"method":"SUBSCRIBE","params":["btcusdt@aggTrade"],"id":"u"}'
                for websocket in (unrouted, routed):
                    await websocket.send_message(ask)
                    assert await receive(websocket) == {"result": None, "id": "u"}
                market.trade("BTCUSDT", "1", "1")
                assert (await receive(routed))["e"] == "aggTrade"
                for websocket in (unrouted, public, upper):
                    assert await nothing_comes(websocket)


async def test_non_ascii_symbols_have_streams(
    market: ScriptedMarket, bounded: Bounded, open_stream: Any
) -> None:
    """Percent-encoded in the URL, raw in messages, lower-case in ASCII letters only."""
    stream = "币安人生usdt@aggTrade"
    with bounded():
        async with (
            open_simulated_exchange(market) as exchange,
            open_stream(f"{exchange.ws_url}/ws/{quote(stream)}") as websocket,
        ):
            await subscribers(exchange, CHINESE, 1)
            market.trade(CHINESE, "1", "1")
            assert (await receive(websocket))["s"] == CHINESE


async def test_unsubscribed_is_silent_and_twice_is_once(
    market: ScriptedMarket, bounded: Bounded, open_stream: Any
) -> None:
    """A second SUBSCRIBE does not double the delivery; UNSUBSCRIBE ends it."""
    with bounded():
        async with (
            open_simulated_exchange(market) as exchange,
            open_stream(f"{exchange.ws_url}/ws/btcusdt@aggTrade") as websocket,
        ):
            await websocket.send_message('{"method":"SUBSCRIBE","params":["btcusdt@aggTrade"]}')
            assert await receive(websocket) == {"result": None, "id": None}
            market.trade("BTCUSDT", "1", "1")
            assert (await receive(websocket))["p"] == "1.00"
            await websocket.send_message('{"method":"UNSUBSCRIBE","params":["btcusdt@aggTrade"]}')
            assert await receive(websocket) == {"result": None, "id": None}
            market.trade("BTCUSDT", "2", "1")
            assert await nothing_comes(websocket)
            assert len(exchange.delivered("BTCUSDT")) == 1


async def drain(websocket: WebSocketConnection) -> NoReturn:
    """Read for ever."""
    while True:
        await websocket.get_message()


async def closing(websocket: WebSocketConnection) -> tuple[int, str | None]:
    """Read to the end; return the reason."""
    with pytest.raises(ConnectionClosed) as caught:
        await drain(websocket)
    assert caught.value.reason is not None
    return caught.value.reason.code, caught.value.reason.reason


async def test_broken_rules_close_with_1008(
    market: ScriptedMarket, bounded: Bounded, open_stream: Any
) -> None:
    """A binary frame, too many messages, too many streams in the URL."""
    with bounded():
        async with open_simulated_exchange(market) as exchange:
            url = f"{exchange.ws_url}/ws"
            async with open_stream(url) as websocket:
                await websocket.send_message(b"{}")
                assert await closing(websocket) == (1008, "Invalid request")
            async with open_stream(url) as websocket:
                for _ in range(16):
                    await websocket.send_message('{"method":"LIST_SUBSCRIPTIONS","id":1}')
                for _ in range(15):
                    assert await receive(websocket) == {"result": [], "id": 1}
                assert await closing(websocket) == (1008, "Too many requests")
            names = "/".join(f"{n}@x" for n in range(1025))
            async with open_stream(f"{url}/{names}") as websocket:
                assert await closing(websocket) == (1008, "Invalid request")


async def test_pings_carry_the_time_and_want_an_answer(
    market: ScriptedMarket, bounded: Bounded, open_stream: Any
) -> None:
    """A client that answers stays; one that never reads, and so never answers, is dropped."""
    with bounded():
        async with open_simulated_exchange(
            market, ping_interval_s=0.2, pong_timeout_s=2.0
        ) as exchange:
            mute = await trio.open_tcp_stream("127.0.0.1", int(exchange.ws_url.split(":")[2][:-7]))
            await mute.send_all(UPGRADE % b"/market/ws")
            async with mute, open_stream(f"{exchange.ws_url}/ws") as websocket:
                received = bytearray()
                with suppress(trio.BrokenResourceError):  # a reset, in fact
                    async for chunk in mute:
                        received += chunk
                _, ping = received.split(b"\r\n\r\n", 1)
                assert ping[0] == 0x89
                assert abs(int(ping[2 : 2 + ping[1]]) - market.clock.now_ms()) < 10_000
                assert exchange.statistics().connections_open == 1
                await websocket.send_message('{"method":"LIST_SUBSCRIPTIONS","id":1}')
                assert await receive(websocket) == {"result": [], "id": 1}


async def test_connections_have_a_lifetime(
    market: ScriptedMarket, bounded: Bounded, open_stream: Any
) -> None:
    """After it a close frame comes."""
    with bounded():
        async with (
            open_simulated_exchange(market, max_connection_s=0.1) as exchange,
            open_stream(f"{exchange.ws_url}/ws") as websocket,
        ):
            assert (await closing(websocket))[0] == 1001


async def test_drop_is_a_reset_and_close_is_clean(
    market: ScriptedMarket, bounded: Bounded, open_stream: Any, until: Any
) -> None:
    """Dropped: no close frame (1006).  Closed: code and reason, after what was queued."""
    with bounded():
        async with open_simulated_exchange(market) as exchange:
            url = f"{exchange.ws_url}/ws/btcusdt@aggTrade"
            async with (
                open_stream(url) as websocket,
                open_stream(f"{exchange.ws_url}/ws/ethusdt@aggTrade") as other,
            ):
                await subscribers(exchange, "BTCUSDT", 1)
                await subscribers(exchange, "ETHUSDT", 1)
                assert exchange.drop_connections("BTCUSDT") == 1
                assert (await closing(websocket))[0] == 1006
                market.trade("ETHUSDT", "1", "1")
                assert (await receive(other))["s"] == "ETHUSDT"
            async with open_stream(url) as websocket:
                await subscribers(exchange, "BTCUSDT", 1)
                market.trade("BTCUSDT", "1", "1")
                assert exchange.close_connections(code=1012, reason="restart") >= 1
                assert (await receive(websocket))["s"] == "BTCUSDT"
                assert await closing(websocket) == (1012, "restart")
            await until(lambda: exchange.statistics().connections_open == 0)


async def test_muted_connections_say_nothing(
    market: ScriptedMarket, bounded: Bounded, open_stream: Any
) -> None:
    """Muted: no frames, with or without pongs; new connections speak unless it is lasting."""
    with bounded():
        async with open_simulated_exchange(market) as exchange:
            url = f"{exchange.ws_url}/ws/btcusdt@aggTrade"
            async with open_stream(url) as old:
                await subscribers(exchange, "BTCUSDT", 1)
                assert exchange.mute("BTCUSDT") == 1
                market.trade("BTCUSDT", "1", "1")
                assert await nothing_comes(old)
                await old.ping()
                exchange.mute("BTCUSDT", pongs=False)
                with trio.move_on_after(0.1) as patience:
                    await old.ping()
                assert patience.cancelled_caught
                async with open_stream(url) as new:
                    await subscribers(exchange, "BTCUSDT", 2)
                    market.trade("BTCUSDT", "2", "1")
                    assert (await receive(new))["p"] == "2.00"
                exchange.mute("BTCUSDT", lasting=True)
                async with open_stream(url) as later:
                    await subscribers(exchange, "BTCUSDT", 2)
                    market.trade("BTCUSDT", "3", "1")
                    assert await nothing_comes(later)
                    exchange.unmute("BTCUSDT")
                    market.trade("BTCUSDT", "4", "1")
                    assert (await receive(later))["p"] == "4.00"
                    assert (await receive(old))["p"] == "4.00"
            assert len(exchange.delivered("BTCUSDT")) == 2


async def test_lost_and_injected(
    market: ScriptedMarket, bounded: Bounded, http: httpx2.AsyncClient, open_stream: Any
) -> None:
    """Lost frames exist in REST only; injected text arrives as it is."""
    with bounded():
        async with (
            open_simulated_exchange(market) as exchange,
            open_stream(f"{exchange.ws_url}/ws/btcusdt@aggTrade") as websocket,
        ):
            await subscribers(exchange, "BTCUSDT", 1)
            exchange.lose("BTCUSDT", 2)
            ids = [market.trade("BTCUSDT", "1", "1").agg_id for _ in range(3)]
            assert (await receive(websocket))["a"] == ids[2]
            exchange.inject("BTCUSDT", "not json")
            assert await websocket.get_message() == "not json"
            answer = await http.get(
                f"{exchange.rest_url}/fapi/v1/aggTrades", params={"symbol": "BTCUSDT"}
            )
            assert ids == [row["a"] for row in answer.json()]
            assert exchange.delivered("BTCUSDT").ranges == [(ids[2], ids[2])]
            assert exchange.statistics().faults == {"lost": 2}


async def test_planned_faults_reach_the_streams(
    market: ScriptedMarket, bounded: Bounded, open_stream: Any
) -> None:
    """A plan of duplicates doubles every frame."""
    with bounded():
        async with (
            open_simulated_exchange(market, faults=FaultPlan(duplicate=1.0)) as exchange,
            open_stream(f"{exchange.ws_url}/ws/btcusdt@aggTrade") as websocket,
        ):
            await subscribers(exchange, "BTCUSDT", 1)
            market.trade("BTCUSDT", "1", "1")
            assert await websocket.get_message() == await websocket.get_message()


async def test_reader_that_stalls_is_dropped(
    market: ScriptedMarket, bounded: Bounded, open_stream: Any
) -> None:
    """A full outbox ends the connection; others do not notice."""
    with bounded():
        async with (
            open_simulated_exchange(market) as exchange,
            open_stream(f"{exchange.ws_url}/ws/btcusdt@aggTrade") as stalled,
            open_stream(f"{exchange.ws_url}/ws/ethusdt@aggTrade") as other,
        ):
            await subscribers(exchange, "BTCUSDT", 1)
            await subscribers(exchange, "ETHUSDT", 1)
            while not exchange.statistics().overflows:
                for _ in range(MAX_QUEUED // 4):
                    exchange.inject("BTCUSDT", "y" * 10_000)
                await trio.sleep(0.001)
            await subscribers(exchange, "BTCUSDT", 0)
            market.trade("ETHUSDT", "1", "1")
            assert (await receive(other))["s"] == "ETHUSDT"
            assert (await closing(stalled))[0] == 1006


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x00\xff" * 50,
        UPGRADE % b"/nowhere",
        b"GET /market/ws HTTP/1.1\r\nHost: x\r\n\r\n",
        UPGRADE % b"/market/ws" + b"\xff" * 50,
        b"",
    ],
)
async def test_strange_clients_harm_nobody(
    market: ScriptedMarket, bounded: Bounded, request_bytes: bytes, open_stream: Any
) -> None:
    """Garbage, an unknown path, plain HTTP, or nothing at all: the exchange goes on."""
    with bounded():
        async with open_simulated_exchange(market) as exchange:
            port = int(exchange.ws_url.split(":")[2].removesuffix("/market"))
            stranger = await trio.open_tcp_stream("127.0.0.1", port)
            async with stranger:
                await stranger.send_all(request_bytes)
                await stranger.send_eof()
            async with open_stream(f"{exchange.ws_url}/ws/btcusdt@aggTrade") as websocket:
                await subscribers(exchange, "BTCUSDT", 1)
                market.trade("BTCUSDT", "1", "1")
                assert (await receive(websocket))["s"] == "BTCUSDT"


async def test_both_sides_speak_tls(
    market: ScriptedMarket, bounded: Bounded, open_stream: Any
) -> None:
    """With a certificate the URLs are https and wss, and both work."""
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    with bounded():
        async with (
            open_simulated_exchange(market, ssl_context=server) as exchange,
            httpx2.AsyncClient(verify=client, trust_env=False) as https,
        ):
            assert exchange.rest_url.startswith("https://")
            assert (await https.get(f"{exchange.rest_url}/fapi/v1/ping")).json() == {}
            url = f"{exchange.ws_url}/ws/btcusdt@aggTrade"
            async with open_stream(url, ssl_context=client) as websocket:
                await subscribers(exchange, "BTCUSDT", 1)
                for _ in range(100):
                    market.trade("BTCUSDT", "1", "1")
                for _ in range(100):
                    assert (await receive(websocket))["s"] == "BTCUSDT"
                exchange.close_connections(code=1001)
                assert (await closing(websocket))[0] == 1001


async def test_leaving_is_quick(bounded: Bounded, open_stream: Any, until: Any) -> None:
    """Open streams, an idle REST client and a call that is never answered do not hold it up."""
    market = SeededMarket(seed=1, symbols=5)
    with bounded():
        async with trio.open_nursery() as nursery:
            async with open_simulated_exchange(market) as exchange:
                exchange.rest_failure(None)
                host, port = exchange.rest_url.removeprefix("http://").split(":")
                asking, idle = [await trio.open_tcp_stream(host, int(port)) for _ in range(2)]
                await asking.send_all(b"GET /fapi/v1/ping HTTP/1.1\r\nHost: x\r\n\r\n")
                ready = trio.Event()
                url = f"{exchange.ws_url}/ws/btcusdt@aggTrade"
                nursery.start_soon(_read_until_closed, open_stream(url), ready)
                await ready.wait()
                await until(lambda: exchange.statistics().rest_calls == {"ping": 1})
                leaving = trio.current_time()
            assert trio.current_time() - leaving < 2.5
            await asking.aclose()
            await idle.aclose()


async def _read_until_closed(stream: Any, ready: trio.Event) -> None:
    async with stream as websocket:
        await websocket.get_message()
        ready.set()
        with pytest.raises(ConnectionClosed):
            await drain(websocket)


async def test_seeded_trades_arrive_complete(bounded: Bounded, open_stream: Any) -> None:
    """What one client gets is gapless, and equals the tape."""
    market = SeededMarket(seed=1, symbols=5, trades_per_second=2_000)
    with bounded():
        async with (
            open_simulated_exchange(market) as exchange,
            open_stream(f"{exchange.ws_url}/ws/btcusdt@aggTrade") as websocket,
        ):
            events = [await receive(websocket) for _ in range(500)]
    first = events[0]["a"]
    assert [event["a"] for event in events] == list(range(first, first + 500))
    tape = {trade.agg_id: trade for trade in market.trades_of("BTCUSDT")}
    for event in events:
        trade = tape[event["a"]]
        assert event["T"] == trade.time
        assert int(event["p"].replace(".", "")) == trade.price
