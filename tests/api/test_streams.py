"""The exchange's streams as programs written for the exchange see them: over real sockets."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import orjson
import pytest
from trio.testing import wait_all_tasks_blocked

from klinetrio.domain.trade import AggTrade
from tests.api.daemon import Daemon, ask, connected, hear, hear_the_end, running, say
from tests.api.memory_market import MINUTE_MS, START


KLINE = "btcusdt@kline_1m"
TRADES = "btcusdt@aggTrade"
CHINESE = "币安人生usdt@kline_1m"


def subscribe(*names: str, id: Any = 1) -> dict[str, Any]:  # noqa: A002  (its name on the wire)
    """Return the message that subscribes."""
    return {"method": "SUBSCRIBE", "params": list(names), "id": id}


def move(daemon: Daemon, row: int = 0, price: int = 100) -> None:
    """Have a trade change an open bar."""
    daemon.market.trade(row, price)
    daemon.swap()


async def test_kline_event_is_the_exchanges_to_the_byte() -> None:
    """Keys, their order, types; fill ids, which bars do not hold, are -1."""
    async with running() as daemon, connected(daemon, f"/ws/{KLINE}") as client:
        while not daemon.hub.statistics().subscriptions:
            await wait_all_tasks_blocked()
        daemon.market.now = START + 500
        daemon.market.trade(0, 9_308_490, 13_551)
        daemon.swap()

        assert await client.get_message() == (
            f'{{"e":"kline","E":{START + 500},"s":"BTCUSDT","k":{{"t":{START},'
            f'"T":{START + MINUTE_MS - 1},"s":"BTCUSDT","i":"1m","f":-1,"L":-1,'
            '"o":"93084.90","c":"93084.90","h":"93084.90","l":"93084.90","v":"13.551","n":1,'
            '"x":false,"q":"1261393.47990","V":"0.000","Q":"0.00000","B":"0"}}'
        )


async def test_continuous_kline_names_its_pair_and_no_symbol() -> None:
    """As the exchange: ``ps`` and ``ct`` outside, no ``s`` inside."""
    path = "/market/ws/btcusdt_perpetual@continuousKline_1m"
    async with running() as daemon:
        move(daemon)
        async with connected(daemon, path) as client:
            event = await hear(client)

    assert ["e", "E", "ps", "ct", "k"] == list(event)
    assert ("continuous_kline", "BTCUSDT", "PERPETUAL") == (event["e"], event["ps"], event["ct"])
    assert ["t", "T", "i", "f", "L"] == list(event["k"])[:5]


async def test_every_trade_comes_as_the_exchange_tells_it() -> None:
    """In order, with the normal quantity, which is the quantity if the exchange did not tell."""
    async with running() as daemon, connected(daemon, f"/market/ws/{TRADES}") as client:
        while not daemon.hub.statistics().subscriptions:
            await wait_all_tasks_blocked()
        daemon.market.take(AggTrade("BTCUSDT", 7, 9_309_170, 22, 1, 2, START - 5, False, 20))
        daemon.market.take(AggTrade("ETHUSDC", 1, 1, 1, 1, 1, START, False))
        daemon.market.take(AggTrade("BTCUSDT", 8, 9_309_170, 22, 3, 3, START, True))
        daemon.swap()
        first, second = await client.get_message(), await client.get_message()

    assert first == (
        f'{{"e":"aggTrade","E":{START},"a":7,"s":"BTCUSDT","p":"93091.70","q":"0.022",'
        f'"nq":"0.020","f":1,"l":2,"T":{START - 5},"m":false,"st":1}}'
    )
    assert ("0.022", True) == (orjson.loads(second)["nq"], orjson.loads(second)["m"])


@pytest.mark.parametrize("prefix", ["", "/market", "/public"])
async def test_combined_streams_name_the_stream(prefix: str) -> None:
    """``/stream?streams=`` puts an envelope around events, not around answers."""
    async with running() as daemon:
        move(daemon)
        move(daemon, row=1)
        path = f"{prefix}/stream?streams={KLINE}/btcusdt@kline_1h"
        async with connected(daemon, path) as client:
            first, second = await hear(client), await hear(client)
            assert [KLINE, "btcusdt@kline_1h"] == [first["stream"], second["stream"]]
            assert ("kline", "1h") == (second["data"]["e"], second["data"]["k"]["i"])
            listed = await ask(client, {"method": "LIST_SUBSCRIPTIONS", "id": 3})
            assert listed == {"result": [KLINE, "btcusdt@kline_1h"], "id": 3}


async def test_envelope_is_a_property() -> None:
    """``combined`` can be asked for and set, on any connection."""
    async with running() as daemon, connected(daemon, "/ws") as client:
        get = {"method": "GET_PROPERTY", "params": ["combined"], "id": 2}
        assert await ask(client, get) == {"result": False, "id": 2}
        set_ = {"method": "SET_PROPERTY", "params": ["combined", True], "id": 5}
        assert await ask(client, set_) == {"result": None, "id": 5}
        assert await ask(client, get) == {"result": True, "id": 2}
        assert await ask(client, subscribe(KLINE)) == {"result": None, "id": 1}
        move(daemon)
        assert (await hear(client))["stream"] == KLINE


async def test_what_names_nothing_is_acknowledged_and_silent() -> None:
    """Another case, another kind, a number instead of a stream: acknowledged, listed, silent."""
    names = ["BTCUSDT@kline_1m", "btcusdt@trade", "nosuch@aggTrade", "btcusdt@kline_9m", "0"]
    async with running() as daemon, connected(daemon, "/market/ws/0") as client:
        assert await ask(client, subscribe(*names)) == {"result": None, "id": 1}
        listed = await ask(client, {"method": "LIST_SUBSCRIPTIONS", "id": None})
        assert listed == {"result": ["0", *names[:-1]], "id": None}
        move(daemon)
        gone = {"method": "UNSUBSCRIBE", "params": ["never@kline_1m"], "id": "a-b"}
        assert await ask(client, gone) == {"result": None, "id": "a-b"}


async def test_symbols_may_be_of_any_letters() -> None:
    """In the path percent-encoded, in messages as they are."""
    async with running() as daemon:
        move(daemon, row=6)
        async with connected(daemon, f"/ws/{quote(CHINESE)}") as client:
            assert (await hear(client))["s"] == "币安人生USDT"
        async with connected(daemon, "/stream") as client:
            await ask(client, subscribe(CHINESE))
            assert (await hear(client))["stream"] == CHINESE


async def test_stream_subscribed_twice_comes_once() -> None:
    """As some clients do who name it in the path and subscribe to it again."""
    async with running() as daemon:
        move(daemon)
        async with connected(daemon, f"/market/stream?streams={KLINE}") as client:
            assert (await hear(client))["data"]["k"]["c"] == "1.00"
            assert await ask(client, subscribe(KLINE, KLINE)) == {"result": None, "id": 1}
            move(daemon, price=200)
            assert (await hear(client))["data"]["k"]["c"] == "2.00"
            move(daemon, price=300)
            assert (await hear(client))["data"]["k"]["c"] == "3.00"


async def test_a_bar_is_over_once_whatever_is_corrected() -> None:
    """One event with ``x``; corrections are told on ``/api/v1/ws`` alone."""
    async with running() as daemon, connected(daemon, f"/ws/{KLINE}") as client:
        while not daemon.hub.statistics().subscriptions:
            await wait_all_tasks_blocked()
        daemon.market.trade(0, 100)
        for _ in range(3):
            daemon.market.close(0)
            daemon.swap()
            daemon.market.correct(0)
            daemon.swap()
        move(daemon, price=777)
        events: list[dict[str, Any]] = []
        while not events or events[-1]["c"] != "7.77":
            events.append((await hear(client))["k"])

    over = [bar["t"] for bar in events if bar["x"]]
    assert over == [START, START + MINUTE_MS, START + 2 * MINUTE_MS]


async def test_private_path_is_idle() -> None:
    """A client that opens all three of them gets along; nothing ever comes there."""
    async with running() as daemon, connected(daemon, f"/private/stream?streams={KLINE}") as client:
        assert await ask(client, subscribe(TRADES)) == {"result": None, "id": 1}
        move(daemon)
        listed = await ask(client, {"method": "LIST_SUBSCRIPTIONS", "id": 3})
        assert listed == {"result": [KLINE, TRADES], "id": 3}


async def test_unsubscribed_stream_is_silent() -> None:
    """From its acknowledgement on."""
    async with running() as daemon, connected(daemon, f"/ws/{KLINE}") as client:
        await ask(client, {"method": "UNSUBSCRIBE", "params": [KLINE], "id": 1})
        move(daemon)
        assert await ask(client, subscribe("nothing", id=9)) == {"result": None, "id": 9}
        assert daemon.hub.statistics().encoded == 0


async def test_binary_frame_is_1008() -> None:
    """As the exchange does."""
    async with running() as daemon, connected(daemon, "/ws") as client:
        await client.send_message(b'{"method":"LIST_SUBSCRIPTIONS","id":3}')

        assert await hear_the_end(client) == (1008, "Invalid request")


async def test_the_1025th_stream_is_error_4_and_1008() -> None:
    """1,024 are accepted; one more costs the connection and all of them."""
    names = [f"s{number}@kline_1m" for number in range(1025)]
    async with running() as daemon, connected(daemon, "/ws") as client:
        assert await ask(client, subscribe(*names[:1024])) == {"result": None, "id": 1}
        refusal = await ask(client, subscribe(names[1024], id=2))
        assert refusal == {"error": {"code": 4, "msg": "Too many subscriptions"}, "id": 2}
        assert await hear_the_end(client) == (1008, "Invalid request")


async def test_chatter_is_1008() -> None:
    """Fifteen messages at once are answered."""
    async with running() as daemon, connected(daemon, "/ws") as client:
        for number in range(40):
            await say(client, {"method": "LIST_SUBSCRIPTIONS", "id": number})
        answers = [await hear(client) for _ in range(15)]

        assert [each["id"] for each in answers] == list(range(15))
        assert await hear_the_end(client) == (1008, "Too many requests")


async def test_ping_is_answered_and_shutdown_is_1001() -> None:
    """A client's ping gets its payload back; the end of the daemon is told."""
    async with running() as daemon, connected(daemon, f"/ws/{KLINE}") as client:
        await client.ping(b"abc")
        daemon.stop()
        assert await hear_the_end(client) == (1001, "the daemon ends or starts over")
        await daemon.served.ended.wait()


MISTAKES: list[tuple[str, int, str]] = [
    ("{", 3, "Invalid JSON"),
    ("", 3, "Invalid JSON"),
    ("[]", 2, "missing field `method`"),
    ("{}", 2, "missing field `method`"),
    ('{"method":"NOPE","id":1}', 2, "unknown variant `NOPE`"),
    ('{"method":["SUBSCRIBE"],"id":1}', 2, "unknown variant"),
    ('{"method":"SUBSCRIBE","params":"btcusdt@kline_1m","id":1}', 2, "array"),
    ('{"method":"SUBSCRIBE","params":[1],"id":1}', 2, "array"),
    ('{"method":"SUBSCRIBE","params":["' + "x" * 65 + '"],"id":1}', 2, "at most 64"),
    ('{"method":"SUBSCRIBE","params":[],"id":1.5}', 2, "unsigned integer"),
    ('{"method":"SUBSCRIBE","params":[],"id":-1}', 2, "unsigned integer"),
    ('{"method":"SUBSCRIBE","params":[],"id":{}}', 2, "unsigned integer"),
    ('{"method":"SUBSCRIBE","params":[],"id":"' + "x" * 65 + '"}', 2, "unsigned integer"),
    ('{"method":"GET_PROPERTY","params":[],"id":1}', 2, "must be a string"),
    ('{"method":"GET_PROPERTY","params":[1],"id":1}', 2, "must be a string"),
    ('{"method":"GET_PROPERTY","params":["nope"],"id":1}', 0, "Unknown property"),
    ('{"method":"GET_PROPERTY","params":["combined",1],"id":1}', 2, "too many parameters"),
    ('{"method":"SET_PROPERTY","params":["combined","x"],"id":1}', 1, "expected Boolean"),
    ('{"method":"SET_PROPERTY","params":["combined"],"id":1}', 1, "expected Boolean"),
    (f'{{"method":{"[" * 1000}{"]" * 1000},"id":1}}', 2, "unknown variant"),
    (f'{{"method":"SUBSCRIBE","params":[{"[" * 1000}{"]" * 1000}],"id":1}}', 2, "an array"),
]


@pytest.mark.parametrize(("message", "code", "words"), MISTAKES)
async def test_mistake_has_its_code_and_the_connection_stays(
    message: str, code: int, words: str
) -> None:
    """Codes 0 to 3 in the exchange's bare form; nothing has changed."""
    async with running() as daemon, connected(daemon, "/ws") as client:
        await client.send_message(message)
        error = await hear(client)

        assert code == error["code"]
        assert words in error["msg"]
        listed = await ask(client, {"method": "LIST_SUBSCRIPTIONS", "id": 3})
        assert listed == {"result": [], "id": 3}


async def test_formats_share_one_hub() -> None:
    """A bar followed natively and, enveloped and not, as a stream is encoded twice, not thrice."""
    async with (
        running() as daemon,
        connected(daemon, "/api/v1/ws") as native,
        connected(daemon, f"/ws/{KLINE}") as plain,
        connected(daemon, f"/stream?streams={KLINE}") as combined,
    ):
        await ask(native, {"op": "subscribe", "klines": [{"symbol": "BTCUSDT", "interval": "1m"}]})
        while daemon.hub.statistics().subscriptions < 3:
            await wait_all_tasks_blocked()
        move(daemon)
        assert (await hear(native))["data"]["close"] == "1.00"
        assert (await hear(plain))["k"]["c"] == "1.00"
        assert (await hear(combined))["data"]["k"]["c"] == "1.00"
        assert daemon.hub.statistics().encoded == 2
