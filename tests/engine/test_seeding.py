"""Tails hold exactly the trades that the past does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klinetrio.domain.interval import HOUR, INTERVALS, MINUTE, parse_intervals
from klinetrio.domain.kline import FIELD_COUNT, NO_ID, OPEN, OPEN_TIME, TRADE_COUNT
from klinetrio.engine.seeding import Tails
from tests.engine.reference import make_trade, reference_bars
from tests.engine.strategies import BASE_TIME, trade_lists


if TYPE_CHECKING:
    from klinetrio.domain.interval import Interval
    from klinetrio.domain.trade import AggTrade

ALL = parse_intervals(INTERVALS)


@given(trade_lists(step_ms=40 * MINUTE), st.integers(0, 3_000), st.data())
def test_a_tail_is_what_its_bar_got_since_the_boundary(
    trades: list[AggTrade], minutes: int, data: st.DataObject
) -> None:
    """In every interval, whatever the order of the trades; nothing older, nothing younger."""
    until = BASE_TIME + minutes * MINUTE
    tails = Tails(until, ALL)
    for trade in data.draw(st.permutations(trades)):
        tails.fold(trade)
    since = [trade for trade in trades if trade.time >= until]
    for index, interval in enumerate(ALL):
        row = tails.rows[index]
        opened = interval.open_of(until - 1)
        assert opened == row[OPEN_TIME]
        truth = reference_bars(since, interval).get(opened)
        if truth is None:
            assert row[TRADE_COUNT] == 0
        else:
            assert truth == row[OPEN : OPEN + len(truth)]


@pytest.mark.parametrize("interval", ALL, ids=str)
def test_a_boundary_on_a_bars_end_spans_nothing(interval: Interval) -> None:
    """And one a minute later does, but for the minute itself."""
    index = ALL.index(interval)
    end = ALL[index].next_open(ALL[index].open_of(BASE_TIME))
    assert not Tails(end, ALL).spans(index)
    assert (ALL[index].name != "1m") == Tails(end - MINUTE, ALL).spans(index)


def test_an_untouched_tail_knows_no_id() -> None:
    """So that it can be joined to any past."""
    tails = Tails(BASE_TIME, parse_intervals(["1h"]))
    tails.fold(make_trade(5, BASE_TIME - 1))
    tails.fold(make_trade(6, BASE_TIME + HOUR))
    empty = [BASE_TIME - BASE_TIME % HOUR, *[0] * 9, NO_ID, NO_ID, 0]
    assert [empty] == tails.rows
    assert len(empty) == FIELD_COUNT
