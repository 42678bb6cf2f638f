"""The text formats: a JSON array, and CSV with the same names and texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from klinetrio.formats.series import COLUMNS


if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from klinetrio.formats.series import Series

_SYMBOL = COLUMNS.index("symbol")
_TRUTHS = (COLUMNS.index("is_final"), COLUMNS.index("is_complete"))


class JsonEncoder:
    """A JSON array of klines, ascending as they are given."""

    content_type = "application/json"

    def __init__(self) -> None:
        self._is_empty = True

    def head(self) -> bytes:
        """Return what comes before the first bar."""
        return b"["

    def bars(self, series: Series, rows: Sequence[Sequence[int]]) -> bytes:
        """Return bars of one series."""
        if not len(rows):
            return b""
        comma = b"" if self._is_empty else b","
        self._is_empty = False
        return comma + orjson.dumps([series.kline(row) for row in rows])[1:-1]

    def tail(self) -> bytes:
        """Return what comes after the last bar."""
        return b"]"


class CsvEncoder:
    """CSV after RFC 4180 with a header row, but with line feeds alone at the ends of lines."""

    content_type = "text/csv; charset=utf-8; header=present"

    def head(self) -> bytes:
        """Return the header row."""
        return f"{','.join(COLUMNS)}\n".encode()

    def bars(self, series: Series, rows: Sequence[Sequence[int]]) -> bytes:
        """Return bars of one series, a line each."""
        return "".join([csv_line(series.kline(row)) for row in rows]).encode()

    def tail(self) -> bytes:
        """Return what comes after the last bar: nothing."""
        return b""


def csv_line(kline: Mapping[str, Any]) -> str:
    """Return a kline of interface v1 as one line of CSV; truths are written as in JSON."""
    cells = [str(value) for value in kline.values()]
    cells[_SYMBOL] = _quoted(cells[_SYMBOL])
    for index in _TRUTHS:
        cells[index] = cells[index].lower()
    return f"{','.join(cells)}\n"


def _quoted(name: str) -> str:
    """Return a name as a cell; none is known that needs quotes, but the exchange chooses them."""
    if any(mark in name for mark in '",\r\n'):
        return '"' + name.replace('"', '""') + '"'
    return name
