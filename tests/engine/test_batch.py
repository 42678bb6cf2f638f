"""The vectorised fold gives the bars that the trades make one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from klinetrio.domain.interval import INTERVALS, parse_intervals
from klinetrio.domain.kline import FIRST_AGG_ID, LAST_AGG_ID, OPEN, OPEN_TIME, TRADE_COUNT
from klinetrio.engine.batch import TradeColumns, fold_trades
from tests.engine.reference import reference_bars
from tests.engine.strategies import trade_lists


if TYPE_CHECKING:
    from klinetrio.domain.trade import AggTrade


def columns_of(trades: list[AggTrade]) -> TradeColumns:
    """Return the trades as columns."""

    def column(values: list[int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.array(values, np.int64)

    return TradeColumns(
        agg_id=column([trade.agg_id for trade in trades]),
        price=column([trade.price for trade in trades]),
        quantity=column([trade.quantity for trade in trades]),
        fills=column([trade.last_id - trade.first_id + 1 for trade in trades]),
        time=column([trade.time for trade in trades]),
        buyer_is_maker=np.array([trade.buyer_is_maker for trade in trades], np.bool_),
    )


@given(trade_lists(step_ms=600_000), st.data())
def test_any_order_and_duplication_gives_the_reference_bars(
    trades: list[AggTrade], data: st.DataObject
) -> None:
    """All fifteen intervals, in one call, equal the obvious fold; empty bars are left out."""
    arrivals = data.draw(st.permutations(trades + data.draw(st.lists(st.sampled_from(trades)))))
    intervals = parse_intervals(INTERVALS)

    for interval, bars in zip(intervals, fold_trades(columns_of(arrivals), intervals), strict=True):
        expected = {
            open_time: values
            for open_time, values in reference_bars(trades, interval).items()
            if values[TRADE_COUNT - OPEN]
        }
        assert expected == {row[OPEN_TIME]: row[OPEN:FIRST_AGG_ID] for row in bars.tolist()}
        assert bars[-1, LAST_AGG_ID] == trades[-1].agg_id


def test_no_trades_make_no_bars() -> None:
    """An empty recording is no special case."""
    assert [0, 0] == [
        len(bars) for bars in fold_trades(columns_of([]), parse_intervals(["1m", "1h"]))
    ]
