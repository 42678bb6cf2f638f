"""Runs of digits in a text to integers, all at once.

Eight digits at a time become a number inside one 64-bit word: neighbours are joined to numbers of
two digits, these to four, these to eight, with one multiplication each.  Every step is one numpy
operation over all runs, most of which cost less than a nanosecond per run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np


if TYPE_CHECKING:
    import numpy.typing as npt

    from klinetrio.archive.rows import Int64Array

    UInt64Array = npt.NDArray[np.uint64]

_U = np.uint64
_DIGITS = _U(0x0F0F0F0F0F0F0F0F)
# Joining neighbours to so many digits: the low one times the base, plus the high one, and the rest
# masked away.
_JOINS = (
    (2, _U(10 * 2**8 + 1), _U(8), _U(0x00FF00FF00FF00FF)),
    (4, _U(100 * 2**16 + 1), _U(16), _U(0x0000FFFF0000FFFF)),
    (8, _U(10_000 * 2**32 + 1), _U(32), _U(0x00000000FFFFFFFF)),
)
_WIDTHS = (1, 2, 4, 8)


def numbers(words: UInt64Array, lengths: Int64Array, end: Int64Array) -> Int64Array:
    """Return numbers whose digits end before a position.

    Args:
        words: The eight bytes of the text from any position on, little endian.
        lengths: How many digits each has, 18 at most; none is 0.
        end: Where each ends; what lies up to 24 bytes before it must be in the text.
    """
    longest, shortest = int(lengths.max()), int(lengths.min())
    total = np.zeros(len(end), _U)
    for done in range(0, longest, 8):
        # Little endian: the last digit is in the highest byte, what is before the token in the
        # lowest ones, where zeros are leading zeros.
        word = words[end - (done + 8)]
        width = next(each for each in _WIDTHS if each >= min(longest - done, 8))
        if shortest < done + width:
            _clear_low_bytes(word, done + 8 - lengths)
        _join(word, width)
        if done:
            word *= _U(10**done)
            total += word
        else:
            total = word
    return total.view(np.int64)


def _join(word: UInt64Array, width: int) -> None:
    """Make each word the number whose digits are its ``width`` highest bytes."""
    word >>= _U(64 - 8 * width)
    word &= _DIGITS
    for joined, factor, shift, mask in _JOINS:
        if joined > width:
            break
        word *= factor
        word >>= shift
        word &= mask


def _clear_low_bytes(word: UInt64Array, count: Int64Array) -> None:
    """Clear so many of the low bytes of each word; none if below 0, all if 8 or more."""
    # A shift by 64 is undefined, two by 32 are not.
    half = (np.minimum(np.maximum(count, 0), 8) << 2).view(_U)
    for _ in range(2):
        word >>= half
    for _ in range(2):
        word <<= half
