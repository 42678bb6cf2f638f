"""The exchange's REST as a client of ours sees it: a real server on loopback, a real HTTP client."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import httpx2
import pytest
import trio

from klinetrio.api.app import create_app
from klinetrio.api.hub import PushHub
from klinetrio.domain.interval import MINUTE
from klinetrio.domain.listing import Listing
from klinetrio.errors import StoreError
from tests.api.memory_market import START, MemoryMarket, entry_of, with_minutes
from tests.api.wire import serving


if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LIMIT_S = 60.0


@asynccontextmanager
async def client_of(market: MemoryMarket | None) -> AsyncIterator[httpx2.AsyncClient]:
    """Serve ``market``; yield a client of it."""
    app = create_app(lambda: market, PushHub(lambda: market), trio.Event())
    with trio.fail_after(LIMIT_S):
        async with (
            serving(app) as served,
            httpx2.AsyncClient(
                base_url=f"http://127.0.0.1:{served.port}", trust_env=False
            ) as client,
        ):
            yield client


async def test_kline_has_the_promised_form() -> None:
    """An array of twelve, with the types and decimals that were captured."""
    async with client_of(with_minutes(1)) as client:
        reply = await client.get("/fapi/v1/klines?symbol=btcusdt&interval=1m&limit=1&endTime=1")
        assert reply.json() == []
        reply = await client.get(f"/fapi/v1/klines?symbol=btcusdt&interval=1m&endTime={START}")

    row = ["1.00", "1.00", "1.00", "1.00", "0.001", START + MINUTE - 1]
    assert reply.json() == [[START, *row, "0.00100", 1, "0.000", "0.00000", "0"]]
    assert reply.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("query", "status", "code", "message"),
    [
        ("klines?interval=1m", 400, -1102, "Mandatory parameter 'symbol' was not sent, "),
        ("klines?symbol=NONE&interval=1m", 400, -1121, "Invalid symbol."),
        ("klines?symbol=BTCUSDT&interval=1s", 400, -1120, "Invalid interval."),
        ("klines?symbol=BTCUSDT&interval=1w", 400, -1120, "Invalid interval: it is not made up "),
        ("klines?symbol=BTCUSDT&interval=1m&limit=1501", 400, -1130, "Data sent for parameter "),
        ("klines?symbol=BTCUSDT&interval=1m&limit=", 400, -1105, "Parameter 'limit' was empty."),
        ("klines?symbol=BTCUSDT&interval=1m&endTime=x", 400, -1100, "Illegal characters found "),
        ("klines?symbol=BTCUSDT&interval=1m&startTime=2&endTime=1", 400, -1023, "Start time is "),
        ("aggTrades?symbol=BTCUSDT&fromId=1", 400, -4166, "Search window is restricted to "),
        ("continuousKlines?pair=BTCUSDT&contractType=X&interval=1m", 400, -1130, "Data sent "),
        ("nothing", 404, -5000, "Path /fapi/v1/nothing, Method GET is invalid"),
        ("ping/", 404, -5000, "Path /fapi/v1/ping/, Method GET is invalid"),
        ("../v2/ping", 404, -5000, "Path /fapi/v2/ping, Method GET is invalid"),
        ("ping?" + "x" * 2049, 414, -1101, "Expected a query string of at most"),
    ],
)
async def test_what_is_refused_is_refused_as_the_exchange_does(
    query: str, status: int, code: int, message: str
) -> None:
    """HTTP status, code and words, whoever in the daemon refuses it."""
    market = MemoryMarket(intervals=("1m", "1h"))
    market.intervals = market.intervals[:1] if "1s" in query else market.intervals
    if "1w" in query:
        market = MemoryMarket(intervals=("1M",))
    async with client_of(market) as client:
        reply = await client.get(f"/fapi/v1/{query}")

    assert reply.status_code == status
    assert list(reply.json()) == ["code", "msg"]
    assert reply.json()["code"] == code
    assert reply.json()["msg"].startswith(message)


async def test_failures_of_ours_have_the_same_form() -> None:
    """A start that is not over and a database that fails are told as the exchange would."""
    async with client_of(None) as client:
        starting = await client.get("/fapi/v1/ping")
    market = with_minutes(1)
    market.failure = StoreError("away")
    async with client_of(market) as client:
        failing = await client.get("/fapi/v1/klines?symbol=BTCUSDT&interval=1m")
        posted = await client.post("/fapi/v1/ping")

    assert starting.status_code == failing.status_code == 503
    assert starting.json()["code"] == failing.json()["code"] == -1001
    assert starting.headers["retry-after"] == "1"
    assert failing.headers["x-mbx-used-weight-1m"] == "5"
    assert posted.status_code == 404
    assert posted.json() == {"code": -5000, "msg": "Path /fapi/v1/ping, Method POST is invalid"}


async def test_listing_is_handed_on_as_it_came() -> None:
    """Fields of the head in their order, the time put in its place."""
    market = MemoryMarket()
    head = {"timezone": "UTC", "futuresType": "U_MARGINED", "rateLimits": [], "assets": []}
    market.listing = Listing(head, [entry_of(each) for each in market.symbols])
    async with client_of(market) as client:
        info = (await client.get("/fapi/v1/exchangeInfo")).json()

    assert list(info) == [
        "timezone",
        "serverTime",
        "futuresType",
        "rateLimits",
        "assets",
        "symbols",
    ]
    assert info["serverTime"] == START
    assert [each["symbol"] for each in info["symbols"]] == [s.name for s in market.symbols]


async def test_weight_is_told_by_the_minute_and_refuses_nothing() -> None:
    """As measured at the exchange; a new minute of its clock begins anew."""
    market = with_minutes(1)
    async with client_of(market) as client:

        async def weigh(query: str) -> int:
            reply = await client.get(f"/fapi/v1/{query}")
            return int(reply.headers["X-MBX-USED-WEIGHT-1M"])

        used = 0
        for query, weight in (
            ("ping", 1),
            ("klines?symbol=BTCUSDT&interval=1m", 5),
            ("klines?symbol=BTCUSDT&interval=1m&limit=100", 1),
            ("klines?symbol=BTCUSDT&interval=1m&limit=101", 2),
            ("klines?symbol=BTCUSDT&interval=1m&limit=501", 5),
            ("klines?symbol=NONE&limit=1501", 10),
            ("aggTrades?symbol=BTCUSDT&limit=1", 20),
            ("ticker/price?symbol=BTCUSDT", 1),
            ("ticker/price", 2),
            ("ticker/24hr?symbol=BTCUSDT", 1),
            ("ticker/24hr", 40),
        ):
            used += weight
            assert await weigh(query) == used, query
        market.now += MINUTE
        assert await weigh("ping") == 1


async def test_the_second_version_of_the_price_is_the_first() -> None:
    """Newer programs ask for it; other routes have one version, as at the exchange."""
    async with client_of(with_minutes(1)) as client:
        first, second = [
            (await client.get(f"/fapi/{version}/ticker/price?symbol=BTCUSDT")).json()
            for version in ("v1", "v2")
        ]
        assert first == second
        other = await client.get("/fapi/v2/klines?symbol=BTCUSDT&interval=1m")
        assert (other.status_code, other.json()["code"]) == (404, -5000)
