"""ccxt and ccxt.pro, told where to go by ``urls``, as its manual says."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.clients.truth import LIMIT_S, closed, numbers


ccxt = pytest.importorskip("ccxt", reason="nox -s clients brings it")
ccxtpro = pytest.importorskip("ccxt.pro", reason="nox -s clients brings it")

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.clients.truth import Exchange
    from tests.page.daemons import RunningDaemon

SYMBOL = "BTC/USDT:USDT"
MINUTE = 60_000


@pytest.fixture
def client(daemon: RunningDaemon) -> Iterator[Any]:
    """Return ccxt's client of the daemon."""
    client = ccxt.binanceusdm()
    client.urls["api"]["fapiPublic"] = f"{daemon.address}/fapi/v1"
    yield client
    client.session.close()


def test_load_markets_finds_every_symbol(client: Any, exchange: Exchange) -> None:
    """With the precision that the exchange tells."""
    markets = client.load_markets()
    listed = [
        each
        for each in exchange.get("exchangeInfo")["symbols"]
        if each["contractType"] == "PERPETUAL" and each["status"] == "TRADING"
    ]
    assert {each["symbol"] for each in listed} == {each["id"] for each in markets.values()}
    (bitcoin,) = (each for each in listed if each["symbol"] == "BTCUSDT")
    (tick,) = (each for each in bitcoin["filters"] if each["filterType"] == "PRICE_FILTER")
    assert markets[SYMBOL]["precision"]["price"] == float(tick["tickSize"])
    assert markets[SYMBOL]["active"]


@pytest.mark.parametrize("timeframe", ["1m", "3m", "1h", "2h", "1d"])
def test_fetch_ohlcv_is_the_exchanges(client: Any, exchange: Exchange, timeframe: str) -> None:
    """Kept intervals and folded ones, from a time on, page by page."""
    length = client.parse_timeframe(timeframe) * 1000
    now = client.fetch_time()
    since = now - now % length - 60 * length
    bars: list[list[float]] = []
    while page := client.fetch_ohlcv(SYMBOL, timeframe, since=since, limit=25):
        bars += page
        since = page[-1][0] + length
    truth = closed(exchange.klines("BTCUSDT", timeframe, int(bars[0][0]), now), now)
    assert len(truth) > 3
    assert numbers(truth) == bars[: len(truth)]


def test_fetch_trades_are_the_exchanges(client: Any, exchange: Exchange) -> None:
    """Ids, sides, prices and amounts."""
    trades = client.fetch_trades(SYMBOL, limit=20)
    assert len(trades) == 20
    truth = exchange.get("aggTrades", symbol="BTCUSDT", fromId=int(trades[0]["id"]), limit=20)
    told = [[int(each["id"]), each["price"], each["amount"], each["side"]] for each in trades]
    assert told == [
        [each["a"], float(each["p"]), float(each["q"]), "sell" if each["m"] else "buy"]
        for each in truth
    ]


def test_fetch_ticker_has_the_day(client: Any) -> None:
    """Of one and of all."""
    ticker = client.fetch_ticker(SYMBOL)
    assert ticker["low"] <= ticker["last"] <= ticker["high"]
    assert SYMBOL in client.fetch_tickers()


def test_errors_are_known_to_ccxt(client: Any) -> None:
    """Its own class for what the exchange's code means."""
    with pytest.raises(ccxt.BadSymbol):
        client.fapiPublicGetKlines({"symbol": "NOSUCH", "interval": "1m"})
    with pytest.raises(ccxt.BadRequest):
        client.fapiPublicGetKlines({"symbol": "BTCUSDT", "interval": "7m"})


def test_watch_ohlcv_moves_and_ends_as_the_exchanges(
    daemon: RunningDaemon, exchange: Exchange
) -> None:
    """A bar that another one follows is the exchange's."""

    async def watch() -> list[list[float]]:
        client = ccxtpro.binanceusdm({"newUpdates": False})
        client.urls["api"]["fapiPublic"] = f"{daemon.address}/fapi/v1"
        client.urls["api"]["ws"]["linear"] = f"{daemon.address.replace('http', 'ws')}/ws"
        try:
            bars: list[list[float]] = []
            while len(bars) < 3:
                bars = [list(bar) for bar in await client.watch_ohlcv(SYMBOL, "1m")]
            return bars
        finally:
            await client.close()

    bars = asyncio.run(asyncio.wait_for(watch(), LIMIT_S))
    # The first one was watched from its middle on, the last one is open.
    (whole,) = bars[1:-1]
    start = int(whole[0])
    assert [whole] == numbers(exchange.klines("BTCUSDT", "1m", start, start))
    assert start - bars[0][0] == bars[2][0] - start == MINUTE
