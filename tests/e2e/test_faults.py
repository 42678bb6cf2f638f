"""What goes wrong outside changes no bar."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trustme

from klinetrio import assembly
from klinetrio.domain.interval import MINUTE
from klinetrio.exchange.connection import FeedContext
from klinetrio.recovery import repair, watch
from klinetrio.sim.clock import SimClock
from klinetrio.sim.faults import FaultPlan
from klinetrio.sim.scripted import ScriptedMarket
from klinetrio.sim.seeded import SeededMarket
from tests.e2e.world import LIMIT_S, Asked, World, assert_true, open_world


if TYPE_CHECKING:
    from pathlib import Path


RATE = 30
START = 1_786_172_370_000


def market_of(seed: int) -> SeededMarket:
    """About 300 trades per real second."""
    clock = SimClock(START, rate=RATE)
    return SeededMarket(
        seed=seed, symbols=20, trades_per_second=10, history_minutes=3_000, clock=clock
    )


async def settled(daemon: Asked, market: SeededMarket, minutes: int) -> int:
    """Wait for some minutes and until nothing is left to repair; return the end of the last."""
    now = market.clock.now_ms()
    end = now - now % MINUTE + minutes * MINUTE
    await trio.sleep_until(market.clock.trio_time_of(end + 20_000))
    while (await daemon.get("/api/v1/status"))["symbols"]["open_holes"]["count"]:
        await trio.sleep(0.05)
    await daemon.until_closed("BTCUSDT", "1m", end - MINUTE)
    return end


async def check(daemon: Asked, market: SeededMarket, *, until: int) -> None:
    """All symbols' bars are true, and the busiest symbol's are all complete."""
    for symbol in await daemon.get("/api/v1/symbols"):
        for interval in ("1m", "5m", "1h", "1d"):
            bars = await daemon.klines(symbol["symbol"], interval)
            assert_true(market, symbol["exchange_symbol"], interval, bars)
            if symbol["exchange_symbol"] == "BTCUSDT":
                closed = [bar for bar in bars if bar["close_time"] < until]
                assert all(bar["is_complete"] for bar in closed)


async def test_faulty_streams_change_no_bar(tmp_path: Path) -> None:
    """Dropped, doubled, reordered, delayed and garbage frames: holes are filled, bars are true."""
    market = market_of(21)
    plan = FaultPlan(seed=21, drop=0.01, duplicate=0.02, reorder=0.01, delay=0.01, garbage=0.01)
    with trio.fail_after(LIMIT_S):
        async with open_world(market, tmp_path, faults=plan) as world, world.daemon() as daemon:
            await daemon.until_ready()
            end = await settled(daemon, market, 3)
            await check(daemon, market, until=end)
            trades = (await daemon.get("/api/v1/status"))["trades"]

    assert trades["duplicates"] > 0
    assert trades["gaps"] > 0
    assert trades["repaired"] > 0
    assert trades["bad_frames"]["garbage"] > 0


async def test_dropped_and_closed_connections_lose_nothing(tmp_path: Path) -> None:
    """Resets and clean closes of all connections, again and again: every trade is there once."""
    market = market_of(22)
    with trio.fail_after(LIMIT_S):
        async with open_world(market, tmp_path) as world, world.daemon() as daemon:
            await daemon.until_ready()
            for end_them in (world.exchange.drop_connections, world.exchange.close_connections):
                assert end_them() == 20
                status = await daemon.get("/api/v1/status")
                while sum(each["reconnects"] for each in status["connections"]) % 20:
                    status = await daemon.get("/api/v1/status")
                await daemon.until_ready()
            end = await settled(daemon, market, 2)
            await check(daemon, market, until=end)
            status = await daemon.get("/api/v1/status")

    assert all(each["reconnects"] >= 2 for each in status["connections"])


async def test_a_stream_that_falls_silent_is_found_and_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It answers pings, but trades happen that it does not bring: none is missing in the end."""
    for name, value in {"LOOK_EVERY_S": 0.05, "LEAST_PATIENCE_S": 1.0}.items():
        monkeypatch.setattr(watch, name, value)
    for name, value in {"CONFIRM_PATIENCE_S": 0.2, "ASK_PAUSE_S": 1.0}.items():
        monkeypatch.setattr(repair, name, value)
    monkeypatch.setattr(repair, "STREAM_PATIENCE_S", 0.2)
    market = market_of(24)
    with trio.fail_after(LIMIT_S):
        async with open_world(market, tmp_path) as world, world.daemon() as daemon:
            await daemon.until_ready()
            assert world.exchange.mute("BTCUSDT", pongs=True) == 1
            status = await daemon.get("/api/v1/status")
            while not status["rest"]["deaf"]:
                status = await daemon.get("/api/v1/status")
            end = await settled(daemon, market, 2)
            await check(daemon, market, until=end)
            status = await daemon.get("/api/v1/status")

    assert "deaf_stream symbol=BTCUSDT" in caplog.text
    assert status["symbols"]["deaf_streams"]["count"] == 0
    (link,) = (each for each in status["connections"] if each["stream"] == "btcusdt@aggTrade")
    assert link["reconnects"] == 1
    assert "does not bring" in link["last_cause"]


async def test_connections_that_may_not_live_long_lose_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The 24 hours scaled down: every one is succeeded in time, and every trade is there once."""
    monkeypatch.setattr(assembly, "FeedContext", partial(FeedContext, renew_after_s=1.0))
    market = market_of(25)
    with trio.fail_after(LIMIT_S):
        async with (
            open_world(market, tmp_path, max_connection_s=10.0) as world,
            world.daemon() as daemon,
        ):
            await daemon.until_ready()
            end = await settled(daemon, market, 3)
            await check(daemon, market, until=end)
            status = await daemon.get("/api/v1/status")
            metrics = (await daemon.client.get("/metrics")).text
            accepted = world.exchange.statistics().connections_accepted

    renewed = int(float(metrics.partition("\nklinetrio_ws_renewals_total ")[2].split()[0]))
    assert renewed >= 40
    assert accepted >= renewed + 20
    assert sum(each["reconnects"] for each in status["connections"]) == 0
    # The overlap: old and new session bring the same trades.
    assert status["trades"]["duplicates"] > 0


class Certificates:
    """A private authority, as both ends need it."""

    def __init__(self, *names: str) -> None:
        import ssl  # noqa: PLC0415

        authority = trustme.CA()
        self.server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert(*names).configure_cert(self.server)
        self.client = ssl.create_default_context()
        authority.configure_trust(self.client)


async def test_everything_works_over_tls(tmp_path: Path) -> None:
    """REST and streams over TLS through the proxy, with certificates that are checked."""
    tls = Certificates("fapi.sim.invalid", "fstream.sim.invalid")
    market = market_of(23)
    with trio.fail_after(LIMIT_S):
        async with open_world(market, tmp_path, tls=tls) as world, world.daemon() as daemon:
            await daemon.until_ready()
            end = await settled(daemon, market, 1)
            await check(daemon, market, until=end)


class Script:
    """A scripted market of one symbol, and a daemon that has seen its first trade."""

    def __init__(self, world: World, market: ScriptedMarket, daemon: Asked) -> None:
        self.world = world
        self.market = market
        self.daemon = daemon
        self.frames = 0

    def trade(self, price: str, quantity: str = "1.000", **options: Any) -> None:
        """Make a trade that reaches the daemon."""
        self.market.trade("BTCUSDT", price, quantity, **options)
        self.frames += options.get("delivered", True)

    def inject(self, **changes: Any) -> None:
        """Send a frame like the next trade's, with changes."""
        now = self.market.clock.now_ms()
        newest = self.market.trades_of("BTCUSDT")[-1]
        frame = {
            "e": "aggTrade",
            "E": now,
            "a": newest.agg_id + 1,
            "s": "BTCUSDT",
            "p": "1.00",
            "q": "1.000",
            "f": newest.last_id + 1,
            "l": newest.last_id + 1,
            "T": now,
            "m": False,
        }
        self.inject_text(json.dumps(frame | changes))

    def inject_text(self, text: str) -> None:
        """Send any text."""
        self.world.exchange.inject("BTCUSDT", text)
        self.frames += 1


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("symbol", {"s": "ETHUSDT"}),
        ("field", {"p": "-1.00"}),
        ("field", {"q": "1e3"}),
        ("field", {"a": "7"}),
        ("field", {"T": -5}),
        ("field", {"m": None}),
        ("precision", {"p": "1.001"}),
        ("range", {"p": "0.00"}),
        ("range", {"p": "90000000000000.00", "q": "90000000000000.000"}),
        ("future", {"T": START + 10**10}),
        ("garbage", None),
    ],
)
async def test_bad_frames_are_counted_and_change_nothing(
    kind: str, changes: dict[str, Any] | None, tmp_path: Path
) -> None:
    """Whatever nonsense comes on the stream, the bar holds the true trades and no others."""
    market = ScriptedMarket(["BTCUSDT", "ETHUSDT"], clock=SimClock(START))
    with trio.fail_after(LIMIT_S):
        async with open_world(market, tmp_path) as world, world.daemon() as daemon:
            while world.exchange.subscribers("BTCUSDT") == 0:
                await trio.sleep(0.01)
            script = Script(world, market, daemon)
            script.trade("100.00")
            if changes is None:
                script.inject_text('{"e":"aggTrade","a":')
            else:
                script.inject(**changes)
            script.trade("102.00")
            await daemon.until_taken(script.frames)
            bar = (await daemon.klines("BTCUSDT", "1m"))[-1]
            status = await daemon.get("/api/v1/status")

    assert status["trades"]["bad_frames"] == {kind: 1}
    assert [bar[name] for name in ("open", "high", "close")] == ["100.00", "102.00", "102.00"]
    assert (bar["volume"], bar["trade_count"]) == ("2.000", 2)
    assert status["symbols"]["open_holes"]["count"] == 0


async def test_an_absurd_id_changes_nothing(tmp_path: Path) -> None:
    """A trade whose id jumps by millions opens no hole and is not folded."""
    market = ScriptedMarket(["BTCUSDT"], clock=SimClock(START))
    with trio.fail_after(LIMIT_S):
        async with open_world(market, tmp_path) as world, world.daemon() as daemon:
            while world.exchange.subscribers("BTCUSDT") == 0:
                await trio.sleep(0.01)
            script = Script(world, market, daemon)
            script.trade("100.00")
            script.inject(a=10**15)
            script.trade("102.00")
            await daemon.until_taken(script.frames)
            bar = (await daemon.klines("BTCUSDT", "1m"))[-1]
            status = await daemon.get("/api/v1/status")

    assert status["trades"]["refused"] == 1
    assert ("2.000", 0) == (bar["volume"], status["symbols"]["open_holes"]["count"])
