"""Binance's own SDK for USD-M futures, told where to go by its configuration."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.clients.truth import LIMIT_S, closed


sdk = pytest.importorskip(
    "binance_sdk_derivatives_trading_usds_futures.derivatives_trading_usds_futures",
    reason="nox -s clients brings it",
)
configuration = pytest.importorskip(
    "binance_common.configuration", reason="nox -s clients brings it"
)
errors = pytest.importorskip("binance_common.errors", reason="nox -s clients brings it")

if TYPE_CHECKING:
    from tests.clients.truth import Exchange
    from tests.page.daemons import RunningDaemon


@pytest.fixture
def rest(daemon: RunningDaemon) -> Any:
    """Return its REST client of the daemon."""
    config = configuration.ConfigurationRestAPI(base_path=daemon.address, timeout=60_000)
    return sdk.DerivativesTradingUsdsFutures(config_rest_api=config).rest_api


def test_kline_candlestick_data_is_the_exchanges(rest: Any, exchange: Exchange) -> None:
    """Also of a folded interval; the SDK checks every type on the way."""
    now = rest.check_server_time().data().server_time
    for interval in ("1m", "3m"):
        reply = rest.kline_candlestick_data("BTCUSDT", interval, limit=50)
        bars = [list(bar) for bar in reply.data()]
        truth = closed(exchange.klines("BTCUSDT", interval, bars[0][0], bars[-1][0]), now)
        assert len(truth) > 40
        assert [[str(each) for each in bar] for bar in bars[: len(truth)]] == [
            [str(each) for each in bar] for bar in truth
        ]


def test_continuous_klines_listing_trades_and_tickers(rest: Any) -> None:
    """Every answer fits the SDK's own models."""
    assert rest.continuous_contract_kline_candlestick_data(
        "BTCUSDT", "PERPETUAL", "1m", limit=2
    ).data()
    listing = rest.exchange_information().data()
    assert "BTCUSDT" in {each.symbol for each in listing.symbols}
    assert len(rest.compressed_aggregate_trades_list("BTCUSDT", limit=3).data()) == 3
    ticker = rest.ticker24hr_price_change_statistics(symbol="BTCUSDT").data()
    assert ticker.actual_instance.symbol == "BTCUSDT"


def test_the_weight_is_told(rest: Any) -> None:
    """The SDK reads it from the header."""
    (limit,) = rest.kline_candlestick_data("BTCUSDT", "1m", limit=1).rate_limits
    assert (limit.rateLimitType, limit.interval, limit.intervalNum) == (
        "REQUEST_WEIGHT",
        "MINUTE",
        1,
    )
    assert limit.count > 0


def test_errors_are_the_sdks(rest: Any) -> None:
    """A bad request, in the exchange's words."""
    with pytest.raises(errors.BadRequestError, match="Invalid symbol"):
        rest.kline_candlestick_data("NOSUCH", "1m")


def test_kline_streams_end_a_bar_as_the_exchange(daemon: RunningDaemon, exchange: Exchange) -> None:
    """Events until one is closed, and mini tickers on the same connection."""

    async def follow() -> tuple[Any, Any]:
        config = configuration.ConfigurationWebSocketStreams(
            stream_url=daemon.address.replace("http", "ws")
        )
        streams = sdk.DerivativesTradingUsdsFutures(config_ws_streams=config).websocket_streams
        connection = await streams.create_connection()
        loop = asyncio.get_running_loop()
        bar, ticker = loop.create_future(), loop.create_future()

        def on_kline(event: Any) -> None:
            if event.k.x and not bar.done():
                bar.set_result(event.k.model_dump(by_alias=True))

        def on_ticker(event: Any) -> None:
            if not ticker.done():
                ticker.set_result(event)

        try:
            klines = await connection.kline_candlestick_streams(symbol="btcusdt", interval="1m")
            klines.on("message", on_kline)
            tickers = await connection.individual_symbol_mini_ticker_stream(symbol="btcusdt")
            tickers.on("message", on_ticker)
            return await bar, await ticker
        finally:
            await connection.close_connection(close_session=True)

    bar, ticker = asyncio.run(asyncio.wait_for(follow(), LIMIT_S))
    assert (bar.pop("s"), ticker.s, ticker.e) == ("BTCUSDT", "BTCUSDT", "24hrMiniTicker")
    exchange.assert_told(bar, "BTCUSDT")
