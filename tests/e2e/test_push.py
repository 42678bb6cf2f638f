"""What a push client is told of the whole market, while the streams misbehave."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import trio
from trio_websocket import ConnectionClosed, open_websocket_url

from klinetrio.domain.interval import INTERVALS, MINUTE
from klinetrio.sim.clock import SimClock
from klinetrio.sim.faults import FaultPlan
from klinetrio.sim.seeded import SeededMarket
from tests.e2e.world import LIMIT_S, Asked, assert_true, open_world


if TYPE_CHECKING:
    from pathlib import Path

RATE = 30
START = 1_786_172_370_000


async def follow(
    daemon: Asked, names: list[str], told: list[dict[str, Any]], until: trio.Event
) -> None:
    """Subscribe to some symbols' minutes and five minutes, and note what comes."""
    url = daemon.running.address.replace("http", "ws") + "/api/v1/ws"
    wanted = [{"symbol": name, "interval": each} for name in names for each in ("1m", "5m")]
    async with open_websocket_url(url) as socket, trio.open_nursery() as nursery:

        async def read() -> None:
            try:
                while True:
                    message = json.loads(await socket.get_message())
                    if message["type"] == "kline.update":
                        told.append(message["data"])
            except ConnectionClosed:
                pass

        await socket.send_message(json.dumps({"op": "subscribe", "klines": wanted}))
        nursery.start_soon(read)
        await until.wait()
        nursery.cancel_scope.cancel()


async def test_push_tells_every_final_bar_once_and_only_the_truth_as_complete(
    tmp_path: Path,
) -> None:
    """One first final per bar, corrections by revision, no step back, no false proof."""
    clock = SimClock(START, rate=RATE)
    market = SeededMarket(
        seed=41, symbols=20, trades_per_second=10, history_minutes=3_000, clock=clock
    )
    plan = FaultPlan(seed=41, drop=0.01, duplicate=0.01, reorder=0.02, delay=0.02)
    told: list[dict[str, Any]] = []
    enough = trio.Event()
    with trio.fail_after(LIMIT_S):
        async with (
            open_world(market, tmp_path, faults=plan) as world,
            world.daemon() as daemon,
            trio.open_nursery() as nursery,
        ):
            await daemon.until_ready()
            names = [each["symbol"] for each in await daemon.get("/api/v1/symbols")]
            nursery.start_soon(follow, daemon, names, told, enough)
            now = market.clock.now_ms()
            end = now - now % MINUTE + 7 * MINUTE
            await trio.sleep_until(market.clock.trio_time_of(end + 20_000))
            # On a busy machine the last ones may still be on their way.
            while len(series_that_got_to(told, end)) < 2 * len(names):
                await trio.sleep(0.1)
            enough.set()

    check(market, told)


def series_that_got_to(told: list[dict[str, Any]], end: int) -> set[tuple[str, str]]:
    """Return the series of which the last bar before a time has been told to be final."""
    return {
        (bar["symbol"], bar["interval"])
        for bar in told
        if bar["is_final"]
        and INTERVALS[bar["interval"]].next_open(bar["open_time"])
        == INTERVALS[bar["interval"]].open_of(end)
    }


def check(market: SeededMarket, told: list[dict[str, Any]]) -> None:
    """Go through everything that was pushed, series by series."""
    series: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for bar in told:
        series.setdefault((bar["symbol"], bar["interval"]), []).append(bar)
    corrections = 0
    for (symbol, interval), bars in series.items():
        name = symbol.replace("_", "")
        finals = [bar for bar in bars if bar["is_final"]]
        seen = [(bar["open_time"], bar["revision"]) for bar in finals]
        assert len(set(seen)) == len(seen)
        for opened in {bar["open_time"] for bar in finals}:
            revisions = [bar["revision"] for bar in finals if bar["open_time"] == opened]
            assert revisions == sorted(revisions)
            corrections += len(revisions) - 1
        # What was over before is told only if it is corrected, whenever that is.
        began = bars[0]["open_time"]
        told_first = dict.fromkeys(bar["open_time"] for bar in finals)
        firsts = [open_time for open_time in told_first if open_time >= began]
        step = MINUTE if interval == "1m" else 5 * MINUTE
        assert list(range(began, firsts[-1] + step, step)) == firsts
        assert all(bar["revision"] for bar in finals if bar["open_time"] < began)
        opens = [bar["open_time"] for bar in bars if not bar["is_final"]]
        assert opens == sorted(opens)
        for bar in finals:
            assert_true(market, name, interval, [bar])
    assert corrections > 0
    assert len(series) == 40
