"""The laws of the fold, and real bars of the exchange folded into its own longer ones."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from klinetrio.domain.decimals import parse_scaled
from klinetrio.domain.interval import INTERVALS, Interval
from klinetrio.domain.kline import (
    CLOSE,
    FIELD_COUNT,
    FIRST_AGG_ID,
    HIGH,
    LOW,
    OPEN,
    OPEN_TIME,
    VOLUME,
    Flag,
)
from klinetrio.engine.fold import empty_row, fold_klines, fold_trade, join
from klinetrio.errors import ScaleError
from tests.engine.reference import reference_bars
from tests.engine.strategies import BASE_TIME, trade_lists


if TYPE_CHECKING:
    from klinetrio.domain.trade import AggTrade


Rows = npt.NDArray[np.int64]
DATA = Path(__file__).parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="no recorded market data beside the tree")


def folded(trades: list[AggTrade], open_time: int = BASE_TIME) -> list[int]:
    """Fold trades one by one."""
    row = empty_row(open_time, 0, -1)
    for trade in trades:
        fold_trade(row, trade)
    return row


@given(trade_lists().flatmap(lambda trades: st.tuples(st.just(trades), st.permutations(trades))))
def test_any_order_gives_the_same_bar(pair: tuple[list[AggTrade], list[AggTrade]]) -> None:
    """Open belongs to the smallest id, close to the largest, the rest are sums and extremes."""
    in_order, shuffled = pair
    row = folded(shuffled)

    assert folded(in_order) == row
    assert row[LOW] <= min(row[OPEN], row[CLOSE])
    assert row[HIGH] >= max(row[OPEN], row[CLOSE])


@given(trade_lists(), st.integers(0, 40))
def test_any_split_joins_to_the_same_bar(trades: list[AggTrade], cut: int) -> None:
    """Two parts of a bar, each folded by itself, join to the bar."""
    whole = join(folded(trades[:cut]), folded(trades[cut:]))

    assert folded(trades)[:FIRST_AGG_ID] == whole[:FIRST_AGG_ID]


def bars_of(trades: list[AggTrade], interval: Interval) -> Rows:
    """Return the reference bars as rows."""
    bars = reference_bars(trades, interval)
    rows = [[open_time, *values, -1, -1, Flag.FINAL] for open_time, values in bars.items()]
    return np.array(rows, np.int64)


@given(
    trade_lists(max_size=60, step_ms=600_000),
    st.sampled_from(["5m", "15m", "1h", "4h", "1d", "1w", "1M"]),
)
def test_longer_bars_are_the_fold_of_shorter_ones(trades: list[AggTrade], name: str) -> None:
    """Minute bars fold to exactly the bars that the trades themselves give."""
    interval = INTERVALS[name]
    minutes = bars_of(trades, INTERVALS["1m"])

    longer = fold_klines(minutes, interval)

    expected = bars_of(trades, interval)
    assert expected[:, :FIRST_AGG_ID].tolist() == longer[:, :FIRST_AGG_ID].tolist()
    assert minutes[:, VOLUME].sum() == longer[:, VOLUME].sum()


def test_sums_beyond_64_bits_are_refused() -> None:
    """A sum that numpy would wrap around is an error instead."""
    rows = np.zeros((2, FIELD_COUNT), np.int64)
    rows[:, OPEN_TIME] = BASE_TIME, BASE_TIME + 60_000
    rows[:, VOLUME] = 2**62

    with pytest.raises(ScaleError, match="64 bits"):
        fold_klines(rows, INTERVALS["1h"])


def official(name: str, price_scale: int, quantity_scale: int) -> Rows:
    """Read bars in the layout of the public archives."""
    raw = (DATA / name).read_bytes()
    text = (gzip.decompress(raw) if name.endswith(".gz") else raw).decode()
    quote_scale = price_scale + quantity_scale
    rows = []
    for line in csv.reader(io.StringIO(text)):
        prices = [parse_scaled(value, price_scale) for value in line[1:5]]
        volumes = [
            parse_scaled(line[5], quantity_scale),
            parse_scaled(line[7], quote_scale),
            int(line[8]),
            parse_scaled(line[9], quantity_scale),
            parse_scaled(line[10], quote_scale),
        ]
        rows.append([int(line[0]), *prices, *volumes, -1, -1, Flag.FINAL])
    return np.array(rows, np.int64)


@needs_data
@pytest.mark.parametrize("name", ["5m", "15m", "30m", "1h", "4h", "1d"])
def test_official_minutes_fold_to_the_official_longer_bars(name: str) -> None:
    """A whole UTC day of the exchange's own bars: every longer bar, every field."""
    minutes = official("official_spot_btcusdt_1m_20230121.csv.gz", 2, 5)
    expected = official(f"official_spot_btcusdt_{name}_20230121.csv", 2, 5)

    assert expected.tolist() == fold_klines(minutes, INTERVALS[name]).tolist()


@needs_data
def test_official_days_fold_to_the_official_weeks() -> None:
    """Every complete week of eight years: open, high, low, close, volume and trade count."""

    def read(name: str) -> Rows:
        text = gzip.decompress((DATA / name).read_bytes()).decode()
        rows = []
        for line in csv.DictReader(io.StringIO(text)):
            prices = [parse_scaled(line[field], 2) for field in ("open", "high", "low", "close")]
            volume = parse_scaled(line["volume"], 6)
            rows.append(
                [int(line["open_time"]), *prices, volume, 0, int(line["trades"]), 0, 0, -1, -1, 0]
            )
        return np.array(rows, np.int64)

    days = read("official_spot_btcusdt_1d_2017_2026.csv.gz")
    weeks = read("official_spot_btcusdt_1w_2017_2026.csv.gz")
    week = INTERVALS["1w"]
    opens, counts = np.unique(week.open_of_many(days[:, OPEN_TIME]), return_counts=True)
    complete = set(opens[counts == 7].tolist())

    got = [row for row in fold_klines(days, week).tolist() if row[OPEN_TIME] in complete]

    assert len(got) == 437
    assert [row for row in weeks.tolist() if row[OPEN_TIME] in complete] == got
