"""Arrow tables of klines; needs pyarrow, the optional extra ``arrow``.

Times are timestamps in UTC milliseconds, numbers with decimals decimal128 at the symbol's scales.
A column has one scale, so several symbols in one table share the widest of theirs: every value is
exact, some have zeros at the end.  The schema's metadata says so, and what each symbol's own are.

Invariant (tested in tests/formats/test_arrow.py):
  I1  Every value equals the one that JSON shows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import orjson
import pyarrow as pa

from klinetrio.domain import kline
from klinetrio.domain.kline import Flag


if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from klinetrio.formats.series import Series

    Int64Array = npt.NDArray[np.int64]

# 64 bits have 19 digits, and widening adds at most 18: always within decimal128's 38.
_PRECISION = 38

_TIME = pa.timestamp("ms", tz="UTC")
_ORIGINS = pa.array(["live", "backfilled", "settled"])

_PRICES = {"open": kline.OPEN, "high": kline.HIGH, "low": kline.LOW, "close": kline.CLOSE}
_QUANTITIES = {"volume": kline.VOLUME, "taker_buy_volume": kline.TAKER_BUY_VOLUME}
_QUOTES = {
    "quote_volume": kline.QUOTE_VOLUME,
    "taker_buy_quote_volume": kline.TAKER_BUY_QUOTE_VOLUME,
}


def schema_of(series: Sequence[Series]) -> pa.Schema:
    """Return the schema of a table that holds bars of these series."""
    price = pa.decimal128(_PRECISION, max(each.symbol.price_scale for each in series))
    quantity = pa.decimal128(_PRECISION, max(each.symbol.quantity_scale for each in series))
    quote = pa.decimal128(_PRECISION, max(each.symbol.quote_scale for each in series))
    fields = [("symbol", pa.string()), ("interval", pa.string())]
    fields += [("open_time", _TIME), ("close_time", _TIME)]
    fields += [(name, price) for name in _PRICES]
    fields += [("volume", quantity), ("quote_volume", quote), ("trade_count", pa.int64())]
    fields += [("taker_buy_volume", quantity), ("taker_buy_quote_volume", quote)]
    fields += [("is_final", pa.bool_()), ("is_complete", pa.bool_())]
    fields += [("origin", pa.string()), ("revision", pa.int64())]
    return pa.schema([pa.field(*each, nullable=False) for each in fields], _metadata(series))


def _metadata(series: Sequence[Series]) -> dict[str, bytes]:
    own = {
        each.name: {
            "price": each.symbol.price_scale,
            "quantity": each.symbol.quantity_scale,
            "quote": each.symbol.quote_scale,
        }
        for each in series
    }
    text = b"of each column the widest of all its symbols; every value is exact"
    return {"klinetrio.scales": text, "klinetrio.symbol_scales": orjson.dumps(own)}


def batch_of(
    series: Series, rows: Sequence[Sequence[int]] | Int64Array, schema: pa.Schema
) -> pa.RecordBatch:
    """Return bars of one series as a record batch.

    Args:
        series: Whose bars.
        rows: Shape ``(n, 13)``, as lists or as an int64 array.
        schema: As of ``schema_of``, with this series among others.
    """
    table = np.asarray(rows, np.int64).reshape(len(rows), kline.FIELD_COUNT)
    flags = table[:, kline.FLAGS]
    opens = table[:, kline.OPEN_TIME]
    proved = flags & (Flag.COMPLETE | Flag.FEED_DOWN) == Flag.COMPLETE
    origins = np.where(flags & Flag.SETTLED, 2, np.where(flags & Flag.BACKFILLED, 1, 0))
    columns = {
        "symbol": pa.repeat(series.name, len(rows)),
        "interval": pa.repeat(series.interval.name, len(rows)),
        "open_time": pa.array(opens).cast(_TIME),
        "close_time": pa.array(_closes(series, opens)).cast(_TIME),
        "trade_count": pa.array(table[:, kline.TRADE_COUNT]),
        "is_final": pa.array(flags & Flag.FINAL != 0),
        "is_complete": pa.array(proved),
        "origin": _ORIGINS.take(pa.array(origins)),
        "revision": pa.array(flags >> kline.REVISION_SHIFT),
    }
    symbol = series.symbol
    for indexes, scale in (
        (_PRICES, symbol.price_scale),
        (_QUANTITIES, symbol.quantity_scale),
        (_QUOTES, symbol.quote_scale),
    ):
        for name, index in indexes.items():
            exact = _decimals(table[:, index], scale)
            # A cast to a wider scale multiplies in 128 bits; one that did not fit would raise.
            columns[name] = exact.cast(schema.field(name).type)
    return pa.record_batch([columns[name] for name in schema.names], schema=schema)


def _closes(series: Series, opens: Int64Array) -> Int64Array:
    interval = series.interval
    if interval.is_calendar:
        return np.array([interval.close_of(int(each)) for each in opens], np.int64)
    return opens + (interval.length - 1)


def _decimals(values: Int64Array, scale: int) -> pa.Array:
    """Return scaled integers as decimal128: sixteen bytes, little-endian, in two's complement."""
    words = np.empty((len(values), 2), "<i8")
    words[:, 0] = values
    words[:, 1] = values >> 63  # the sign, all over the upper half
    buffers = [None, pa.py_buffer(words)]
    return pa.Array.from_buffers(pa.decimal128(_PRECISION, scale), len(values), buffers)


class _Sink:
    """A file that gives back what was written since it was last asked."""

    closed = False

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """There is nothing behind it."""

    def taken(self) -> bytes:
        data = b"".join(self._parts)
        self._parts.clear()
        return data


class ArrowEncoder:
    """An Arrow IPC stream.

    Args:
        series: All series of which bars will be given.
    """

    content_type = "application/vnd.apache.arrow.stream"

    def __init__(self, series: Sequence[Series]) -> None:
        self._schema = schema_of(series)
        self._sink = _Sink()
        self._writer = pa.ipc.new_stream(self._sink, self._schema)

    def head(self) -> bytes:
        """Return the schema."""
        return self._sink.taken()

    def bars(self, series: Series, rows: Sequence[Sequence[int]]) -> bytes:
        """Return bars of one series: a record batch, or nothing if there is no bar."""
        if len(rows):
            self._writer.write_batch(batch_of(series, rows, self._schema))
        return self._sink.taken()

    def tail(self) -> bytes:
        """Return the mark at the end, without which a reader cannot tell that it has all."""
        self._writer.close()
        return self._sink.taken()
