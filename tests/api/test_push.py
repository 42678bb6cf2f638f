"""The push interface as a client sees it: a real server, and an independent WebSocket client."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
import trio
from trio.testing import wait_all_tasks_blocked
from trio_websocket import ConnectionClosed

from klinetrio.api.app import create_app
from klinetrio.api.hub import PushHub
from tests.api.daemon import LIMIT_S, Daemon, connected, hear, hear_the_end, running, say
from tests.api.wire import RESET_ON_CLOSE, UPGRADE, ask, frame, read_reply, serving


if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from trio_websocket import WebSocketConnection

LONG_GRACE_S = 240.0
PUSH_UPGRADE = UPGRADE.replace(b"/ws", b"/api/v1/ws")
BTC_1M = {"symbol": "BTC_USDT", "interval": "1m"}
SUBSCRIBE = {"op": "subscribe", "klines": [BTC_1M]}


def pushing(daemon: Daemon) -> AbstractAsyncContextManager[WebSocketConnection]:
    """Connect a push client."""
    return connected(daemon, "/api/v1/ws")


async def test_subscriber_follows_a_bar_to_its_end() -> None:
    """Subscribe, see the state, the changes, the final, the next bar; leave nothing behind."""
    async with running() as daemon:
        daemon.market.trade(0, 4242)
        daemon.hub.publish(daemon.market.swap())
        async with pushing(daemon) as client:
            await say(client, SUBSCRIBE | {"id": 1})
            assert await hear(client) == {"type": "subscribed", "klines": [BTC_1M], "id": 1}
            assert (await hear(client))["data"]["close"] == "42.42"
            daemon.market.trade(0, 4343)
            daemon.hub.publish(daemon.market.swap())
            assert (await hear(client))["data"]["close"] == "43.43"
            daemon.market.close(0)
            daemon.hub.publish(daemon.market.swap())
            assert (await hear(client))["data"]["is_final"]
            assert not (await hear(client))["data"]["is_final"]
        while daemon.hub.statistics().clients:
            await wait_all_tasks_blocked()

        assert daemon.hub.statistics().subscriptions == 0


async def test_mistake_does_not_cost_the_connection() -> None:
    """Text or binary, nonsense is answered."""
    async with running() as daemon, pushing(daemon) as client:
        await client.send_message("{")
        assert (await hear(client))["error"]["code"] == "not_json"
        for binary in (b"\x00", b""):
            await client.send_message(binary)
            assert (await hear(client))["error"]["code"] == "not_text"
        await say(client, {"op": "ping"})
        assert await hear(client) == {"type": "pong"}


async def test_overlong_message_is_1009() -> None:
    """64 KiB, and no more."""
    async with running() as daemon, pushing(daemon) as client:
        await client.send_message("x" * 70_000)

        assert await hear_the_end(client) == (1009, None)


async def test_chatter_is_1008() -> None:
    """Too many messages end the connection, with the reason."""
    async with running() as daemon, pushing(daemon) as client:
        for _ in range(300):
            try:
                await say(client, {"op": "ping"})
            except ConnectionClosed:
                break

        assert await hear_the_end(client) == (1008, "expected at most 20 messages per second")


async def test_shutdown_is_1001_and_costs_no_grace() -> None:
    """Fault E: the clients are told, and the server is gone at once."""
    async with (
        running(grace_s=LONG_GRACE_S) as daemon,
        pushing(daemon) as first,
        pushing(daemon) as second,
    ):
        for client in (first, second):
            await say(client, SUBSCRIBE)
            await hear(client)
        daemon.stop()
        for client in (first, second):
            assert await hear_the_end(client) == (1001, "the daemon ends or starts over")
        await daemon.served.ended.wait()


async def test_clients_are_bounded() -> None:
    """One client too many is refused before it is one."""
    async with running(max_clients=1) as daemon, pushing(daemon) as client:
        await say(client, {"op": "ping"})
        await hear(client)
        refusal = await ask(daemon.served, PUSH_UPGRADE)

    assert refusal.startswith(b"HTTP/1.1 503")
    assert b'"too_many_clients"' in refusal


async def test_no_push_while_starting() -> None:
    """The upgrade is answered like any other request."""
    app = create_app(lambda: None, PushHub(lambda: None), trio.Event())
    with trio.fail_after(LIMIT_S):
        async with serving(app) as served:
            refusal = await ask(served, PUSH_UPGRADE)

    assert refusal.startswith(b"HTTP/1.1 503")
    assert b'"starting"' in refusal


async def subscribe_and_stall(daemon: Daemon, rows: int) -> trio.SocketStream:
    """Return a client that subscribed to many series and then stopped reading."""
    stream = await daemon.served.connect()
    await stream.send_all(PUSH_UPGRADE)
    await read_reply(stream)
    names = [interval.name for interval in daemon.market.intervals]
    klines = [
        {"symbol": symbol.name, "interval": name}
        for symbol in daemon.market.symbols
        for name in names
    ]
    await stream.send_all(frame(orjson.dumps({"op": "subscribe", "klines": klines[:rows]})))
    while daemon.hub.statistics().subscriptions < rows:
        await wait_all_tasks_blocked()
    return stream


async def test_stalled_client_delays_nobody() -> None:
    """Megabytes wait for one client while another gets each update, and the shutdown is short."""
    async with running(grace_s=0.5) as daemon:
        stalled = await subscribe_and_stall(daemon, 9)
        async with pushing(daemon) as client:
            await say(client, SUBSCRIBE)
            await hear(client)
            for number in range(1, 1000):
                for row in range(9):
                    daemon.market.trade(row)
                    daemon.market.close(row)
                daemon.hub.publish(daemon.market.swap())
                final = await hear(client)
                assert final["data"]["is_final"], number
                await hear(client)
            assert daemon.hub.statistics().most_pending > 100
            daemon.stop()
            await hear_the_end(client)
        await daemon.served.ended.wait()
        await stalled.aclose()


async def test_vanished_client_does_not_stop_the_process() -> None:
    """Fault D: pushing to a client that reset its connection ends, and others go on."""
    async with running() as daemon:
        stream = await subscribe_and_stall(daemon, 9)
        stream.setsockopt(*RESET_ON_CLOSE)
        await stream.aclose()
        for _ in range(50):
            for row in range(9):
                daemon.market.trade(row)
            daemon.hub.publish(daemon.market.swap())
            await wait_all_tasks_blocked()
        while daemon.hub.statistics().clients:
            await wait_all_tasks_blocked()


async def test_finals_reach_a_client_that_reads_late() -> None:
    """None is dropped while the client stalls; of the open bar only the newest states remain."""
    count = 2000
    async with running() as daemon:
        stream = await subscribe_and_stall(daemon, 1)
        for _ in range(count):
            daemon.market.trade(0)
            daemon.market.close(0)
            daemon.hub.publish(daemon.market.swap())
            await trio.lowlevel.checkpoint()
        while daemon.hub.statistics().finals < count:
            await stream.receive_some()
        updates = daemon.hub.statistics().updates
        await stream.aclose()

    assert daemon.hub.statistics().slow_clients == 0
    assert updates < count
