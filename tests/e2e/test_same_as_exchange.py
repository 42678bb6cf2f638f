"""Requests under ``/fapi/v1`` get from the daemon what they get from the exchange that feeds it.

The two have no code of this in common: the daemon folds trades and stored klines, the exchange its own
minutes.  Time stands still while they are compared, so that both speak of one moment.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from random import Random
from typing import TYPE_CHECKING, Any

import httpx2
import orjson
import trio

from klinetrio.domain.interval import DAY, HOUR, INTERVALS, MINUTE
from klinetrio.sim.clock import SimClock
from klinetrio.sim.seeded import SeededMarket
from klinetrio.sim.weight import RateLimits
from tests.e2e.world import LIMIT_S, open_world


if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from klinetrio.sim.tape import SimTrade

START = 1_785_653_970_000
"""2026-08-02 06:59:30 UTC: a history of four days begins in the month before."""

SEED = 20_261_121
REQUESTS = 3_000
# So many trades are seen before anything is compared; the second one trades every minute or so.
SEEN = {"BTCUSDT": 200, "ETHUSDT": 1}
CONTINUOUS_TYPES = ("PERPETUAL", "PERPETUAL", "CURRENT_QUARTER", "TRADIFI_PERPETUAL", "FOREVER", "")


class Pair:
    """Both sides, and how a request is put to them."""

    def __init__(
        self, market: SeededMarket, exchange: httpx2.AsyncClient, daemon: httpx2.AsyncClient
    ) -> None:
        self.market = market
        # Of what trades the daemon follows the perpetuals.
        self.symbols = [
            each.name
            for each in market.ledger.instruments
            if each.is_trading and each.contract_type == "PERPETUAL"
        ]
        self.exchange = exchange
        self.daemon = daemon
        # By symbol the first trade that the daemon holds; it has not been there for ever.
        self.first_held: dict[str, int] = {}

    async def ask(self, route: str, given: dict[str, Any]) -> tuple[httpx2.Response, ...]:
        """Return both answers."""
        path = f"/fapi/v1/{route}"
        return (
            await self.exchange.get(path, params=given),
            await self.daemon.get(path, params=given),
        )

    async def assert_same(self, route: str, given: dict[str, Any]) -> httpx2.Response:
        """Compare both answers, byte for byte but for the order of keys; return the daemon's."""
        theirs, ours = await self.ask(route, given)
        asked = (route, given)
        assert ours.status_code == theirs.status_code, (asked, ours.text, theirs.text)
        assert ours.headers["content-type"] == theirs.headers["content-type"], asked
        assert orjson.loads(ours.content) == orjson.loads(theirs.content), asked
        return ours

    async def until_equal(self) -> None:
        """Wait until the daemon has taken every trade of the exchange, and shown it."""
        for symbol in self.symbols:
            for route in ("aggTrades", "klines"):
                given = {"symbol": symbol, "limit": 1, "interval": "1m"}
                while True:
                    theirs, ours = await self.ask(route, given)
                    if ours.content == theirs.content:
                        break
                    await trio.sleep(0.05)
            _, ours = await self.ask("aggTrades", {"symbol": symbol, "limit": 1000})
            self.first_held[symbol] = ours.json()[0]["a"]

    def held(self, symbol: str) -> list[SimTrade]:
        """Return trades that the daemon holds."""
        trades = self.market.trades_of(symbol)[-900:]
        return [each for each in trades if each.agg_id >= self.first_held[symbol]]


@asynccontextmanager
async def pair(folder: Path) -> AsyncIterator[Pair]:
    """Run both until they know the same, then hold the time."""
    clock = SimClock(START, rate=20)
    market = SeededMarket(
        seed=SEED,
        symbols=2,
        trades_per_second=4,
        history_minutes=4 * 1440,
        clock=clock,
        # What has been traded has been sent: nothing is under way when time stops.
        delay_ms=(0, 0),
    )
    # Nothing is refused for its weight, which is told all the same.
    limits = RateLimits(weight_per_minute=10**9)
    async with open_world(market, folder, rate_limits=limits) as world:
        world.shared_clock = True
        since = f"{START - 5 * DAY}"
        async with world.daemon(**{"history.since": since}) as daemon:
            await daemon.until_ready()
            while not (await daemon.get("/api/v1/status"))["history"]["rounds"]:
                await trio.sleep(0.1)
            for symbol, count in SEEN.items():
                given: dict[str, Any] = {"symbol": symbol, "limit": 1000}
                while True:
                    seen = await daemon.client.get("/fapi/v1/aggTrades", params=given)
                    if seen.status_code == 200 and len(seen.json()) >= count:
                        break
                    await trio.sleep(0.1)
            # In the middle of a minute, which the daemon has seen whole.
            while not 10_000 < clock.now_ms() % MINUTE < 50_000:
                await trio.sleep(0.01)
            clock.hold()
            async with httpx2.AsyncClient(
                base_url=world.exchange.rest_url, trust_env=False, timeout=60
            ) as exchange:
                both = Pair(market, exchange, daemon.client)
                await both.until_equal()
                yield both


def klines_request(rng: Random, pair: Pair, route: str) -> dict[str, Any]:
    """Return a request for klines: mostly sensible, now and then not."""
    interval = rng.choice((*INTERVALS, "1m", "3m", "1M", "1s", "60", ""))
    given: dict[str, Any] = {"interval": interval}
    symbol = rng.choice((*pair.symbols, pair.symbols[0].lower(), "NOSUCH", ""))
    if route == "klines":
        given["symbol"] = symbol
    else:
        given["pair"] = symbol
        given["contractType"] = rng.choice(CONTINUOUS_TYPES)
    if rng.random() < 0.1:
        del given[rng.choice(list(given))]
    length = INTERVALS[interval].length if interval in INTERVALS else HOUR
    return given | times(rng, pair, length) | limit(rng, 1501)


def times(rng: Random, pair: Pair, length: int) -> dict[str, Any]:
    """Return none, one or both times: at edges of bars, beside them, anywhere, before, after."""
    now = pair.market.clock.now_ms()

    def moment() -> Any:
        around = now - rng.randint(0, 12) * length * rng.choice((0, 1, 7, 100))
        around -= around % length
        return rng.choice(
            (
                around,
                around - 1,
                around + 1,
                rng.randint(START - 5 * DAY, now),
                0,
                now + DAY,
                10**19,
                "abc",
                "",
                "-1",
            )
            if rng.random() < 0.3
            else (around, around - 1, around + 1)
        )

    names = rng.choice(((), ("startTime",), ("endTime",), ("startTime", "endTime")))
    chosen = {name: moment() for name in names}
    if len(chosen) == 2 and rng.random() < 0.8 and all(isinstance(v, int) for v in chosen.values()):
        chosen = dict(zip(names, sorted(chosen.values()), strict=True))
    return chosen


def limit(rng: Random, beyond: int) -> dict[str, Any]:
    """Return a limit, or none."""
    if rng.random() < 0.3:
        return {}
    odd = (0, beyond, beyond - 1, 1, "", "ten", -1, "1.5")
    return {"limit": rng.choice(odd) if rng.random() < 0.2 else rng.randint(1, 40)}


def trades_request(rng: Random, pair: Pair) -> dict[str, Any]:
    """Return a request for trades that the daemon saw, or one that nobody answers."""
    symbol = rng.choice((*pair.symbols, "NOSUCH"))
    given: dict[str, Any] = {"symbol": symbol} if rng.random() < 0.95 else {}
    if symbol == "NOSUCH":
        return given
    held = pair.held(symbol)
    chosen = rng.choice(held)
    match rng.randint(0, 5):
        case 0:
            given["fromId"] = chosen.agg_id
        case 1:
            given["fromId"] = held[-1].agg_id + rng.randint(0, 2)
        case 2:
            given["fromId"] = chosen.agg_id
            given["startTime"] = chosen.time
        case 3:
            given["startTime"] = max(chosen.time, held[0].time + 1)
            given["endTime"] = given["startTime"] + rng.choice((-1, 0, 1, 500, MINUTE, HOUR))
        case 4:
            given["endTime"] = chosen.time + rng.choice((0, 1))
            # Which ones came before, memory need not know.
            given["limit"] = held.index(chosen) + 1
            return given
        case _:
            given["startTime"] = rng.choice((held[-1].time, held[-1].time + 1, "x", ""))
    return given | limit(rng, 1001)


async def test_the_same_requests_get_the_same_answers(tmp_path: Path) -> None:
    """Klines of kept and folded intervals, trades, errors, limits, edges and empty spans."""
    rng = Random(SEED)  # noqa: S311  (requests are to be the same each time)
    rows = statuses = 0
    with trio.fail_after(2 * LIMIT_S):
        async with pair(tmp_path) as both:
            for _ in range(REQUESTS):
                route = rng.choice(("klines", "klines", "klines", "continuousKlines", "aggTrades"))
                if route == "aggTrades":
                    given = trades_request(rng, both)
                else:
                    given = klines_request(rng, both, route)
                answer = await both.assert_same(route, given)
                statuses += answer.status_code == 200
                rows += len(answer.json()) if answer.status_code == 200 else 0

            await assert_same_otherwise(both)

    # Not all of one kind: both that something was answered and that something was refused.
    assert REQUESTS // 10 < statuses < REQUESTS
    assert rows > 10 * statuses
    assert all(len(both.held(symbol)) >= count for symbol, count in SEEN.items())


async def assert_same_otherwise(both: Pair) -> None:
    """Compare what has no choice of rows."""
    await both.assert_same("ping", {})
    await both.assert_same("time", {"unknown": "ignored"})
    await both.assert_same("nothing", {})
    await both.assert_same("ticker", {})
    followed = set(both.symbols)
    theirs, ours = (each.json() for each in await both.ask("exchangeInfo", {}))
    assert list(ours) == list(theirs)
    symbols = {each["symbol"]: each for each in theirs.pop("symbols") if each["symbol"] in followed}
    assert {each["symbol"]: each for each in ours.pop("symbols")} == symbols
    assert ours == theirs
    for symbol in both.symbols:
        await both.assert_same("ticker/price", {"symbol": symbol})
        theirs, ours = (each.json() for each in await both.ask("ticker/24hr", {"symbol": symbol}))
        # Which fill the window began with, bars do not tell.
        assert ours.pop("firstId") == -1
        del theirs["firstId"]
        assert ours == theirs
    for route in ("ticker/price", "ticker/24hr"):
        await both.assert_same(route, {"symbol": "NOSUCH"})
        theirs, ours = (each.json() for each in await both.ask(route, {}))
        assert sorted(each["symbol"] for each in ours) == sorted(followed)
    weights = [int(each.headers["X-MBX-USED-WEIGHT-1M"]) for each in await both.ask("ping", {})]
    again = [
        int(each.headers["X-MBX-USED-WEIGHT-1M"])
        for each in await both.ask("klines", {"symbol": "NOSUCH", "limit": 1501})
    ]
    assert [after - before for before, after in zip(weights, again, strict=True)] == [10, 10]
