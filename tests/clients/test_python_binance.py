"""python-binance, told where to go by its URL attributes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.clients.truth import LIMIT_S, closed


binance = pytest.importorskip("binance", reason="nox -s clients brings it")

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.clients.truth import Exchange
    from tests.page.daemons import RunningDaemon

HOUR = 3_600_000


@pytest.fixture
def client(daemon: RunningDaemon) -> Iterator[Any]:
    """Return its client of the daemon."""
    client = binance.Client(ping=False)
    client.FUTURES_URL = f"{daemon.address}/fapi"
    yield client
    client.close_connection()


@pytest.mark.parametrize("interval", ["1m", "5m", "2h"])
def test_futures_klines_are_the_exchanges(client: Any, exchange: Exchange, interval: str) -> None:
    """Text by text."""
    now = client.futures_time()["serverTime"]
    bars = client.futures_klines(symbol="BTCUSDT", interval=interval, limit=50)
    truth = closed(exchange.klines("BTCUSDT", interval, bars[0][0], bars[-1][0]), now)
    assert len(truth) > 40
    assert bars[: len(truth)] == truth


def test_futures_historical_klines_page_on(client: Any, exchange: Exchange) -> None:
    """More than one page, as the library walks through them."""
    now = client.futures_time()["serverTime"]
    start = now - 30 * HOUR
    bars = client.futures_historical_klines("ETHUSDT", "1m", start, now)
    truth = [
        *exchange.klines("ETHUSDT", "1m", start, start + 20 * HOUR - 1),
        *exchange.klines("ETHUSDT", "1m", start + 20 * HOUR, now),
    ]
    truth = closed(truth, now)
    assert len(truth) > 1_700
    assert bars[: len(truth)] == truth


def test_trades_tickers_and_the_listing(client: Any, exchange: Exchange) -> None:
    """What else works without a key."""
    assert client.futures_ping() == {}
    trades = client.futures_aggregate_trades(symbol="BTCUSDT", limit=5)
    assert trades == exchange.get("aggTrades", symbol="BTCUSDT", fromId=trades[0]["a"], limit=5)
    assert client.futures_ticker(symbol="BTCUSDT")["symbol"] == "BTCUSDT"
    assert float(client.futures_symbol_ticker(symbol="BTCUSDT")["price"]) > 0
    names = {each["symbol"] for each in client.futures_exchange_info()["symbols"]}
    assert {"BTCUSDT", "ETHUSDT"} <= names


def test_errors_have_the_exchanges_codes(client: Any) -> None:
    """As its exception tells them."""
    with pytest.raises(binance.BinanceAPIException) as raised:
        client.futures_klines(symbol="NOSUCH", interval="1m")
    assert (raised.value.status_code, raised.value.code) == (400, -1121)


def test_kline_futures_socket_ends_a_bar_as_the_exchange(
    daemon: RunningDaemon, exchange: Exchange
) -> None:
    """Events of the continuous kline until one is closed."""

    async def follow() -> dict[str, Any]:
        client = binance.AsyncClient()
        manager = binance.BinanceSocketManager(client)
        manager.FSTREAM_URL = f"{daemon.address.replace('http', 'ws')}/"
        try:
            async with manager.kline_futures_socket("BTCUSDT", "1m") as stream:
                while True:
                    event: dict[str, Any] = await stream.recv()
                    assert (event["e"], event["ps"]) == ("continuous_kline", "BTCUSDT")
                    if event["k"]["x"]:
                        bar: dict[str, Any] = event["k"]
                        return bar
        finally:
            await client.close_connection()

    exchange.assert_told(asyncio.run(asyncio.wait_for(follow(), LIMIT_S)), "BTCUSDT")
