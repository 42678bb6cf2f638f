"""What is said on a push connection; no sockets, and the clock jumps."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
import orjson
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from klinetrio.api import outbox as outbox_module
from klinetrio.api.commands import MESSAGE_BURST, Commands
from klinetrio.api.hub import PushHub
from klinetrio.api.names import OpenMarket
from klinetrio.api.resume import Resumer
from klinetrio.api.session import run_session
from tests.api.memory_market import MemoryMarket
from tests.api.wire import payloads


if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from klinetrio.api.client import Client
    from klinetrio.api.dialogue import Message

BTC_1M = {"symbol": "BTC_USDT", "interval": "1m"}
ETH_1H = {"symbol": "ETH_USDC", "interval": "1h"}


class MemorySocket:
    """The session's end of a WebSocket; the test holds the other one."""

    def __init__(self) -> None:
        self.to_server, self._from_client = trio.open_memory_channel[Any](1000)
        self.sent: list[dict[str, Any]] = []
        self.closed: tuple[int, str] | None = None
        self.is_stalled = False

    async def receive(self) -> Message:
        """Return what the client said next."""
        message: Message = await self._from_client.receive()
        return message

    async def accept(self) -> None:
        """Let it be."""

    def send_now(self, frames: bytes) -> bool:
        """Note what the client is sent."""
        self.sent += [orjson.loads(payload) for payload in payloads(frames)]
        return not self.is_stalled

    async def drain(self) -> None:
        """Wait as long as the client reads nothing."""
        if self.is_stalled:
            await trio.sleep_forever()

    async def close(self, code: int, reason: str = "") -> None:
        """Note how it was closed."""
        assert self.closed is None
        self.closed = code, reason

    def say(self, message: Any) -> None:
        """Send something to the session."""
        raw = message if isinstance(message, str | bytes | None) else orjson.dumps(message).decode()
        self.to_server.send_nowait(raw)


@attrs.frozen
class Talk:
    """A session that is running."""

    market: MemoryMarket
    hub: PushHub
    socket: MemorySocket
    shutdown: trio.Event
    nursery: trio.Nursery

    async def ask(self, message: Any) -> dict[str, Any]:
        """Say something; return the first message that comes."""
        self.socket.sent.clear()
        self.socket.say(message)
        await wait_all_tasks_blocked()
        return self.socket.sent[0]

    async def swap(self) -> list[dict[str, Any]]:
        """Swap; return what the client is sent for it."""
        self.socket.sent.clear()
        self.hub.publish(self.market.swap())
        await wait_all_tasks_blocked()
        return self.socket.sent


def dialogue_of(market: MemoryMarket, hub: PushHub) -> Callable[[Client], Commands]:
    """Return what makes the dialogues of ``/api/v1/ws``."""
    opened = OpenMarket(lambda: market)
    return partial(Commands, hub=hub, opened=opened, resumer=Resumer(opened, hub))


@asynccontextmanager
async def talking() -> AsyncIterator[Talk]:
    """Run a session; it may end by itself, or is cancelled."""
    market = MemoryMarket()
    hub = PushHub(lambda: market)
    socket, shutdown = MemorySocket(), trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hub.pump.run)
        nursery.start_soon(run_session, socket, hub, dialogue_of(market, hub), shutdown)
        yield Talk(market, hub, socket, shutdown, nursery)
        nursery.cancel_scope.cancel()


async def test_subscription_is_confirmed_then_shown_then_updated() -> None:
    """Reply, current state, and one update per swap in which the bar changed."""
    async with talking() as talk:
        talk.market.trade(0, 4242)
        talk.hub.publish(talk.market.swap())
        await talk.ask({"op": "subscribe", "klines": [BTC_1M, ETH_1H, BTC_1M], "id": 7})
        reply, current = talk.socket.sent

        assert reply == {"type": "subscribed", "klines": [BTC_1M, ETH_1H], "id": 7}
        assert (current["type"], current["data"]["close"]) == ("kline.update", "42.42")

        talk.market.trade(0, 4300)
        talk.market.trade(1, 1)
        (update,) = await talk.swap()
        assert (update["data"]["close"], update["data"]["is_final"]) == ("43.00", False)

        assert await talk.swap() == []


async def test_final_comes_once_and_before_the_next_bar() -> None:
    """A close is one final message, then the next bar."""
    async with talking() as talk:
        talk.market.trade(0)
        await talk.ask({"op": "subscribe", "klines": [BTC_1M]})
        talk.market.close(0)
        final, update = await talk.swap()

        assert (final["data"]["is_final"], final["data"]["revision"]) == (True, 0)
        assert final["data"]["close_time"] + 1 == update["data"]["open_time"]

        talk.market.correct(0)
        (correction,) = await talk.swap()
        assert (correction["data"]["is_final"], correction["data"]["revision"]) == (True, 1)
        assert final["data"]["open_time"] == correction["data"]["open_time"]


async def test_unsubscribed_is_silent() -> None:
    """After the reply nothing more comes of that series."""
    async with talking() as talk:
        await talk.ask({"op": "subscribe", "klines": [BTC_1M]})
        reply = await talk.ask({"op": "unsubscribe", "klines": [BTC_1M], "id": "bye"})
        assert reply == {"type": "unsubscribed", "klines": [BTC_1M], "id": "bye"}
        talk.market.trade(0)

        assert await talk.swap() == []


async def test_ping_is_answered() -> None:
    """With its id, if it had one."""
    async with talking() as talk:
        assert await talk.ask({"op": "ping"}) == {"type": "pong"}
        assert await talk.ask({"op": "ping", "id": None}) == {"type": "pong", "id": None}
        assert await talk.ask({"op": "ping", "id": 1}) == {"type": "pong", "id": 1}


MISTAKES: list[tuple[Any, str]] = [
    ("{", "not_json"),
    ("", "not_json"),
    ("[" * 5000, "not_json"),
    ('{"op": NaN}', "not_json"),
    (b'{"op":"ping"}', "not_text"),
    (None, "not_text"),
    ("[]", "bad_message"),
    ("null", "bad_message"),
    (f'{{"op": {"[" * 1000}{"]" * 1000}}}', "unknown_op"),
    (f'{{"op": "ping", "id": {"[" * 1000}{"]" * 1000}}}', "bad_message"),
    (f'{{"op": "subscribe", "klines": [{"[" * 1000}{"]" * 1000}]}}', "bad_message"),
    ({}, "unknown_op"),
    ({"op": "PING"}, "unknown_op"),
    ({"op": ["ping"]}, "unknown_op"),
    ({"op": "ping", "id": 1.5}, "bad_message"),
    ({"op": "ping", "id": True}, "bad_message"),
    ({"op": "ping", "id": {}}, "bad_message"),
    ({"op": "ping", "id": "x" * 65}, "bad_message"),
    ({"op": "subscribe"}, "bad_message"),
    ({"op": "subscribe", "klines": []}, "bad_message"),
    ({"op": "subscribe", "klines": {}}, "bad_message"),
    ({"op": "subscribe", "klines": BTC_1M}, "bad_message"),
    ({"op": "subscribe", "klines": ["BTCUSDT"]}, "bad_message"),
    ({"op": "subscribe", "klines": [BTC_1M, {"symbol": "BTCUSDT"}]}, "bad_message"),
    ({"op": "subscribe", "klines": [BTC_1M, {"symbol": 1, "interval": "1m"}]}, "bad_message"),
    ({"op": "subscribe", "klines": [BTC_1M, BTC_1M | {"symbol": "NO"}]}, "unknown_symbol"),
    ({"op": "subscribe", "klines": [BTC_1M, BTC_1M | {"interval": "9m"}]}, "unknown_interval"),
    ({"op": "unsubscribe", "klines": [BTC_1M | {"symbol": "NO"}]}, "unknown_symbol"),
]


@pytest.mark.parametrize(("message", "code"), MISTAKES)
async def test_mistake_is_answered_and_changes_nothing(message: Any, code: str) -> None:
    """The connection stays, and none of a faulty command is carried out."""
    async with talking() as talk:
        reply = await talk.ask(message)

        assert ("error", code) == (reply["type"], reply["error"]["code"])
        assert reply["error"]["message"]
        assert len(reply["error"]["message"]) < 200
        assert talk.hub.statistics().subscriptions == 0
        assert await talk.ask({"op": "ping"}) == {"type": "pong"}


async def test_error_carries_the_id() -> None:
    """A client can tell which of its commands failed."""
    async with talking() as talk:
        reply = await talk.ask({"op": "nope", "id": "a"})

        assert (reply["id"], reply["error"]["code"]) == ("a", "unknown_op")


async def test_shutdown_closes_with_1001(autojump_clock: MockClock) -> None:
    """Clients are told that the daemon goes, at once."""
    async with talking() as talk:
        await wait_all_tasks_blocked()
        talk.shutdown.set()
        await wait_all_tasks_blocked()

        assert talk.socket.closed == (1001, "the daemon ends or starts over")
        assert talk.hub.statistics().clients == 0
    assert trio.current_time() - autojump_clock.current_time() == 0


async def test_chatter_is_closed_with_1008(autojump_clock: MockClock) -> None:
    """A client may say so much at once, and little in the long run."""
    async with talking() as talk:
        for _ in range(int(MESSAGE_BURST)):
            assert await talk.ask({"op": "ping"}) == {"type": "pong"}
        await trio.sleep(1)
        for _ in range(20):
            assert await talk.ask({"op": "ping"}) == {"type": "pong"}
        talk.socket.say({"op": "ping"})
        await wait_all_tasks_blocked()

        assert talk.socket.closed == (1008, "expected at most 20 messages per second")
        assert talk.hub.statistics().clients == 0
    assert 1 <= autojump_clock.current_time() < 2


async def test_long_messages_count_more() -> None:
    """What takes long to read is not cheap to send."""
    async with talking() as talk:
        for _ in range(int(MESSAGE_BURST) // 16):
            talk.socket.say(" " * 65_000)
        await wait_all_tasks_blocked()
        assert talk.socket.closed is None
        talk.socket.say(" " * 65_000)
        await wait_all_tasks_blocked()

        assert talk.socket.closed == (1008, "expected at most 20 messages per second")


async def test_slow_client_is_closed_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that cannot take its closed bars learns why it is closed."""
    monkeypatch.setattr(outbox_module, "MAX_PENDING", 2)
    async with talking() as talk:
        await talk.ask({"op": "subscribe", "klines": [BTC_1M]})
        talk.market.trade(0)
        for _ in range(3):
            talk.market.close(0)
        await talk.swap()

        assert talk.socket.closed == (1008, "slow consumer: more than 2 messages behind")


async def test_stalled_client_delays_nobody() -> None:
    """One that does not read gets what is left when it does; the others notice nothing."""
    async with talking() as talk:
        await talk.ask({"op": "subscribe", "klines": [BTC_1M]})
        other, dialogue = MemorySocket(), dialogue_of(talk.market, talk.hub)
        other.is_stalled = True
        talk.nursery.start_soon(run_session, other, talk.hub, dialogue, talk.shutdown)
        other.say({"op": "subscribe", "klines": [BTC_1M]})
        await wait_all_tasks_blocked()
        for price in range(1, 50):
            talk.market.trade(0, price)
            assert len(await talk.swap()) == 1


async def test_replies_wait_for_a_client_that_does_not_fetch_them() -> None:
    """The reader stops when replies pile up, so that they cannot fill the memory."""
    async with talking() as talk:
        talk.socket.is_stalled = True
        for _ in range(100):
            talk.socket.say({"op": "ping"})
        await wait_all_tasks_blocked()
        waiting = talk.socket.to_server.statistics().current_buffer_used

        assert waiting >= 100 - 3 - outbox_module.MAX_PENDING_REPLIES


async def test_dead_peer_does_not_stop_the_process() -> None:
    """Fault D: sends that return at once, as those to a dead peer do, let others run."""
    async with talking() as talk:
        await talk.ask({"op": "subscribe", "klines": [BTC_1M]})
        talk.socket.sent.clear()
        for _ in range(20_000):
            talk.market.trade(0)
            talk.market.close(0)
        talk.hub.publish(talk.market.swap())
        steps = 0
        while len(talk.socket.sent) < 20_000:
            await trio.lowlevel.checkpoint()
            steps += 1

        assert steps > 100


async def test_bug_of_ours_is_1011() -> None:
    """What should not happen ends the session with the right code, and is raised to be logged."""
    market, socket = MemoryMarket(), MemorySocket()
    hub = PushHub(lambda: market)
    market.live_row = None  # type: ignore[assignment, method-assign]
    socket.say({"op": "subscribe", "klines": [BTC_1M]})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hub.pump.run)
        with pytest.raises(BaseExceptionGroup) as raised:
            await run_session(socket, hub, dialogue_of(market, hub), trio.Event())
        nursery.cancel_scope.cancel()

    assert raised.group_contains(TypeError)
    assert socket.closed == (1011, "an error of ours; it has been logged")
