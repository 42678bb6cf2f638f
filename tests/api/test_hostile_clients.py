"""Clients that mean harm: each is refused in words, costs what it may cost, and nobody else notices."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import orjson
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from klinetrio.api import hub as hub_module
from klinetrio.api.outbox import MAX_BATCH, MAX_PENDING
from klinetrio.domain.trade import AggTrade
from tests.api.daemon import Daemon, ask, connected, hear, hear_the_end, running, say
from tests.api.memory_market import START
from tests.api.wire import RESET_ON_CLOSE, UPGRADE, frame, read_reply, read_to_end, request
from tests.api.wire import ask as ask_raw


if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio_websocket import WebSocketConnection

BTC_1M = {"symbol": "BTC_USDT", "interval": "1m"}


@asynccontextmanager
async def well_behaved(daemon: Daemon) -> AsyncIterator[WebSocketConnection]:
    """Have a client that only wants its minute; it has to get the newest one whatever happened."""
    async with connected(daemon, "/api/v1/ws") as client:
        await ask(client, {"op": "subscribe", "klines": [BTC_1M]})
        yield client
        daemon.market.trade(0, 4242)
        daemon.swap()
        while (await hear(client))["data"]["close"] != "42.42":
            pass


def upgrade_to(target: str) -> bytes:
    """Return the bytes of an upgrade to a target."""
    return UPGRADE.replace(b"/ws", target.encode())


async def stalled(daemon: Daemon, target: str, message: dict[str, Any]) -> trio.SocketStream:
    """Return a client that says one thing and never reads again."""
    stream = await daemon.served.connect()
    await stream.send_all(upgrade_to(target))
    await read_reply(stream)
    await stream.send_all(frame(orjson.dumps(message)))
    return stream


async def until_gone(daemon: Daemon, *, but: int) -> None:
    """Wait until the hub knows of so many clients only."""
    while daemon.hub.statistics().clients > but:
        await wait_all_tasks_blocked()


async def test_ten_thousand_subscriptions_in_one_message() -> None:
    """Refused as a whole by either language, with the connection or without, in words."""
    names = [f"s{number}" for number in range(10_000)]
    async with running() as daemon, well_behaved(daemon):
        async with connected(daemon, "/ws") as client:
            await say(client, {"method": "SUBSCRIBE", "params": names[:6_000], "id": 1})
            assert (await hear(client))["error"] == {"code": 4, "msg": "Too many subscriptions"}
            assert await hear_the_end(client) == (1008, "Invalid request")
        async with connected(daemon, "/ws") as client:
            await say(client, {"method": "SUBSCRIBE", "params": names, "id": 1})
            assert (await hear_the_end(client))[0] in {1008, 1009}
        async with connected(daemon, "/api/v1/ws") as client:
            klines = [{"symbol": name, "interval": "1m"} for name in names]
            await say(client, {"op": "subscribe", "klines": klines})
            assert await hear_the_end(client) == (1009, None)
        await until_gone(daemon, but=1)
        assert daemon.hub.statistics().subscriptions == 1


async def test_slow_reader_of_trades_is_closed_and_costs_a_bounded_queue() -> None:
    """Trades are not conflated: who cannot take them goes, and the queue is as long as it may be."""
    async with running() as daemon, well_behaved(daemon):
        message = {"method": "SUBSCRIBE", "params": ["ethusdc@aggTrade"], "id": 1}
        slow = await stalled(daemon, "/ws", message)
        while daemon.hub.statistics().subscriptions < 2:
            await wait_all_tasks_blocked()
        number = 0
        while not daemon.hub.statistics().slow_clients:
            for _ in range(1_000):
                number += 1
                daemon.market.take(
                    AggTrade("ETHUSDC", number, 100, 1, number, number, START, False)
                )
            daemon.swap()
            assert daemon.hub.statistics().pending <= MAX_PENDING
            await trio.lowlevel.checkpoint()
        statistics = daemon.hub.statistics()
        assert (statistics.pending, statistics.most_pending) == (0, MAX_PENDING)
        assert statistics.clients == 1
        await slow.aclose()


async def test_many_slow_readers_share_one_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty of them hold no more together than the hub's bound."""
    monkeypatch.setattr(hub_module, "MAX_PENDING_TOTAL", 3_000)
    async with running() as daemon, well_behaved(daemon):
        message = {"method": "SUBSCRIBE", "params": ["ethusdc@aggTrade"], "id": 1}
        slow = [await stalled(daemon, "/ws", message) for _ in range(20)]
        while daemon.hub.statistics().subscriptions < 21:
            await wait_all_tasks_blocked()
        number = 0
        while daemon.hub.statistics().slow_clients < 15:
            for _ in range(500):
                number += 1
                daemon.market.take(
                    AggTrade("ETHUSDC", number, 100, 1, number, number, START, False)
                )
            daemon.swap()
            assert daemon.hub.statistics().pending <= 3_000
            await trio.lowlevel.checkpoint()
        for stream in slow:
            await stream.aclose()


async def test_slow_reader_of_its_own_replies_is_not_read_from() -> None:
    """Lists of long names are fetched or not answered: at most a few of them are held."""
    names = [f"{number:04}{'人' * 60}" for number in range(300)]
    async with running() as daemon, well_behaved(daemon):
        stream = await stalled(daemon, "/ws", {"method": "SUBSCRIBE", "params": names, "id": 1})
        for number in range(14):
            listing = {"method": "LIST_SUBSCRIPTIONS", "id": number}
            await stream.send_all(frame(orjson.dumps(listing)))
        await wait_all_tasks_blocked()
        (client,) = (c for c in daemon.hub._clients if len(c.topics) == len(names))
        assert client.outbox._reply_bytes <= MAX_BATCH + 3 * 60_000
        await stream.aclose()
        await until_gone(daemon, but=1)


async def test_thousand_connects_and_disconnects_leave_nothing() -> None:
    """In order, in the middle of a frame, by reset: no client, no subscription, no topic stays."""
    async with running() as daemon, well_behaved(daemon):
        for number in range(1_000):
            stream = await daemon.served.connect()
            target = "/api/v1/ws" if number % 2 else "/ws/btcusdt@aggTrade/btcusdt@kline_1h"
            await stream.send_all(upgrade_to(target))
            if number % 3:
                await read_reply(stream)
            if number % 5 == 0:
                await stream.send_all(frame(b'{"op":"ping"}')[:-3])
            if number % 4 == 0:
                stream.setsockopt(*RESET_ON_CLOSE)
            await stream.aclose()
        await until_gone(daemon, but=1)
        statistics = daemon.hub.statistics()
        assert (statistics.subscriptions, statistics.series, statistics.pending) == (1, 1, 0)


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/ws/../../etc/passwd", b"101"),
        ("/ws/..%2f..%2fetc", b"101"),
        ("/../ws", b"404"),
        ("/market/../private", b"404"),
        ("/market", b"404"),
        ("/stream/btcusdt@kline_1m", b"404"),
        ("/ws/%00%ff", b"101"),
        (f"/stream?streams={'a/' * 500}", b"101"),
        (f"/stream?{'x' * 12_000}=1", b"101"),
        (f"/ws?{'x' * 40_000}", b"431"),
    ],
)
async def test_odd_targets_are_answered(target: str, status: bytes) -> None:
    """A path is a list of names and nothing else; a head that is too long is refused."""
    async with running() as daemon, well_behaved(daemon):
        async with await daemon.served.connect() as stream:
            await stream.send_all(upgrade_to(target))
            reply = await read_reply(stream)
            assert reply.startswith(b"HTTP/1.1 " + status), reply
        await until_gone(daemon, but=1)


async def test_long_names_and_long_paths_follow_nothing() -> None:
    """A stream's name has a length; a path that exceeds it is an invalid request."""
    async with running() as daemon, well_behaved(daemon):
        async with connected(daemon, f"/ws/{'x' * 65}") as client:
            assert await hear_the_end(client) == (1008, "Invalid request")
        path = "/stream?streams=" + "/".join(f"{number:x}" for number in range(1_025))
        async with connected(daemon, path) as client:
            assert await hear_the_end(client) == (1008, "Invalid request")


async def test_stream_paths_are_no_pages() -> None:
    """Asked for without an upgrade they do not exist, and say so like any other path."""
    async with running() as daemon:
        for path in ("/ws", "/market/stream", "/ws/btcusdt@kline_1m"):
            reply = await ask_raw(daemon.served, request(path, headers="Connection: close\r\n"))
            assert reply.split()[1] in {b"400", b"404"}, reply


@pytest.mark.parametrize("target", ["/api/v1/ws", "/ws", "/market/stream"])
@pytest.mark.parametrize(
    "attack",
    [
        frame(b"x" * 70_000),
        frame(b"\xff\xfe"),
        frame(b"[" * 60_000),
        frame(b"reserved", opcode=5),
        b"\x81\xff" + b"\xff" * 8,
        frame(b"a", fin=False) + frame(b"b" * 65_000, opcode=0, fin=False) * 3,
    ],
    ids=["long", "not-utf8", "nested", "opcode", "endless", "fragments"],
)
async def test_malformed_frames_end_their_own_connection(target: str, attack: bytes) -> None:
    """Or are answered; other clients are unaffected, and nothing is left."""
    async with running() as daemon, well_behaved(daemon):
        stream = await daemon.served.connect()
        await stream.send_all(upgrade_to(target))
        await read_reply(stream)
        try:
            await stream.send_all(attack)
            await stream.send_eof()
        except trio.BrokenResourceError:
            pass  # refused in the middle of it
        await read_to_end(stream)
        await stream.aclose()
        await until_gone(daemon, but=1)
