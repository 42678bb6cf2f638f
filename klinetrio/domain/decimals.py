"""Exact numbers: decimal text to scaled int64 and back.

A price of a symbol with two decimals is kept as hundredths, a quantity with three as thousandths,
their product at five.  No float touches a value on this way.
"""

from __future__ import annotations

from klinetrio.errors import ScaleError


INT64_MAX = 2**63 - 1

# 10**18 is the largest power of ten in 63 bits; a scale beyond it could hold no value at all.
MAX_SCALE = 18


def parse_scaled(text: str, scale: int) -> int:
    """Return non-negative decimal ``text`` times ``10**scale``, exactly.

    Args:
        text: Digits with at most one point, as the exchange writes numbers: ``"83091.70"``,
            ``"0"``.  Signs, exponents, spaces and non-ASCII digits are refused.
        scale: Number of decimals kept.

    Raises:
        ScaleError: Not such a number; more decimals than ``scale`` (zeros at the end do not
            count); or too large for 64 bits.
    """
    whole, _, fraction = text.partition(".")
    if len(fraction) > scale:
        if fraction[scale:].strip("0"):
            raise ScaleError(f"expected at most {scale} decimals, was {text[:40]!r}", "precision")
        fraction = fraction[:scale]
    digits = whole + fraction
    if not (digits.isdigit() and digits.isascii()):
        raise ScaleError(f"expected a decimal number, was {text[:40]!r}", "field")
    if len(digits) > 40:  # noqa: PLR2004  (int() of a long text is slow; 64 bits have 19 digits)
        raise ScaleError(f"expected a 64-bit number, was {text[:40]!r}...")
    value: int = int(digits) * 10 ** (scale - len(fraction))
    if value > INT64_MAX:
        raise ScaleError(f"expected a 64-bit number at {scale} decimals, was {text[:40]!r}")
    return value


def format_scaled(value: int, scale: int) -> str:
    """Return ``value`` as text with exactly ``scale`` decimals, as the exchange prints it."""
    if scale == 0:
        return str(value)
    sign = "-" if value < 0 else ""
    digits = str(abs(value)).rjust(scale + 1, "0")
    return f"{sign}{digits[:-scale]}.{digits[-scale:]}"


def decimals_of(text: str) -> int:
    """Return how many decimals ``text`` really needs: 1 for ``"0.10"``, 0 for ``"1"``."""
    return len(text.partition(".")[2].rstrip("0"))
