"""Exact numbers: text to scaled integer and back, or a clear refusal."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klinetrio.domain.decimals import (
    INT64_MAX,
    MAX_SCALE,
    decimals_of,
    format_scaled,
    parse_scaled,
)
from klinetrio.errors import ScaleError


SCALES = st.integers(0, MAX_SCALE)
VALUES = st.integers(0, INT64_MAX)


@given(VALUES, SCALES)
def test_what_is_printed_is_read_back(value: int, scale: int) -> None:
    """No value of 64 bits is changed by the way through text."""
    text = format_scaled(value, scale)
    assert value == parse_scaled(text, scale)
    assert Decimal(value).scaleb(-scale) == Decimal(text)
    assert scale == len(text.partition(".")[2])


@given(VALUES, SCALES, st.integers(0, 30))
def test_zeros_beyond_the_scale_mean_nothing(value: int, scale: int, zeros: int) -> None:
    """More decimals than the scale are accepted if they are zeros."""
    text = format_scaled(value, scale)
    padded = (text if "." in text else text + ".") + "0" * zeros
    assert value == parse_scaled(padded, scale)


@given(st.integers(0, 10**9), st.integers(0, 9), st.integers(0, 9))
def test_fewer_decimals_than_the_scale_are_filled_up(value: int, decimals: int, more: int) -> None:
    """A text with fewer decimals is the same number at a larger scale."""
    text = format_scaled(value, decimals)
    assert value * 10**more == parse_scaled(text, decimals + more)


@given(st.integers(0, 10**9), st.integers(0, 8), st.integers(1, 9), st.integers(0, 5))
def test_a_digit_too_many_is_never_rounded(value: int, scale: int, digit: int, zeros: int) -> None:
    """A decimal that does not fit is an error, even if it is the last of many zeros."""
    text = format_scaled(value, scale) + ("." if scale == 0 else "") + "0" * zeros + str(digit)
    with pytest.raises(ScaleError, match=f"expected at most {scale} decimals, was"):
        parse_scaled(text, scale)


@given(st.integers(INT64_MAX + 1, 10**60), SCALES)
def test_more_than_64_bits_is_an_error(value: int, scale: int) -> None:
    """No number wraps around, and a very long one is refused before it is computed."""
    with pytest.raises(ScaleError, match="expected a 64-bit number"):
        parse_scaled(format_scaled(value, scale), scale)


def test_the_largest_number_still_fits() -> None:
    """The bound is exact."""
    assert parse_scaled("9223372036854775807", 0) == INT64_MAX
    assert parse_scaled("9.223372036854775807", MAX_SCALE) == INT64_MAX
    with pytest.raises(ScaleError):
        parse_scaled("9.223372036854775808", MAX_SCALE)


@pytest.mark.parametrize(
    "text",
    [
        *("", ".", "-1", "+1", "1e5", "0x10", " 1", "1 ", "1,5", "1.2.3", "1.-5", "1\n", "1.5\n"),
        *("NaN", "Infinity", "1_000", "١٢", "1.٣", "²"),
    ],
)
def test_what_is_no_plain_number_is_refused(text: str) -> None:
    """Signs, exponents, spaces, separators and foreign digits are not numbers of the exchange."""
    with pytest.raises(ScaleError):
        parse_scaled(text, 8)


@given(st.text(max_size=30), SCALES)
def test_any_text_is_a_number_or_a_scale_error(text: str, scale: int) -> None:
    """Nothing but a value within 64 bits or a ScaleError ever comes out."""
    try:
        value = parse_scaled(text, scale)
    except ScaleError:
        return
    assert 0 <= value <= INT64_MAX
    assert Decimal(text).scaleb(scale) == value


def test_a_huge_text_is_refused_without_being_shown_whole() -> None:
    """Errors stay short, whatever was sent."""
    with pytest.raises(ScaleError) as caught:
        parse_scaled("9" * 100_000, 2)
    assert len(str(caught.value)) < 120


@given(VALUES, SCALES)
def test_negative_numbers_are_printed_with_their_sign(value: int, scale: int) -> None:
    """Differences can be shown, too."""
    assert Decimal(format_scaled(-value, scale)) == Decimal(-value).scaleb(-scale)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0.10", 1), ("1", 0), ("0.001", 3), ("1.000", 0), ("0.0001000", 4), ("10", 0), ("0", 0)],
)
def test_needed_decimals_leave_out_trailing_zeros(text: str, expected: int) -> None:
    """A tick of 0.10 needs one decimal."""
    assert expected == decimals_of(text)
