"""A file's columns block by block: header, number of columns, common numbers of decimals.

Invariant (tested in tests/archive/test_table.py):
  I1  Numbers keep their value, at any number of decimals that they are given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np

from klinetrio.archive.columns import parse_block
from klinetrio.archive.files import read_blocks
from klinetrio.archive.rows import Column, Int64Array, Kind, RowError
from klinetrio.domain.decimals import INT64_MAX
from klinetrio.errors import ArchiveError


if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

# Archive times are ms, in newer spot files microseconds; as ms this would be the year 5138.
_FIRST_US = 10**14


@attrs.frozen(slots=True)
class Table:
    """The columns of some consecutive rows of a file.

    Attributes:
        path: The file.
        line: Line of the first row.
        columns: In the file's order.
    """

    path: Path
    line: int
    columns: list[Column]

    def __len__(self) -> int:
        return len(self.columns[0].values)

    def refuse(self, wrong: np.ndarray[tuple[int], np.dtype[np.bool_]], detail: str) -> None:
        """Refuse the file if any row is wrong.

        Raises:
            ArchiveError: Of the first such row.
        """
        if wrong.any():
            raise ArchiveError(self.path, detail, self.line + int(wrong.argmax()))


def read_tables(path: Path, first_name: str, shapes: Sequence[tuple[Kind, ...]]) -> Iterator[Table]:
    """Yield a file's columns, block by block.

    Args:
        path: The file.
        first_name: The first column's name in a header, should there be one.
        shapes: Kinds of columns; the first row says which of them it is by its length.

    Raises:
        ArchiveError: Anything is wrong with the file.
    """
    blocks = read_blocks(path)
    block = next(blocks, b"")
    line = 1
    if block and not block[:1].isdigit():
        header, _, block = block.partition(b"\n")
        line = 2
        if header.split(b",")[0] != first_name.encode():
            raise ArchiveError(path, f"expected {first_name} or a digit, was {header[:40]!r}", 1)
        block = block or next(blocks, b"")
    if not block:
        raise ArchiveError(path, "expected rows, was empty", line)
    count = block.partition(b"\n")[0].count(b",") + 1
    kinds = next((shape for shape in shapes if len(shape) == count), shapes[0])
    while block:
        table = _parse(path, block, kinds, line)
        yield table
        line += len(table)
        block = next(blocks, b"")


def joined(tables: Sequence[Table]) -> Table:
    """Return consecutive blocks of a file as one.

    Raises:
        ArchiveError: The numbers of a column fit no common number of decimals.
    """
    first = tables[0]
    columns = zip(*(table.columns for table in tables), strict=True)
    return Table(first.path, first.line, [_joined(first.path, column) for column in columns])


def in_ms(times: Int64Array) -> Int64Array:
    """Return times of which those in microseconds are made milliseconds."""
    return np.where(times >= _FIRST_US, times // 1000, times)


def least_decimals(columns: Sequence[Column], at_least: int) -> int:
    """Return the decimals that the values really need; zeros at all their ends do not count."""
    needed = at_least
    for column in columns:
        decimals = column.decimals
        values = column.values
        # A sample first: usually it shows at once that all decimals are needed.
        while decimals > needed and not (values[:1000] % 10).any() and not (values % 10).any():
            values = values // 10
            decimals -= 1
        needed = max(needed, decimals)
    return needed


def at_decimals(column: Column, decimals: int) -> Int64Array | None:
    """Return the values at as many decimals, None if one does not fit 64 bits.

    ``decimals`` must be as many as ``least_decimals`` at least.
    """
    factor: int = 10 ** abs(decimals - column.decimals)
    if factor == 1:
        return column.values
    if decimals < column.decimals:
        return column.values // factor
    if int(column.values.max()) * factor > INT64_MAX:
        return None
    return column.values * factor


def _parse(path: Path, block: bytes, kinds: tuple[Kind, ...], line: int) -> Table:
    try:
        return Table(path, line, parse_block(block, kinds, line))
    except RowError as error:
        raise ArchiveError(path, error.detail, error.line) from None


def _joined(path: Path, parts: Sequence[Column]) -> Column:
    decimals = max(part.decimals for part in parts)
    values = [at_decimals(part, decimals) for part in parts]
    whole = [each for each in values if each is not None]
    if len(whole) < len(values):
        raise ArchiveError(path, f"expected numbers of 64 bits at {decimals} decimals")
    return Column(np.concatenate(whole), decimals)
