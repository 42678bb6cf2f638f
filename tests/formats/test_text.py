"""JSON and CSV say the same, however they are cut into pages."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

import orjson
from hypothesis import given
from hypothesis import strategies as st

from klinetrio.formats.encoder import make_encoder
from klinetrio.formats.series import COLUMNS, Series
from tests.formats.rows import BTC, ODD, PEPE, ROWS, series


if TYPE_CHECKING:
    from collections.abc import Sequence

PAGES = st.lists(
    st.tuples(st.sampled_from([series(BTC), series(PEPE, "1M"), series(ODD)]), st.lists(ROWS)),
    max_size=4,
)


def document(name: str, pages: Sequence[tuple[Series, Sequence[Sequence[int]]]]) -> bytes:
    """Return the whole document that an encoder makes of pages."""
    encoder = make_encoder(name, [each for each, _ in pages] or [series()])
    return encoder.head() + b"".join([encoder.bars(*page) for page in pages]) + encoder.tail()


@given(PAGES)
def test_pages_make_one_document(pages: list[tuple[Series, list[tuple[int, ...]]]]) -> None:
    """As if all bars had been there at once, in JSON and in CSV."""
    expected = [each.kline(row) for each, rows in pages for row in rows]

    assert expected == orjson.loads(document("json", pages))
    lines = list(csv.reader(io.StringIO(document("csv", pages).decode())))
    assert list(COLUMNS) == lines[0]
    texts = [
        [value if isinstance(value, str) else orjson.dumps(value).decode() for value in each]
        for each in (kline.values() for kline in expected)
    ]
    assert texts == lines[1:]


def test_the_columns_are_the_fields_of_a_kline() -> None:
    """In their order, which is the order of the cells."""
    assert list(series().kline([1] * 13)) == list(COLUMNS)


def test_a_name_that_csv_cannot_hold_is_quoted() -> None:
    """Names are the exchange's to choose."""
    odd = Series('A,"B"_USDT', BTC, series().interval)

    lines = list(csv.reader(io.StringIO(document("csv", [(odd, [[1] * 13])]).decode())))

    assert lines[1][0] == 'A,"B"_USDT'
    assert len(lines[1]) == len(COLUMNS)


def test_no_bars_are_a_document_too() -> None:
    """An empty array; a header without lines."""
    assert document("json", []) == b"[]"
    assert document("csv", []) == f"{','.join(COLUMNS)}\n".encode()
