"""Fills and their aggregates: alike but for what is asked for."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klinetrio.domain.interval import MINUTE
from klinetrio.domain.kline import FIRST_AGG_ID, NO_ID
from klinetrio.sim.bars import LiveMinutes
from klinetrio.sim.fills import (
    FIRST_ID,
    JOINED_WITHIN_MS,
    Fill,
    Pace,
    Shares,
    aggregate,
    as_trade,
    make_fills,
)


if TYPE_CHECKING:
    from klinetrio.sim.tape import SimTrade

# Wednesday 2026-10-07 14:24 UTC.
START = 1_791_383_040_000
MINUTES = 60
END = START + MINUTES * MINUTE

NONE = Shares(straddles=0, forced=0, holes=0)
ALL = Shares(straddles=0.3, forced=0.02, holes=0.05)

seeds = st.integers(0, 2**32)


def make(seed: int, shares: Shares, rate: float = 10.0) -> list[Fill]:
    """Return an hour of fills."""
    pace = Pace(bursts_per_minute=rate)
    return make_fills(seed, start=START, minutes=MINUTES, pace=pace, shares=shares)


def fold(trades: list[SimTrade]) -> list[list[int]]:
    """Return the nine values of each minute."""
    live = LiveMinutes()
    for trade in trades:
        live.add(trade)
    rows: list[list[int]] = live.dense(START, END, (1, NO_ID))[:, 1:FIRST_AGG_ID].tolist()
    return rows


@settings(max_examples=20, deadline=None)
@given(seeds, st.sampled_from([0.3, 10.0, 100.0]))
def test_without_any_share_both_bars_are_the_same(seed: int, rate: float) -> None:
    """Bars of fills and of their aggregates differ only for the reasons that are asked for."""
    fills = make(seed, NONE, rate)
    assert fold([as_trade(fill, NO_ID) for fill in fills]) == fold(aggregate(fills))


@settings(max_examples=20, deadline=None)
@given(seeds, st.sampled_from([0.3, 10.0, 100.0]))
def test_fills_ascend_and_aggregates_hold_them(seed: int, rate: float) -> None:
    """Time and ids rise; every fill but the forced ones is in one aggregate; ids are contiguous."""
    fills = make(seed, ALL, rate)
    assert all(a.time <= b.time and a.fill_id < b.fill_id for a, b in pairwise(fills))
    assert all(START <= each.time < END for each in fills)
    trades = aggregate(fills)
    assert [each.agg_id for each in trades] == list(range(FIRST_ID, FIRST_ID + len(trades)))
    shown = [each for each in fills if not each.is_forced]
    for trade in trades:
        inside = [shown.pop(0)]
        while inside[-1].fill_id < trade.last_id:
            inside.append(shown.pop(0))
        assert inside[0].fill_id == trade.first_id
        assert sum(each.quantity for each in inside) == trade.quantity
        assert inside[0].time == trade.time
        assert inside[-1].time <= trade.time + JOINED_WITHIN_MS
        assert {(trade.price, trade.buyer_is_maker)} == {
            (e.price, e.buyer_is_maker) for e in inside
        }


def test_aggregates_join_what_the_exchange_joins() -> None:
    """One price, one side, within 100 ms of the first; a forced fill is left out."""
    first = Fill(1, 100, 2, START, False, False)
    fills = [
        first,
        first._replace(fill_id=2, time=START + 60),
        first._replace(fill_id=3, time=START + 70, is_forced=True),
        first._replace(fill_id=4, time=START + 100),
        first._replace(fill_id=5, time=START + 101),
        first._replace(fill_id=6, time=START + 101, price=101),
        first._replace(fill_id=7, time=START + 101, price=101, buyer_is_maker=True),
    ]
    assert [(each.first_id, each.last_id, each.quantity) for each in aggregate(fills)] == [
        (1, 4, 6),
        (5, 5, 2),
        (6, 6, 2),
        (7, 7, 2),
    ]


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_shares_are_kept(share: float) -> None:
    """As many ends of minutes are straddled as were asked for."""
    straddled = 0
    for seed in range(10):
        fills = make(seed, attrs.evolve(NONE, straddles=share), rate=1.0)
        for trade in aggregate(fills):
            times = [e.time for e in fills if trade.first_id <= e.fill_id <= trade.last_id]
            straddled += times[0] // MINUTE < times[-1] // MINUTE
    # The last minute's far side is cut off.
    assert share * 0.75 < straddled / (10 * (MINUTES - 1)) <= min(1.0, share * 1.25)


def test_seed_decides() -> None:
    """The same seed gives the same fills, another one others."""
    assert make(1, ALL) == make(1, ALL)
    assert make(1, ALL) != make(2, ALL)
