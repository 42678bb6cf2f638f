"""CSV text to exact integers, all rows of a block at once.

No float touches a value.  A block's separators are found first; between them lie tokens of
digits, which ``digits`` turns into numbers, eight at a time.

This takes only what it can vouch for: ASCII digits, at most one point in a decimal, at most 18
digits in a part, values of 64 bits.  Any other block is read by ``rows``, which is slow, and exact
to the line about what is wrong.

Invariant (tested in tests/archive/test_columns.py):
  I1  Whatever is legal gives the numbers that plain Python reads, whatever is not is refused.

Options that fail, in million rows/s of one thread, measured on the machine where reading and parsing
like this comes to 2.6: pyarrow's CSV reader with decimal128 1.1, polars' with Decimal 1.3, the csv
module with Python's integers 0.6.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np

from klinetrio.archive.digits import numbers
from klinetrio.archive.rows import MAX_INTEGER, Column, Int64Array, Kind, parse_rows
from klinetrio.domain.decimals import INT64_MAX


if TYPE_CHECKING:
    import numpy.typing as npt

    UInt64Array = npt.NDArray[np.uint64]
    Bytes = npt.NDArray[np.uint8]

# Three words reach this far before a token; the line feed is the mark before the first one.
_PADDING = b"0" * 31 + b"\n"

_NEWLINE, _COMMA, _POINT, _ZERO = (np.uint8(ord(each)) for each in "\n,.0")

_MAX_DIGITS = 18


def parse_block(block: bytes, kinds: tuple[Kind, ...], first_line: int) -> list[Column]:
    """Return the columns of a block of lines.

    Args:
        block: Whole lines, each with a line feed at its end.
        kinds: Of the columns.
        first_line: Number of the first line.

    Raises:
        RowError: Of the first line that is wrong.
    """
    columns = _parse(block, kinds)
    return parse_rows(block, kinds, first_line) if columns is None else columns


@attrs.frozen(slots=True)
class _Tokens:
    """Where the cells of a block are, a row per column.

    Attributes:
        text: The block, padded.
        words: The eight bytes from any position on.
        start: First byte of each cell.
        end: The byte after it.
        point: Its point; its end if it has none.
    """

    text: Bytes
    words: UInt64Array
    start: Int64Array
    end: Int64Array
    point: Int64Array


def _parse(block: bytes, kinds: tuple[Kind, ...]) -> list[Column] | None:
    """Return the columns, None if anything is unusual."""
    tokens = _tokenise(_PADDING + block, len(kinds))
    if tokens is None:
        return None
    columns, letters = [], 0
    for index, kind in enumerate(kinds):
        start, end, point = tokens.start[index], tokens.end[index], tokens.point[index]
        if kind is Kind.DECIMAL:
            column = _decimals(tokens.words, start, end, point)
        elif (point != end).any():
            return None
        elif kind is Kind.BOOLEAN:
            column = _booleans(tokens, start, end)
            letters += int((end - start).sum())
        else:
            column = _integers(tokens.words, start, end)
        if column is None:
            return None
        columns.append(column)
    # All else must be digits: now that cells are known, counting is enough.
    others = np.count_nonzero((tokens.text - _ZERO) > 9)  # noqa: PLR2004
    points = np.count_nonzero(tokens.point != tokens.end)
    return columns if others == 1 + tokens.end.size + points + letters else None


def _tokenise(padded: bytes, count: int) -> _Tokens | None:
    """Return the cells, None if they are not ``count`` per line with at most one point each."""
    text = np.frombuffer(padded, np.uint8)
    # Points, commas and line feeds are the marks, and no digit or letter is below them.
    marks = np.flatnonzero(text <= _POINT)
    signs = text[marks]
    ends = np.flatnonzero(signs != _POINT)[1:]
    if len(ends) == 0 or len(ends) % count:
        return None
    before = ends - 1
    pointed = signs[before] == _POINT
    if (pointed & (signs[before - 1] == _POINT)).any():
        return None
    separators = signs[ends].reshape(-1, count)
    if (separators[:, -1] != _NEWLINE).any() or (separators[:, :-1] != _COMMA).any():
        return None
    end = marks[ends]
    start = np.empty_like(end)
    start[0], start[1:] = len(_PADDING), end[:-1] + 1
    point = np.where(pointed, marks[before], end)
    by_column = (np.ascontiguousarray(each.reshape(-1, count).T) for each in (start, end, point))
    words: UInt64Array = np.ndarray((len(padded) - 7,), "<u8", padded, 0, (1,))
    return _Tokens(text, words, *by_column)


def _integers(words: UInt64Array, start: Int64Array, end: Int64Array) -> Column | None:
    lengths = end - start
    if lengths.min() < 1 or lengths.max() > _MAX_DIGITS:
        return None
    values = numbers(words, lengths, end)
    return Column(values) if values.max() <= MAX_INTEGER else None


def _decimals(
    words: UInt64Array, start: Int64Array, end: Int64Array, point: Int64Array
) -> Column | None:
    whole_digits = point - start
    # A cell without a point has its end there, so its fraction would be of length -1.
    decimals = np.maximum(end - point - 1, 0)
    longest = int(decimals.max())
    if max(longest, int(whole_digits.max())) > _MAX_DIGITS or (whole_digits + decimals).min() < 1:
        return None
    values = numbers(words, whole_digits, point)
    if (int(values.max()) + 1) * 10**longest > INT64_MAX:
        return None
    if longest:
        values *= 10**longest
        units = 10 ** np.arange(longest, -1, -1, dtype=np.int64)
        values += numbers(words, decimals, end) * units[decimals]
    return Column(values, longest)


def _booleans(tokens: _Tokens, start: Int64Array, end: Int64Array) -> Column | None:
    last_four = tokens.words[end - 8] >> np.uint64(32)
    first = tokens.text[start] | np.uint8(0x20)
    # Any case is told by the first letter; the others must be small.
    rest = last_four >> np.uint64(8)
    true = (end - start == len("true")) & (first == ord("t")) & (rest == _word("rue"))
    false = (end - start == len("false")) & (first == ord("f"))
    false &= last_four == _word("false"[1:])
    return Column(true.astype(np.int64)) if (true | false).all() else None


def _word(text: str) -> int:
    return int.from_bytes(text.encode(), "little")
