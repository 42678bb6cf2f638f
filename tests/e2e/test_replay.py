"""Recorded trades of the exchange, replayed through sockets and proxy, give its official bars."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import trio

from klinetrio.domain.interval import INTERVALS, MINUTE
from klinetrio.sim.recorded import RecordedMarket
from tests.e2e.world import LIMIT_S, Asked, open_world, scaled


DATA = Path(__file__).parents[3] / "shared" / "data"
SPEED = 30
FIRST_FULL_MINUTE = 1_723_161_300_000
LAST_MINUTE = 1_723_161_540_000

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="no recorded market data beside the tree")


def official_minutes() -> dict[int, list[int]]:
    """The exchange's own bars: open time to the nine values, scaled."""
    with (DATA / "official_um_btcusdt_1m_20240808_2354.csv").open() as lines:
        rows = list(csv.reader(lines))
    columns = (1, 2, 3, 4, 5, 7, 8, 9, 10)
    return {int(row[0]): [int(row[column].replace(".", "")) for column in columns] for row in rows}


def fold(bars: list[dict[str, object]]) -> list[int]:
    """The obvious fold of served bars."""
    rows = [scaled(bar) for bar in bars]
    sums = [sum(row[field] for row in rows) for field in range(4, 9)]
    return [
        rows[0][0],
        max(row[1] for row in rows),
        min(row[2] for row in rows),
        rows[-1][3],
        *sums,
    ]


async def check(daemon: Asked) -> None:
    """Compare all five full minutes, and every longer bar with the fold of its minutes."""
    expected = official_minutes()
    opens = range(FIRST_FULL_MINUTE, LAST_MINUTE + MINUTE, MINUTE)
    minutes = await daemon.klines("BTC_USDT", "1m")
    by_open = {bar["open_time"]: bar for bar in minutes}
    for open_time in opens:
        assert expected[open_time] == scaled(by_open[open_time])
        assert by_open[open_time]["is_final"]
    for name in ("5m", "15m", "30m", "1h", "4h", "1d", "1w"):
        interval = INTERVALS[name]
        for bar in await daemon.klines("BTC_USDT", name):
            end = interval.next_open(bar["open_time"])
            inside = [each for each in minutes if bar["open_time"] <= each["open_time"] < end]
            assert fold(inside) == scaled(bar), name


@pytest.mark.parametrize("name", ["agg100ms", "one_agg_per_trade"])
async def test_recorded_trades_give_the_official_klines(name: str, tmp_path: Path) -> None:
    """All nine values of the five full minutes, exactly, and longer bars that are their folds."""
    path = DATA / f"derived_um_btcusdt_20240808_{name}.jsonl.gz"
    market = RecordedMarket(path, speed=SPEED, shifted=False)
    with trio.fail_after(LIMIT_S):
        async with open_world(market, tmp_path) as world:
            world.shared_clock = True
            async with world.daemon() as daemon:
                await market.finished.wait()
                await daemon.until_taken(len(market.trades_of("BTCUSDT")))
                while not (await daemon.klines("BTC_USDT", "1m", start_time=LAST_MINUTE + MINUTE)):
                    await trio.sleep(0.05)

                await check(daemon)
