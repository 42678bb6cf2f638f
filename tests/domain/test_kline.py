"""What the thirteen numbers of a row say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klinetrio.domain.interval import INTERVALS
from klinetrio.domain.kline import (
    FIELD_COUNT,
    FIELDS,
    FLAGS,
    OPEN_TIME,
    Flag,
    bits_of,
    has_row,
    is_complete,
    is_final,
    kline_to_dict,
    make_flags,
    origin_of,
    revision_of,
)
from klinetrio.domain.symbol import Symbol


ALL_FLAGS = (Flag.FINAL, Flag.COMPLETE, Flag.BACKFILLED, Flag.SETTLED, Flag.FEED_DOWN)


def row_with(flags: int) -> list[int]:
    """Return an otherwise plain row."""
    row = [7] * FIELD_COUNT
    row[FLAGS] = flags
    return row


def test_flags_are_different_bits_below_the_revision() -> None:
    """No flag hides another, and none reaches into the revision."""
    assert len({*ALL_FLAGS}) == len(ALL_FLAGS)
    assert sum(ALL_FLAGS) == ALL_FLAGS[-1] * 2 - 1
    assert sum(ALL_FLAGS) < make_flags(0, 1)


@given(st.integers(0, 255), st.integers(0, 2**50))
def test_bits_and_revision_do_not_disturb_each_other(bits: int, revision: int) -> None:
    """Both come back from the one field they share."""
    row = row_with(make_flags(bits, revision))
    assert bits == bits_of(row)
    assert revision == revision_of(row)
    assert bool(bits & Flag.FINAL) == is_final(row)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (0, False),
        (Flag.COMPLETE, True),
        (Flag.COMPLETE | Flag.FINAL | Flag.BACKFILLED, True),
        (Flag.COMPLETE | Flag.FEED_DOWN, False),
        (Flag.FEED_DOWN, False),
        (make_flags(Flag.COMPLETE, 3), True),
        (make_flags(Flag.FINAL, 2), False),
    ],
)
def test_complete_is_what_is_proved_and_not_cut_off(flags: int, expected: bool) -> None:
    """A proof does not count while the feed is down; a revision proves nothing."""
    assert expected == is_complete(row_with(flags))


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (0, "live"),
        (Flag.FINAL | Flag.COMPLETE, "live"),
        (Flag.BACKFILLED, "backfilled"),
        (Flag.SETTLED, "settled"),
        (Flag.SETTLED | Flag.BACKFILLED, "settled"),
    ],
)
def test_the_origin_is_the_strongest_claim(flags: int, expected: str) -> None:
    """A bar that the exchange settled is no longer live or backfilled."""
    assert expected == origin_of(row_with(flags))


def test_an_untouched_row_is_no_bar() -> None:
    """All zeros mean that there is nothing yet."""
    row = [0] * FIELD_COUNT
    assert not has_row(row)
    row[OPEN_TIME] = 60_000
    assert has_row(row)


def test_a_bar_is_shown_as_interface_v1_says() -> None:
    """Every key, times as integers, numbers as texts at the symbol's decimals."""
    symbol = Symbol("BTCUSDT_261225", "BTC", "USDT", 0, 2, 3)
    flags = make_flags(Flag.FINAL | Flag.COMPLETE | Flag.BACKFILLED, 2)
    values = [8313790, 8315570, 8308290, 8308490, 102437, 851429261220, 4409, 49832, 414180593340]
    row = [1_791_382_920_000, *values, 5, 9, flags]

    expected = {
        "symbol": "BTC_USDT_261225",
        "interval": "1m",
        "open_time": 1_791_382_920_000,
        "close_time": 1_791_382_979_999,
        "open": "83137.90",
        "high": "83155.70",
        "low": "83082.90",
        "close": "83084.90",
        "volume": "102.437",
        "quote_volume": "8514292.61220",
        "trade_count": 4409,
        "taker_buy_volume": "49.832",
        "taker_buy_quote_volume": "4141805.93340",
        "is_final": True,
        "is_complete": True,
        "origin": "backfilled",
        "revision": 2,
    }
    assert expected == kline_to_dict(row, symbol, INTERVALS["1m"])
    assert list(expected) == list(kline_to_dict(row, symbol, INTERVALS["1m"]))


def test_the_names_of_the_fields_are_their_order() -> None:
    """The layout of memory and of the database."""
    assert FIELDS[OPEN_TIME] == "open_time"
    assert FIELDS[FLAGS] == "flags"
    assert len(FIELDS) == FIELD_COUNT == 13
