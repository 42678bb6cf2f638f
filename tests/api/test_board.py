"""The ticker board as a client asks it again and again."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx2
import trio

from klinetrio.api.app import create_app
from klinetrio.api.board import TickerBoard
from klinetrio.api.hub import PushHub
from klinetrio.api.ports import SymbolState
from klinetrio.domain.interval import DAY, MINUTE
from klinetrio.domain.trade import AggTrade
from klinetrio.errors import StoreError
from tests.api.memory_market import START, MemoryMarket
from tests.api.minute_market import MinuteMarket, random_minutes
from tests.api.wire import serving


if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LIMIT_S = 60.0


class Asking:
    """A client that keeps what it was told, as the page does."""

    def __init__(self, market: MemoryMarket, board: TickerBoard, client: httpx2.AsyncClient):
        self.market = market
        self.client = client
        self._board = board
        self.known: dict[str, Any] = {}
        self._since: int | None = None

    def swap(self) -> None:
        """Swap, as the daemon does."""
        self._board.publish(self.market.swap())

    async def full(self) -> list[dict[str, Any]]:
        """Return all tickers."""
        tickers: list[dict[str, Any]] = (await self.client.get("/api/v1/tickers")).json()["tickers"]
        return tickers

    async def news(self) -> list[str]:
        """Take what has changed; return whose tickers came."""
        params = {} if self._since is None else {"since": self._since}
        reply = (await self.client.get("/api/v1/tickers", params=params)).json()
        self._since = reply["generation"]
        self.known |= {each["symbol"]: each for each in reply["tickers"]}
        return [each["symbol"] for each in reply["tickers"]]


@asynccontextmanager
async def asking(market: MemoryMarket) -> AsyncIterator[Asking]:
    """Serve a market whose swaps the board follows."""
    board = TickerBoard(lambda: market)
    app = create_app(lambda: market, PushHub(lambda: market), trio.Event(), board)
    with trio.fail_after(LIMIT_S):
        async with (
            serving(app) as served,
            httpx2.AsyncClient(
                base_url=f"http://127.0.0.1:{served.port}", trust_env=False
            ) as client,
        ):
            yield Asking(market, board, client)


async def test_ticker_has_the_promised_form() -> None:
    """Names, types and decimals of interface v1."""
    minutes = random_minutes(2, range(START - 2 * DAY, START, MINUTE))
    market = MinuteMarket(minutes, ("1m", "1h"))
    market.stands[0] = SymbolState("live", START - 5)
    async with asking(market) as asked:
        reply = (await asked.client.get("/api/v1/tickers")).json()

    assert list(reply) == ["time", "generation", "tickers"]
    assert reply["time"] == market.now
    (ticker,) = reply["tickers"]
    assert ticker["symbol"] == "BTC_USDT"
    assert ticker["state"] == "live"
    assert ticker["last_trade_time"] == START - 5
    assert ticker["is_complete"] is True
    inside = [bar for bar in minutes if bar[0] >= START - MINUTE - DAY]
    assert ticker["trade_count"] == sum(bar[7] for bar in inside)
    assert ticker["price"] == f"{inside[-1][4] / 100:.2f}"
    assert ticker["volume"] == f"{sum(bar[5] for bar in inside) / 1000:.3f}"
    assert ticker["high"] == f"{max(bar[2] for bar in inside if bar[7]) / 100:.2f}"
    change = float(ticker["price"]) - float(ticker["open"])
    assert ticker["price_change"] == f"{change:.2f}"
    assert ticker["price_change_percent"] == f"{100 * change / float(ticker['open']):.3f}"


async def test_only_what_has_changed_comes() -> None:
    """A trade, a state, a last trade: each brings its own symbol and no other."""
    market = MemoryMarket()
    for symbol in range(3):
        for row in range(3 * symbol, 3 * symbol + 3):
            market.trade(row)
    async with asking(market) as asked:
        asked.swap()
        assert await asked.news() == ["BTC_USDT", "ETH_USDC", "币安人生_USDT"]
        assert await asked.news() == []
        market.trade(3)
        asked.swap()
        assert await asked.news() == ["ETH_USDC"]
        market.stands[0] = SymbolState("down", None)
        assert await asked.news() == ["BTC_USDT"]
        market.stands[2] = SymbolState("live", START)
        assert await asked.news() == ["币安人生_USDT"]
        assert await asked.news() == []


async def test_news_add_up_to_everything() -> None:
    """Whoever has taken every change knows what is told in full."""
    market = MemoryMarket()
    async with asking(market) as asked:
        for step in range(40):
            row = 3 * (step % 3)
            market.trade(row, 100 + step)
            market.trade(row + 1, 100 + step)
            if step % 7 == 3:
                market.close(row)
            if step % 7 == 5 and market.has_closed(row):
                market.correct(row)
            if step % 5 == 1:
                market.stands[step % 3] = SymbolState("seeding", START + step)
            asked.swap()
            if step % 3:
                await asked.news()
        await asked.news()

        assert list(asked.known.values()) == await asked.full()


async def test_a_generation_of_an_earlier_run_brings_everything() -> None:
    """Counts go on over a restart; what an earlier run told is all out of date."""
    market = MemoryMarket()
    async with asking(market) as asked:
        reply = await asked.client.get("/api/v1/tickers", params={"since": START - 1})
        ahead = await asked.client.get("/api/v1/tickers", params={"since": START + DAY})

    assert len(reply.json()["tickers"]) == len(ahead.json()["tickers"]) == 3


async def test_what_is_not_known_is_null() -> None:
    """A symbol without bars, and a history that cannot be read, are told as such."""
    market = MemoryMarket()
    market.failure = StoreError("away")
    market.trade(0)
    market.trade(1)
    async with asking(market) as asked:
        asked.swap()
        first, second, _ = await asked.full()

    assert first["price"] == "1.00"
    assert first["open"] is None
    assert second["price"] is None
    assert second["is_complete"] is False


async def test_a_corrected_bar_changes_the_ticker() -> None:
    """The correction of a closed hour shows with the next answer."""
    market = MinuteMarket(random_minutes(5, range(START - 2 * DAY, START, MINUTE)), ("1m", "1h"))
    async with asking(market) as asked:
        await asked.news()
        before = asked.known["BTC_USDT"]["volume"]
        market.correct(1)
        asked.swap()
        assert await asked.news() == ["BTC_USDT"]

    assert float(asked.known["BTC_USDT"]["volume"]) > float(before)


def test_newest_trade_is_the_youngest() -> None:
    """A trade that was missed and comes late is not the newest; ids that start over are."""
    market = MemoryMarket()
    board = TickerBoard(lambda: market)
    for agg_id, time in ((9, START + 50), (7, START + 30), (3, START + 90)):
        market.take(AggTrade("BTCUSDT", agg_id, 100, 1, 1, 1, time, False))
        board.publish(market.swap())

    assert board.of(market).newest["BTCUSDT"].agg_id == 3
