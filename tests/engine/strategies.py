"""Trades as hypothesis draws them."""

from __future__ import annotations

from hypothesis import strategies as st

from klinetrio.domain.trade import AggTrade


BASE_TIME = 1_786_171_860_000
"""A UTC minute in August 2026, 6 minutes before an hour's end."""

FIRST_ID = 1_000


@st.composite
def trade_lists(draw: st.DrawFn, max_size: int = 40, step_ms: int = 40_000) -> list[AggTrade]:
    """Draw consecutive trades: ids without gaps, times that do not fall."""
    size = draw(st.integers(1, max_size))
    time = BASE_TIME
    trades = []
    fill = draw(st.integers(1, 10**6))
    for number in range(size):
        time += draw(st.integers(0, step_ms))
        fills = draw(st.integers(1, 3))
        trades.append(
            AggTrade(
                symbol="BTCUSDT",
                agg_id=FIRST_ID + number,
                price=draw(st.integers(1, 10**7)),
                quantity=draw(st.integers(0, 10**6)),
                first_id=fill,
                last_id=fill + fills - 1,
                time=time,
                buyer_is_maker=draw(st.booleans()),
            )
        )
        fill += fills
    return trades
