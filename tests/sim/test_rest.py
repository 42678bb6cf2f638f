"""REST as Binance answers it: selection, weights, errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest
import trio

from klinetrio.domain.interval import DAY, HOUR, INTERVALS, MINUTE
from klinetrio.sim import (
    RateLimits,
    ScriptedMarket,
    SeededMarket,
    SimClock,
    open_simulated_exchange,
)
from klinetrio.sim.weight import WeightMeter, klines_weight


if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    import httpx2

    Bounded = Callable[[], AbstractContextManager[Any]]

# As captured on 2026-10-07.
BINANCES_ROW = orjson.loads(
    '[1791382920000,"83137.90","83155.70","83082.90","83084.90","102.437",1791382979999,'
    '"8514292.61220",4409,"49.832","4141805.93340","0"]'
)

NOON = 1_791_374_400_000  # 2026-10-07 12:00 UTC


@pytest.mark.parametrize(
    ("limit", "weight"),
    [(1, 1), (100, 1), (101, 2), (500, 2), (501, 5), (1000, 5), (1001, 10), (1501, 10), (None, 5)],
)
def test_klines_weigh_as_measured(limit: int | None, weight: int) -> None:
    """The edges of the table; without a limit it is five."""
    assert weight == klines_weight(limit)


def test_limit_is_warned_of_then_enforced() -> None:
    """Above the limit 429, soon 418; the minute does not lift a ban, its end does."""
    clock = SimClock(NOON + 50_000, held=True)
    meter = WeightMeter(clock, RateLimits(weight_per_minute=40, warnings=2, ban_s=30))
    assert [meter.charge(20), meter.charge(20)] == [None, None]
    warning = meter.charge(1)
    assert warning is not None
    assert (warning.status, warning.retry_after_s) == (429, 10)
    meter.charge(1)
    ban = meter.charge(1)
    assert ban is not None
    assert (ban.status, ban.retry_after_s) == (418, 30)
    assert f"IP banned until {NOON + 80_000}." in ban.message
    clock.start_ms = NOON + 60_000
    still = meter.charge(1)
    assert still is not None
    assert (still.status, meter.used) == (418, 1)
    clock.start_ms = NOON + 80_000
    assert meter.charge(1) is None
    assert meter.highest == 43
    assert (meter.refused, meter.bans) == (4, 1)


class Rest:
    """A client of one exchange."""

    def __init__(self, client: httpx2.AsyncClient, url: str) -> None:
        self._client = client
        self._url = url

    async def get(self, route: str, **params: Any) -> httpx2.Response:
        """Call a route."""
        return await self._client.get(f"{self._url}/fapi/v1/{route}", params=params)

    async def refusal(self, route: str, **params: Any) -> tuple[int, int]:
        """Call a route; return status and Binance's code."""
        response = await self.get(route, **params)
        assert response.headers["content-type"] == "application/json"
        return response.status_code, response.json()["code"]


async def test_errors_are_binances(http: httpx2.AsyncClient, bounded: Bounded) -> None:
    """Each wrong call gets the code that Binance has for it, and is charged."""
    market = ScriptedMarket(["BTCUSDT"], clock=SimClock(NOON, held=True))
    with bounded():
        async with open_simulated_exchange(market) as exchange:
            rest = Rest(http, exchange.rest_url)
            good = {"symbol": "BTCUSDT", "interval": "1m"}
            assert await rest.refusal("klines", interval="1m") == (400, -1102)
            assert await rest.refusal("klines", symbol="BTCUSDT") == (400, -1102)
            assert await rest.refusal("klines", symbol="NOUSDT", interval="1m") == (400, -1121)
            assert await rest.refusal("klines", symbol="BTCUSDT", interval="1s") == (400, -1120)
            assert await rest.refusal("klines", **good, limit=1501) == (400, -1130)
            assert await rest.refusal("klines", **good, limit=0) == (400, -1130)
            assert await rest.refusal("klines", **good, limit="x") == (400, -1100)
            assert await rest.refusal("klines", **good, startTime="") == (400, -1105)
            assert await rest.refusal("klines", **good, startTime=2, endTime=1) == (400, -1023)
            assert await rest.refusal("aggTrades", symbol="BTCUSDT", limit=1001) == (400, -1130)
            assert await rest.refusal(
                "aggTrades", symbol="BTCUSDT", startTime=NOON - 2 * DAY - 1
            ) == (400, -4166)
            assert await rest.refusal("aggTrades", symbol="BTCUSDT", fromId=1, startTime=NOON) == (
                400,
                -1128,
            )
            assert await rest.refusal("nothing") == (404, -5000)
            assert exchange.statistics().weight_used == 5 * 4 + 10 + 1 + 5 + 5 + 5 + 3 * 20
            answer = await rest.get("ping")
            assert answer.headers["x-mbx-used-weight-1m"] == "107"


async def test_klines_are_the_truth_as_text(http: httpx2.AsyncClient, bounded: Bounded) -> None:
    """Twelve fields, the last bar open, lower case accepted, empty minutes carried forward."""
    market = ScriptedMarket(["BTCUSDT"], clock=SimClock(NOON + 130_000, held=True))
    market.trade("BTCUSDT", "83091.70", "0.022", NOON, maker=False, fills=2)
    market.trade("BTCUSDT", "83090.1", "0.5", NOON + 59_999, maker=True)
    market.trade("BTCUSDT", "83090.2", "1", NOON + 130_000)
    with bounded():
        async with open_simulated_exchange(market) as exchange:
            rest = Rest(http, exchange.rest_url)
            rows = (await rest.get("klines", symbol="btcusdt", interval="1m", limit=100)).json()
            week = (await rest.get("klines", symbol="BTCUSDT", interval="1w")).json()
    expected = """
        83091.70 83091.70 83090.10 83090.10 0.522 43373.06740 3 0.022 1828.01740
        83090.10 83090.10 83090.10 83090.10 0.000 0.00000 0 0.000 0.00000
        83090.20 83090.20 83090.20 83090.20 1.000 83090.20000 1 1.000 83090.20000
    """
    columns = (1, 2, 3, 4, 5, 7, 8, 9, 10)
    assert expected.split() == [str(row[column]) for row in rows for column in columns]
    opens = [NOON, NOON + MINUTE, NOON + 2 * MINUTE]
    assert [[each, each + MINUTE - 1, "0"] for each in opens] == [
        [row[0], row[6], row[11]] for row in rows
    ]
    assert [type(field) for field in rows[0]] == [type(field) for field in BINANCES_ROW]
    monday = NOON - 2 * DAY - 12 * HOUR
    assert [monday, monday + 7 * DAY - 1] == [week[0][0], week[0][6]]
    assert week[0][1:6] == ["83091.70", "83091.70", "83090.10", "83090.20", "1.522"]


async def test_pages_of_klines_join(http: httpx2.AsyncClient, bounded: Bounded) -> None:
    """What a client collects page by page over REST is the truth, to the digit."""
    clock = SimClock(NOON, held=True)
    market = SeededMarket(seed=5, symbols=3, history_minutes=3_000, clock=clock)
    interval = INTERVALS["15m"]
    truth = market.true_klines("ETHUSDT", interval, NOON - DAY, NOON)
    rows: list[list[Any]] = []
    with bounded():
        async with open_simulated_exchange(market) as exchange:
            rest = Rest(http, exchange.rest_url)
            start = NOON - DAY
            params = {"symbol": "ETHUSDT", "interval": "15m", "endTime": NOON - 1, "limit": 17}
            while start < NOON:
                rows += (await rest.get("klines", **params, startTime=start)).json()
                start = rows[-1][0] + interval.length
    as_ints = [[int(str(field).replace(".", "")) for field in row[:11]] for row in rows]
    expected = [[*row[:6], interval.close_of(row[0]), *row[6:10]] for row in truth]
    assert expected == as_ints
    assert len(rows) == 96


async def test_agg_trades_by_id_and_by_time(http: httpx2.AsyncClient, bounded: Bounded) -> None:
    """``fromId`` is inclusive, times are inclusive, no parameter is the newest ones."""
    market = ScriptedMarket(["BTCUSDT"], clock=SimClock(NOON, held=True))
    old = market.trade("BTCUSDT", "1", "1", NOON - 3 * DAY)
    made = [market.trade("BTCUSDT", "2", "1", NOON - 1_000 * n) for n in (5, 4, 3, 2, 1)]
    ids = [trade.agg_id for trade in made]
    with bounded():
        async with open_simulated_exchange(market) as exchange:
            rest = Rest(http, exchange.rest_url)

            async def ask(**params: Any) -> list[int]:
                answer = await rest.get("aggTrades", symbol="BTCUSDT", **params)
                return [row["a"] for row in answer.json()]

            assert ids == await ask()
            assert ids[-2:] == await ask(limit=2)
            assert ids[1:3] == await ask(fromId=ids[1], limit=2)
            assert ids[1:4] == await ask(startTime=NOON - 4_000, endTime=NOON - 2_000)
            assert ids[:2] == await ask(endTime=NOON - 4_000)
            assert await rest.refusal("aggTrades", symbol="BTCUSDT", fromId=old.agg_id) == (
                400,
                -4166,
            )
            row = (await rest.get("aggTrades", symbol="BTCUSDT", limit=1)).json()[0]
    assert list(row) == ["a", "p", "q", "nq", "f", "l", "T", "m"]
    assert row["p"] == "2.00"


async def test_exchange_info_needs_a_careful_reader(
    http: httpx2.AsyncClient, bounded: Bounded
) -> None:
    """Keys of filters are shuffled and an unknown filter is among them; times are told skewed."""
    market = SeededMarket(seed=5, symbols=12, clock=SimClock(NOON, held=True))
    market.clock.skew_ms = 2_500
    with bounded():
        async with open_simulated_exchange(market) as exchange:
            rest = Rest(http, exchange.rest_url)
            info = (await rest.get("exchangeInfo")).json()
            assert (await rest.get("time")).json() == {"serverTime": NOON + 2_500}
    assert info["serverTime"] == NOON + 2_500
    price_filters = [
        next(each for each in row["filters"] if each["filterType"] == "PRICE_FILTER")
        for row in info["symbols"]
    ]
    assert len({tuple(each) for each in price_filters}) > 3
    assert any(each["filterType"] == "SIMULATED_FILTER" for each in info["symbols"][0]["filters"])
    assert price_filters[0]["tickSize"] == "0.10"
    assert "币安人生USDT" in {row["symbol"] for row in info["symbols"]}


async def test_failures_come_as_ordered(http: httpx2.AsyncClient, bounded: Bounded) -> None:
    """A failure hits so many calls of its route, in order; one never answers."""
    market = ScriptedMarket(["BTCUSDT"])
    with bounded():
        async with open_simulated_exchange(market) as exchange:
            rest = Rest(http, exchange.rest_url)
            exchange.rest_failure(503, {"code": -1, "msg": "x"}, 2, route="time")
            exchange.rest_failure(418, b"", route="time", headers={"Retry-After": "7"})
            assert (await rest.get("ping")).status_code == 200
            answers = [await rest.get("time") for _ in range(4)]
            assert [each.status_code for each in answers] == [503, 503, 418, 200]
            assert answers[0].json() == {"code": -1, "msg": "x"}
            assert answers[2].headers["retry-after"] == "7"
            exchange.rest_failure(None)
            with trio.move_on_after(0.2) as patience:
                await rest.get("ping")
            assert patience.cancelled_caught
            calls = exchange.statistics().rest_calls
    assert calls == {"ping": 2, "time": 4}
