"""Every series has one row, and a row one series."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klinetrio.domain.interval import INTERVALS, parse_intervals
from klinetrio.domain.symbol import Symbol
from klinetrio.engine.registry import SymbolPeriodRegistry


def symbol(name: str, listing_time: int = 0) -> Symbol:
    """Return a plain symbol."""
    return Symbol(name, name.removesuffix("USDT"), "USDT", listing_time, 2, 3)


@given(
    st.dictionaries(st.text(min_size=1), st.integers(0, 5), max_size=12),
    st.sets(st.sampled_from([*INTERVALS]), min_size=1),
    st.randoms(),
)
def test_symbols_rank_by_listing_time_then_name(
    listed: dict[str, int], names: set[str], random: object
) -> None:
    """Whatever the order in which the exchange lists them."""
    symbols = [symbol(name, time) for name, time in listed.items()]
    random.shuffle(symbols)  # type: ignore[attr-defined]
    registry = SymbolPeriodRegistry.ranked(symbols, parse_intervals(names))

    expected = [name for _, name in sorted((time, name) for name, time in listed.items())]
    assert expected == [each.name for each in registry.symbols]
    assert len(listed) * len(names) == registry.capacity
    rows = [
        registry.row(index, period)
        for index in range(len(listed))
        for period in range(registry.period_count)
    ]
    assert list(range(registry.capacity)) == rows
    for index, name in enumerate(expected):
        assert index == registry.index_of(name)
        assert registry.first_row(index) == registry.row(index, 0)
        for period, interval in enumerate(registry.intervals):
            assert (registry.symbols[index], interval) == registry.series(
                registry.row(index, period)
            )


def test_an_unknown_name_has_no_index() -> None:
    """Names are the exchange's, exactly."""
    registry = SymbolPeriodRegistry.ranked([symbol("BTCUSDT")], parse_intervals(["1m"]))
    for unknown in ("btcusdt", "BTC_USDT"):
        with pytest.raises(KeyError):
            registry.index_of(unknown)
    assert registry.index_of("BTCUSDT") == 0
