"""The same as ``columns``, row by row in plain Python: slow, of any legal form, with line numbers.

What the vectorised way does not take at first sight comes here, which either reads it or says
what is wrong with which line.
"""

from __future__ import annotations

from enum import Enum, auto

import attrs
import numpy as np
import numpy.typing as npt

from klinetrio.domain.decimals import INT64_MAX, MAX_SCALE, decimals_of, parse_scaled
from klinetrio.errors import ScaleError


# As in the exchange's protocol: its own clients read doubles.
MAX_INTEGER = 2**53

Int64Array = npt.NDArray[np.int64]


class Kind(Enum):
    """What the cells of a column are."""

    INTEGER = auto()
    """Digits, up to ``MAX_INTEGER``."""

    DECIMAL = auto()
    """Digits with at most one point."""

    BOOLEAN = auto()
    """``true`` or ``false``, in spot files ``True`` or ``False``."""


_BOOLEANS = {"true": 1, "True": 1, "false": 0, "False": 0}


@attrs.frozen(slots=True)
class Column:
    """The numbers of one column.

    Attributes:
        values: Times ``10**decimals``; 0 and 1 for booleans.
        decimals: Enough for every value of the column.
    """

    values: Int64Array
    decimals: int = 0


class RowError(Exception):
    """A row cannot be taken; the reader of the file says which file."""

    def __init__(self, line: int, detail: str) -> None:
        super().__init__(line, detail)
        self.line = line
        self.detail = detail


def parse_rows(block: bytes, kinds: tuple[Kind, ...], first_line: int) -> list[Column]:
    """Return the columns of a block of lines.

    Args:
        block: Whole lines.
        kinds: Of the columns.
        first_line: Number of the first line.

    Raises:
        RowError: Of the first line that is wrong.
    """
    rows: list[list[tuple[int, int]]] = []
    for line, raw in enumerate(block.split(b"\n")[:-1], first_line):
        try:
            rows.append(_parse_row(raw.decode(), kinds))
        except UnicodeDecodeError:
            raise RowError(line, f"expected UTF-8, was {raw[:40]!r}") from None
        except ValueError as error:
            raise RowError(line, str(error)) from None
        except ScaleError as error:
            raise RowError(line, str(error)) from None
    columns = zip(*rows, strict=True)
    return [_scaled(cells, first_line) for cells in columns]


def _parse_row(text: str, kinds: tuple[Kind, ...]) -> list[tuple[int, int]]:
    """Return each cell's digits as a number, and its decimals."""
    cells = text.split(",")
    if len(cells) != len(kinds):
        raise ValueError(f"expected {len(kinds)} columns, was {len(cells)}")
    return [_parse_cell(cell, kind) for cell, kind in zip(cells, kinds, strict=True)]


def _parse_cell(cell: str, kind: Kind) -> tuple[int, int]:
    if kind is Kind.BOOLEAN:
        if cell not in _BOOLEANS:
            raise ValueError(f"expected true or false, was {cell[:40]!r}")
        return _BOOLEANS[cell], 0
    if kind is Kind.DECIMAL:
        decimals = decimals_of(cell)
        if decimals > MAX_SCALE:
            raise ScaleError(f"expected at most {MAX_SCALE} decimals, was {cell[:40]!r}")
        return parse_scaled(cell, decimals), decimals
    # Ids with leading zeros are as strange as ids that are no numbers, but they are numbers.
    value = parse_scaled(cell, 0) if "." not in cell else MAX_INTEGER + 1
    if value > MAX_INTEGER:
        raise ValueError(f"expected a whole number up to 2**53, was {cell[:40]!r}")
    return value, 0


def _scaled(cells: tuple[tuple[int, int], ...], first_line: int) -> Column:
    decimals = max(own for _, own in cells)
    values = [value * 10 ** (decimals - own) for value, own in cells]
    largest = max(values)
    if largest > INT64_MAX:
        line = first_line + values.index(largest)
        raise RowError(line, f"expected numbers of 64 bits at {decimals} decimals, was {largest}")
    return Column(np.array(values, np.int64), decimals)
