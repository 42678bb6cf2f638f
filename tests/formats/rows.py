"""Series and bars for tests of the formats."""

from __future__ import annotations

from hypothesis import strategies as st

from klinetrio.domain.decimals import INT64_MAX
from klinetrio.domain.interval import INTERVALS
from klinetrio.domain.kline import make_flags
from klinetrio.domain.symbol import Symbol
from klinetrio.formats.series import Series


BTC = Symbol("BTCUSDT", "BTC", "USDT", 0, 2, 3)
PEPE = Symbol("1000PEPEUSDT", "1000PEPE", "USDT", 0, 7, 0)
ODD = Symbol("币安人生USDT", "币安人生", "USDT", 0, 0, 8)


def series(symbol: Symbol = BTC, interval: str = "1m") -> Series:
    """Return a series under its public name."""
    return Series(symbol.public_name, symbol, INTERVALS[interval])


NUMBERS = st.integers(0, INT64_MAX)

# Whatever 64 bits can hold, at times that calendars can tell.
ROWS = st.tuples(
    st.integers(1, 4_000_000_000_000),
    *[NUMBERS] * 9,
    *[st.integers(-1, INT64_MAX)] * 2,
    st.builds(make_flags, st.integers(0, 31), st.integers(0, 1_000)),
)
