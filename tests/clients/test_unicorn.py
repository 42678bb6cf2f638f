"""unicorn-binance-websocket-api, told where to go by ``websocket_base_uri``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from tests.clients.truth import deadline


unicorn = pytest.importorskip("unicorn_binance_websocket_api", reason="nox -s clients brings it")

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.clients.truth import Exchange
    from tests.page.daemons import RunningDaemon


@pytest.fixture
def manager(daemon: RunningDaemon) -> Iterator[Any]:
    """Return its manager, pointed at the daemon."""
    manager = unicorn.BinanceWebSocketApiManager(
        exchange="binance.com-futures",
        websocket_base_uri=f"{daemon.address.replace('http', 'ws')}/",
        disable_colorama=True,
        warn_on_update=False,
    )
    yield manager
    manager.stop_manager()


def test_klines_and_trades_of_several_symbols(manager: Any, exchange: Exchange) -> None:
    """Until a bar of each has closed."""
    manager.create_stream(["kline_1m", "aggTrade"], ["btcusdt", "ethusdt"])
    bars: dict[str, dict[str, Any]] = {}
    trades: dict[str, dict[str, Any]] = {}
    end = deadline()
    while len(bars) < 2 or not trades:
        assert time.monotonic() < end, (list(bars), list(trades))
        text = manager.pop_stream_data_from_stream_buffer()
        if not text:
            time.sleep(0.02)
            continue
        event = orjson.loads(text).get("data", {})
        if event.get("e") == "kline" and event["k"]["x"]:
            bars.setdefault(event["s"], event["k"])
        if event.get("e") == "aggTrade":
            trades[event["s"]] = event
    for symbol, bar in bars.items():
        assert bar.pop("s") == symbol
        exchange.assert_told(bar, symbol)
    for symbol, trade in trades.items():
        (truth,) = exchange.get("aggTrades", symbol=symbol, fromId=trade["a"], limit=1)
        assert (trade["p"], trade["q"]) == (truth["p"], truth["q"])
