"""Arrow streams: exact, typed, readable page by page."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal
from typing import Any

import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from klinetrio.domain.symbol import Symbol
from klinetrio.formats.encoder import MEDIA_TYPES, make_encoder
from klinetrio.formats.series import COLUMNS, Series
from tests.formats.rows import BTC, ODD, PEPE, ROWS, series
from tests.formats.test_text import document


def as_json(table: pa.Table) -> list[dict[str, Any]]:
    """Return a table's bars with times and numbers as interface v1 writes them."""
    for index, name in enumerate(table.schema.names):
        if pa.types.is_timestamp(table.schema.types[index]):
            column = table.column(name).cast(pa.int64())
            table = table.set_column(index, name, column)
    bars: list[dict[str, Any]] = table.to_pylist()
    return bars


@given(st.lists(ROWS, min_size=1), st.sampled_from(["1m", "1w", "1M"]))
def test_one_symbol_has_its_own_scales(rows: list[tuple[int, ...]], interval: str) -> None:
    """Every value is the one of JSON, with the same decimals (I1)."""
    one = series(BTC, interval)

    table = pa.ipc.open_stream(document("arrow", [(one, rows)])).read_all()

    expected = [one.kline(row) for row in rows]
    shown = [
        {key: str(value) if isinstance(value, Decimal) else value for key, value in bar.items()}
        for bar in as_json(table)
    ]
    assert expected == shown
    assert list(COLUMNS) == table.schema.names


@given(st.tuples(*[st.lists(ROWS, max_size=3)] * 3))
def test_several_symbols_have_the_widest_scales(rows: tuple[list[tuple[int, ...]], ...]) -> None:
    """Exact for all, and the schema tells whose decimals are which (I1)."""
    pages = list(zip([series(BTC), series(PEPE), series(ODD)], rows, strict=True))

    table = pa.ipc.open_stream(document("arrow", pages)).read_all()

    assert pa.decimal128(38, 7) == table.schema.field("open").type
    assert pa.decimal128(38, 8) == table.schema.field("volume").type
    assert pa.decimal128(38, 8) == table.schema.field("quote_volume").type
    for bar, expected in zip(
        as_json(table), [each.kline(row) for each, rows in pages for row in rows], strict=True
    ):
        for name, value in bar.items():
            told = Decimal(expected[name]) if isinstance(value, Decimal) else expected[name]
            assert told == value, name
    own = orjson.loads(table.schema.metadata[b"klinetrio.symbol_scales"])
    assert own["1000PEPE_USDT"] == {"price": 7, "quantity": 0, "quote": 7}
    assert b"widest" in table.schema.metadata[b"klinetrio.scales"]


def test_the_widest_numbers_that_there_are_fit() -> None:
    """64 bits at scale 0, beside a symbol with 18 decimals."""
    wide = Series("WIDE", Symbol("WIDE", "W", "X", 0, 9, 9), series().interval)
    whole = Series("WHOLE", Symbol("WHOLE", "W", "X", 0, 0, 0), series().interval)
    row = [60_000, *[2**63 - 1] * 9, 0, 0, 0]

    table = pa.ipc.open_stream(document("arrow", [(wide, [row]), (whole, [row])])).read_all()

    assert [str(each.as_py()) for each in table.column("quote_volume")] == [
        "9.223372036854775807",
        "9223372036854775807.000000000000000000",
    ]


def test_no_bars_have_a_schema() -> None:
    """And an end."""
    table = pa.ipc.open_stream(document("arrow", [])).read_all()

    assert (0, list(COLUMNS)) == (table.num_rows, table.schema.names)


def test_a_stream_is_cut_after_every_page() -> None:
    """What has been encoded so far can be sent, and nothing is kept."""
    encoder = make_encoder("arrow", [series()])
    first = encoder.head() + encoder.bars(series(), [[60_000] * 13])

    reader = pa.ipc.open_stream(first + encoder.bars(series(), [[120_000] * 13]) + encoder.tail())

    assert [1, 1] == [batch.num_rows for batch in reader]
    assert encoder.content_type == MEDIA_TYPES["arrow"]


def test_a_stream_without_its_end_is_refused() -> None:
    """A reader notices that a batch is cut."""
    whole = document("arrow", [(series(), [[60_000] * 13])])

    with pytest.raises((pa.ArrowInvalid, OSError)):
        pa.ipc.open_stream(whole[: len(whole) // 2 + 100]).read_all()


def test_pyarrow_is_loaded_by_those_who_ask_for_it() -> None:
    """The daemon starts without it, and JSON and CSV do without."""
    program = (
        "import sys, klinetrio.cli\n"
        "from klinetrio.formats.encoder import has_arrow, make_encoder\n"
        "assert has_arrow()\n"
        "make_encoder('json', []), make_encoder('csv', [])\n"
        "assert 'pyarrow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
