"""Every call to the exchange's REST interface ends in an answer or in an error of ours."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio

from klinetrio.domain.interval import INTERVALS, MINUTE
from klinetrio.domain.kline import CLOSE, OPEN_TIME, TRADE_COUNT
from klinetrio.domain.symbol import Symbol
from klinetrio.errors import (
    DecodeError,
    ExchangeError,
    NetworkError,
    ProxyError,
    RateLimited,
    Refused,
)
from klinetrio.exchange import rest as rest_module
from klinetrio.exchange.clock import ExchangeClock
from klinetrio.exchange.dial import Dialer
from klinetrio.exchange.rest import MAX_QUIET_S, BinanceRest, klines_weight, open_rest
from klinetrio.sim import Mode, ProxyBehaviour
from tests.exchange.surroundings import (
    HOST,
    LIMIT_S,
    Surroundings,
    Tls,
    make_tls,
    open_server,
    open_surroundings,
    stay_silent,
)


if TYPE_CHECKING:
    from collections.abc import AsyncIterator

BTC = Symbol("BTCUSDT", "BTC", "USDT", 0, 2, 3)


@asynccontextmanager
async def open_world(
    *, tls: Tls | None = None, **options: Any
) -> AsyncIterator[tuple[Surroundings, BinanceRest]]:
    """Open an exchange behind a proxy, and its REST interface."""
    async with (
        open_surroundings(tls=tls, **options) as world,
        open_rest(
            world.rest_url,
            world.dialer(tls),
            world.clock,
            ssl_context=tls.client if tls else None,
        ) as rest,
    ):
        yield world, rest


async def test_the_time_is_the_exchanges() -> None:
    """Through the proxy, by a name that only the proxy knows."""
    async with open_world() as (world, rest):
        before = world.market.clock.now_ms()
        told = await rest.server_time()
        assert before <= told <= world.market.clock.now_ms()
        assert world.proxy.statistics().targets[-1].host == f"rest.{HOST}"
        assert (rest.calls, rest.failures) == (1, 0)


async def test_https_goes_through_the_proxy_too() -> None:
    """TLS is checked against the name."""
    tls = make_tls(f"rest.{HOST}")
    async with open_world(tls=tls) as (world, rest):
        assert await rest.server_time() > 0
        assert world.proxy.statistics().tunnels_opened == 1


async def test_a_wrong_certificate_is_a_network_error() -> None:
    """Not an answer."""
    async with open_world(tls=make_tls("other.sim.invalid")) as (_, rest):
        with pytest.raises(NetworkError, match=r"/fapi/v1/time: TLS handshake with .*certificate"):
            await rest.server_time()
        assert rest.failures == 1


async def test_a_connection_is_used_again() -> None:
    """Ten calls need one tunnel."""
    async with open_world() as (world, rest):
        for _ in range(10):
            await rest.server_time()
        assert world.proxy.statistics().tunnels_opened == 1


async def test_a_cut_connection_is_replaced() -> None:
    """The next call finds out and dials again."""
    async with open_world() as (world, rest):
        await rest.server_time()
        world.proxy.cut_tunnels()
        # Not before both sockets of the tunnel are closed.
        while world.proxy._clients:
            await trio.sleep(0.001)
        await rest.server_time()
        assert world.proxy.statistics().tunnels_opened == 2


async def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dialler alone decides, with a proxy and without."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")
    async with open_world() as (world, rest):
        await rest.server_time()
        async with open_rest(world.exchange.rest_url, Dialer(None), world.clock) as direct:
            await direct.server_time()
        assert world.proxy.statistics().tunnels_opened == 1


async def test_the_weight_is_taken_and_reported() -> None:
    """We count what we ask for; the server's own count rules when it is higher."""
    async with open_world() as (world, rest):
        await rest.server_time()
        assert rest.budget.used == 1
        await rest.agg_trades(BTC)
        assert rest.budget.used == 21
        world.exchange.rest.meter.used += 500
        await rest.server_time()
        assert rest.budget.used == 522


@pytest.mark.parametrize(
    ("limit", "expected"), [(1, 1), (100, 1), (101, 2), (500, 2), (501, 5), (1000, 5), (1001, 10)]
)
def test_the_weight_of_klines_is_the_measured_one(limit: int, expected: int) -> None:
    """At every edge; the documentation is off by one."""
    assert expected == klines_weight(limit)


async def test_klines_are_those_that_open_in_the_window() -> None:
    """Both ends inclusive, the open bar too; the limit is what the window needs."""
    async with open_world() as (world, rest):
        now = world.market.clock.now_ms()
        first = now - now % MINUTE - 5 * MINUTE
        for number in range(6):
            world.market.trade("BTCUSDT", f"10{number}.50", "1.000", first + number * MINUTE)
        bars = await rest.klines(BTC, INTERVALS["1m"], start=first + 1, end=first + 5 * MINUTE)
        expected = [first + number * MINUTE for number in range(1, 6)]
        assert expected == bars[:, OPEN_TIME].tolist()[:5]
        assert [10150, 10250, 10350, 10450, 10550] == bars[:5, CLOSE].tolist()
        assert rest.budget.used == 1


async def test_trades_come_from_the_id_on() -> None:
    """Ascending, at most as many as asked for; the newest ones without an id."""
    async with open_world() as (world, rest):
        made = [world.market.trade("BTCUSDT", "100.00", f"0.00{n}") for n in range(1, 8)]
        ids = [each.agg_id for each in made]
        found = await rest.agg_trades(BTC, from_id=ids[2], limit=3)
        assert ids[2:5] == [trade.agg_id for trade in found]
        newest = await rest.agg_trades(BTC, limit=2)
        assert ids[5:] == [trade.agg_id for trade in newest]
        assert (made[2].price, made[2].quantity, made[2].time) == (
            found[0].price,
            found[0].quantity,
            found[0].time,
        )
        assert await rest.agg_trades(BTC, from_id=ids[-1] + 1) == []


async def test_an_id_answered_with_others_is_an_error() -> None:
    """The exchange once answered an id that was too old with its newest trades."""
    async with open_world() as (world, rest):
        made = world.market.trade("BTCUSDT", "100.00", "1.000")
        with pytest.raises(ExchangeError, match=f"asked BTCUSDT from 5, got {made.agg_id}"):
            await rest.agg_trades(BTC, from_id=5)


@pytest.mark.parametrize(
    ("status", "code", "for_us"),
    [(451, 0, True), (400, -4166, False), (400, -1121, False), (400, -1023, False)],
)
async def test_a_final_answer_is_told_from_one_that_may_change(
    status: int, code: int, *, for_us: bool
) -> None:
    """Asking again is in vain, here or from here at all."""
    async with open_world() as (world, rest):
        world.exchange.rest_failure(status, {"code": code, "msg": "No."})
        with pytest.raises(Refused) as caught:
            await rest.agg_trades(BTC)
        assert caught.value.is_for_us is for_us


@pytest.mark.parametrize("code", [-1000, -1001, -1021, 0, "odd", None])
async def test_a_bad_request_that_may_be_none_is_asked_again(code: object) -> None:
    """The exchange says so when something is wrong on its side, or with a clock."""
    async with open_world() as (world, rest):
        world.exchange.rest_failure(400, {"code": code, "msg": "Unknown."})
        with pytest.raises(ExchangeError) as caught:
            await rest.agg_trades(BTC)
        assert type(caught.value) is ExchangeError


@pytest.mark.parametrize("status", [403, 404, 408, 500, 502, 503])
async def test_a_refusal_carries_status_code_and_message(status: int) -> None:
    """The exchange's own words."""
    async with open_world() as (world, rest):
        world.exchange.rest_failure(status, {"code": -1121, "msg": "Invalid symbol."})
        with pytest.raises(ExchangeError) as caught:
            await rest.agg_trades(BTC)
        error = caught.value
        assert type(error) is ExchangeError
        assert (error.status, error.code) == (status, -1121)
        assert str(error) == f"HTTP {status}, code -1121: Invalid symbol."
        assert rest.failures == 1
        assert rest.budget.spare > 0


@pytest.mark.parametrize("body", [b"", b"<html>Bad gateway</html>", b"[]", b"null", b"\xff\xfe"])
async def test_a_refusal_without_json_is_one_too(body: bytes) -> None:
    """From something in between, as a load balancer."""
    async with open_world() as (world, rest):
        world.exchange.rest_failure(503, body)
        with pytest.raises(ExchangeError) as caught:
            await rest.server_time()
        assert (caught.value.status, caught.value.code) == (503, 0)


@pytest.mark.parametrize(
    ("status", "headers", "message", "expected"),
    [
        (429, {"Retry-After": "7"}, "slow down", 7),
        (418, {"Retry-After": "300"}, "banned", 300),
        (429, {}, "Too many requests; current limit is 2400 requests per minute.", 60),
        (418, {}, "banned", 120),
        (429, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, "slow down", 60),
        (418, {"Retry-After": "-5"}, "banned", 120),
        (418, {"Retry-After": "999999999"}, "banned", MAX_QUIET_S),
        (418, {}, "IP banned until 9999999999999.", MAX_QUIET_S),
        (418, {}, "Way too many requests; IP banned until 1000000000000. Please", 1),
        (418, {}, f"IP banned until {'9' * 5000}", 120),
    ],
)
async def test_a_limit_says_how_long_to_be_quiet(
    status: int, headers: dict[str, str], message: str, expected: float
) -> None:
    """By header, by text, or by custom; and nothing is granted until then."""
    async with open_world() as (world, rest):
        world.exchange.rest_failure(status, {"code": -1003, "msg": message}, headers=headers)
        with pytest.raises(RateLimited) as caught:
            await rest.server_time()
        assert (status, -1003) == (caught.value.status, caught.value.code)
        assert expected == caught.value.retry_after_s
        assert rest.budget.spare == 0
        with trio.move_on_after(0.05) as patience:
            await rest.server_time()
        assert patience.cancelled_caught
        assert rest.calls == 1


async def test_a_ban_is_obeyed_to_its_end() -> None:
    """The text of a ban holds its end on the exchange's clock."""
    async with open_world() as (world, rest):
        world.clock.observe(world.market.clock.now_ms(), trio.current_time(), trio.current_time())
        until = world.market.clock.now_ms() + 60_000
        world.exchange.rest_failure(418, {"code": -1003, "msg": f"IP banned until {until}."})
        with pytest.raises(RateLimited) as caught:
            await rest.server_time()
        assert caught.value.retry_after_s == pytest.approx(60, abs=3)


@pytest.mark.parametrize("value", ["²", "12²", "", "-1", "1.5", "many", "9" * 5000])
async def test_odd_headers_change_nothing(value: str) -> None:
    """The count in a header is a number or is left alone; so is the time to wait."""

    async def answer(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        head = f"HTTP/1.1 429 No\r\nX-MBX-USED-WEIGHT-1M: {value}\r\nRetry-After: {value}\r\n"
        await stream.send_all(f"{head}Content-Length: 2\r\n\r\n{{}}".encode("latin-1"))
        await stream.receive_some()

    with trio.fail_after(LIMIT_S):
        async with open_server(answer) as port:
            url = f"http://127.0.0.1:{port}"
            async with open_rest(url, Dialer(None), ExchangeClock()) as rest:
                with pytest.raises(RateLimited) as caught:
                    await rest.server_time()
                assert caught.value.retry_after_s == 60
                assert rest.budget.used == 1


async def test_the_limit_of_the_exchange_is_kept() -> None:
    """Asked for more than its weight, the client waits instead of being warned."""
    async with open_world() as (world, rest):
        async with trio.open_nursery() as nursery:
            for _ in range(120):
                nursery.start_soon(rest.agg_trades, BTC)
            while world.exchange.statistics().rest_calls.get("aggTrades", 0) < 96:
                await trio.sleep(0.005)
            nursery.cancel_scope.cancel()
        assert 0 < world.exchange.statistics().weight_highest <= 1_920
        assert rest.budget.highest <= 1_920


@pytest.mark.parametrize("body", [b"", b"not json", b"{", b"\xff"])
async def test_an_answer_that_is_no_json_is_a_decode_error(body: bytes) -> None:
    """With status 200, from whatever stands in between."""
    async with open_world() as (world, rest):
        world.exchange.rest_failure(200, body)
        with pytest.raises(DecodeError, match=r"^garbage: expected JSON from /fapi/v1/time"):
            await rest.server_time()


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"serverTime":"1"}', b'{"serverTime":1.5}'])
async def test_an_odd_time_is_a_decode_error(body: bytes) -> None:
    """Only an integer is a time."""
    async with open_world() as (world, rest):
        world.exchange.rest_failure(200, body)
        with pytest.raises(DecodeError, match="expected serverTime"):
            await rest.server_time()


@pytest.mark.parametrize("body", [b"{}", b"[null]", b"[[]]", b"[5]", b'[{"a":1}]', b'["text"]'])
async def test_odd_trades_and_klines_are_decode_errors(body: bytes) -> None:
    """Whatever stands in the list, or instead of it."""
    async with open_world() as (world, rest):
        world.exchange.rest_failure(200, body, count=2)
        with pytest.raises(DecodeError):
            await rest.agg_trades(BTC)
        with pytest.raises(DecodeError):
            await rest.klines(BTC, INTERVALS["1m"], start=0, end=MINUTE)


async def test_an_endless_answer_is_a_network_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an exchange sends is bounded, also when it does not say how much it will be."""
    monkeypatch.setattr(rest_module, "MAX_BODY", 100_000)

    async def pour(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            await stream.send_all(b"3e8\r\n" + b" " * 1000 + b"\r\n")

    with trio.fail_after(LIMIT_S):
        async with open_server(pour) as port:
            url = f"http://127.0.0.1:{port}"
            async with open_rest(url, Dialer(None), ExchangeClock()) as rest:
                with pytest.raises(NetworkError, match="expected at most 100000 bytes"):
                    await rest.server_time()


async def test_no_answer_in_time_is_a_network_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exchange that takes the request and says nothing."""
    async with open_world() as (world, rest):
        world.exchange.rest_failure(None)
        with monkeypatch.context() as impatient:
            impatient.setattr(rest_module, "REQUEST_TIMEOUT_S", 0.3)
            with pytest.raises(NetworkError, match="/fapi/v1/time"):
                await rest.server_time()
        assert rest.failures == 1
        assert await rest.server_time() > 0


async def test_a_silent_server_costs_no_more_than_the_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also one that dribbles a byte now and then."""
    monkeypatch.setattr(rest_module, "REQUEST_TIMEOUT_S", 0.3)

    async def dribble(stream: trio.SocketStream) -> None:
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while True:
            await trio.sleep(0.02)
            await stream.send_all(b" ")

    with trio.fail_after(LIMIT_S):
        for handler in (stay_silent, dribble):
            async with open_server(handler) as port:
                url = f"http://127.0.0.1:{port}"
                async with open_rest(url, Dialer(None), ExchangeClock()) as rest:
                    with pytest.raises(NetworkError, match="/fapi/v1/time"):
                        await rest.server_time()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 2",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"SSH-2.0-OpenSSH_9.0\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope",
    ],
    ids=repr,
)
async def test_a_broken_answer_is_a_network_error(answer: bytes) -> None:
    """Cut off, or not HTTP."""

    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(answer)

    with trio.fail_after(LIMIT_S):
        async with open_server(serve) as port:
            url = f"http://127.0.0.1:{port}"
            async with open_rest(url, Dialer(None), ExchangeClock()) as rest:
                with pytest.raises(NetworkError):
                    await rest.server_time()


@pytest.mark.parametrize("mode", [Mode.REFUSE, Mode.CUT])
async def test_a_failing_proxy_is_told_from_a_failing_exchange(mode: Mode) -> None:
    """Refused at the proxy it is a ProxyError, cut in the middle the network's."""
    async with open_world(behaviour=ProxyBehaviour(mode, cut_after=50)) as (_, rest):
        with pytest.raises(NetworkError) as caught:
            await rest.server_time()
        assert (mode is Mode.REFUSE) == isinstance(caught.value, ProxyError)


async def test_a_silent_proxy_is_a_proxy_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the dialler's deadline, not only the request's."""
    monkeypatch.setattr("klinetrio.exchange.dial.DIAL_TIMEOUT_S", 0.2)
    async with open_world(behaviour=ProxyBehaviour(Mode.STALL_GREETED)) as (_, rest):
        with pytest.raises(ProxyError, match="gave no answer"):
            await rest.server_time()


async def test_byte_by_byte_is_slow_but_right() -> None:
    """The proxy's replies may come in any pieces."""
    async with open_world(behaviour=ProxyBehaviour(Mode.BYTE_BY_BYTE)) as (_, rest):
        assert await rest.server_time() > 0


async def test_what_is_asked_for_is_what_the_exchange_hears() -> None:
    """Names are percent-encoded UTF-8, the limit is always sent."""
    heard = []

    async def listen(stream: trio.SocketStream) -> None:
        heard.append(bytes(await stream.receive_some()).split(b" ")[1].decode())
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]")
        await stream.receive_some()

    chinese = Symbol("币安人生USDT", "币安人生", "USDT", 0, 7, 0)
    with trio.fail_after(LIMIT_S):
        async with open_server(listen) as port:
            url = f"http://127.0.0.1:{port}"
            async with open_rest(url, Dialer(None), ExchangeClock(), weight_share=0.5) as rest:
                assert rest.budget.spare == 1_200
                await rest.klines(chinese, INTERVALS["1h"], start=0, end=599 * 60 * MINUTE)
                assert rest.budget.used == 5
            async with open_rest(url, Dialer(None), ExchangeClock()) as rest:
                await rest.agg_trades(chinese, from_id=7, limit=9)
    name = "%E5%B8%81%E5%AE%89%E4%BA%BA%E7%94%9FUSDT"
    expected = [
        f"/fapi/v1/klines?symbol={name}&interval=1h&startTime=0&endTime=2156400000&limit=600",
        f"/fapi/v1/aggTrades?symbol={name}&limit=9&fromId=7",
    ]
    assert expected == heard


async def test_a_cancelled_call_leaves_no_connection_open() -> None:
    """The next one starts on a fresh one."""
    async with open_world() as (world, rest):
        world.exchange.rest_failure(None)
        with trio.move_on_after(0.1):
            await rest.server_time()
        assert await rest.server_time() > 0
        assert world.proxy.statistics().tunnels_opened == 2


async def test_an_empty_minute_has_a_bar_all_the_same() -> None:
    """As the exchange makes them, and as a seed needs them."""
    async with open_world() as (world, rest):
        now = world.market.clock.now_ms()
        first = now - now % MINUTE - 3 * MINUTE
        world.market.trade("BTCUSDT", "100.00", "1.000", first)
        bars = await rest.klines(BTC, INTERVALS["1m"], start=first, end=first + 2 * MINUTE)
        assert [1, 0, 0] == bars[:, TRADE_COUNT].tolist()
        assert [10_000] * 3 == bars[:, CLOSE].tolist()
