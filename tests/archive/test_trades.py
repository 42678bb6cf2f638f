"""Files of trades are read exactly, in any order, once, or refused with the line that is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import pytest

from klinetrio.archive.trades import FileTrades, read_trades
from klinetrio.errors import ArchiveError, ScaleError
from tests.archive.texts import DAY_ONE, NAMES, TRADE_HEADER, name_of, write_zip


if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

ROW = f"7,83084.30,0.002,10,12,{DAY_ONE},true\n"
NEXT = f"8,83084.3,1,13,13,{DAY_ONE + 5},false\n"


def read(directory: Path, text: str) -> FileTrades:
    """Write a file and read it."""
    path = directory / NAMES[0]
    path.write_text(text)
    return read_trades(path, name_of(path))


def rows_of(trades: FileTrades, price: int = 2, quantity: int = 3) -> Sequence[Sequence[int]]:
    """Return the trades row by row."""
    columns = attrs.astuple(trades.at(price, quantity), recurse=False)
    return list(zip(*(column.tolist() for column in columns), strict=True))


EXPECTED = [
    (7, 8308430, 2, 3, DAY_ONE, True),
    (8, 8308430, 1000, 1, DAY_ONE + 5, False),
]


@pytest.mark.parametrize(
    "text",
    [
        ROW + NEXT,
        TRADE_HEADER + ROW + NEXT,
        (TRADE_HEADER + ROW + NEXT).replace("\n", "\r\n"),
        NEXT + ROW,
        ROW + NEXT + ROW + ROW,
        (ROW + NEXT).replace("e\n", "e,true\n"),
        (ROW + NEXT).replace("true", "True").replace("false", "False"),
        (ROW + NEXT)
        .replace(f"{DAY_ONE}", f"{DAY_ONE}999")
        .replace(f"{DAY_ONE + 5}", f"{DAY_ONE + 5}000"),
    ],
)
def test_all_layouts_give_the_same_trades(tmp_path: Path, text: str) -> None:
    """Header or not, spot's extra column, ms or us, out of order, repeated."""
    assert EXPECTED == rows_of(read(tmp_path, text))


def test_a_zip_gives_the_same_trades(tmp_path: Path) -> None:
    """As its CSV file."""
    path = write_zip((tmp_path / NAMES[0]).with_suffix(".zip"), TRADE_HEADER + ROW + NEXT)
    assert EXPECTED == rows_of(read_trades(path, name_of(path)))


@pytest.mark.parametrize(
    ("price", "quantity", "stored", "expected"),
    [
        ("83084.30", "0.002", (0, 0), (1, 3)),
        ("83084.00000000", "1.00000000", (0, 0), (0, 0)),
        ("83084.00000000", "1.00000000", (2, 3), (2, 3)),
        ("0.00000123", "1000", (7, 0), (8, 0)),
    ],
)
def test_scales_are_what_is_needed_and_never_shrink(
    tmp_path: Path, price: str, quantity: str, stored: tuple[int, int], expected: tuple[int, int]
) -> None:
    """Zeros that every number ends with need no scale."""
    trades = read(tmp_path, f"7,{price},{quantity},1,1,{DAY_ONE},true\n")
    assert expected == trades.scales(*stored)


def test_decimals_that_come_late_count_for_all(tmp_path: Path) -> None:
    """A file is read in blocks, whose decimals may differ."""
    lines = [f"{n},{n + 1},1,1,1,{DAY_ONE},true\n" for n in range(20_000)]
    trades = read(tmp_path, "".join(lines) + f"20000,0.001,0.5,1,1,{DAY_ONE},true\n")
    assert (3, 1) == trades.scales(0, 0)
    assert [1000, 2000] == [row[1] for row in rows_of(trades, 3, 1)[:2]]
    assert 1 == rows_of(trades, 3, 1)[-1][1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: expected rows, was empty"),
        (TRADE_HEADER, "line 2: expected rows, was empty"),
        ("open_time,open\n" + ROW, "line 1: expected agg_trade_id or a digit"),
        (TRADE_HEADER + ROW + "1,2,3\n", "line 3: expected 7 columns, was 3"),
        (ROW + NEXT.replace("83084.3", "0.0"), "line 2: expected a price above 0"),
        (ROW + NEXT.replace("13,13", "13,12"), "line 2: expected a first trade id not above"),
        (ROW + NEXT.replace("8,83084.3", "7,83084.3"), "line 2: expected another id or the same"),
        (ROW.replace(f"{DAY_ONE}", "1786000000000"), "line 1: expected a time of the day"),
        (
            ROW.replace(f"{DAY_ONE}", f"{DAY_ONE + 5000}") + NEXT,
            "expected times to rise with ids, fell at id 8",
        ),
    ],
)
def test_a_wrong_file_is_refused_by_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    """One clear error."""
    with pytest.raises(ArchiveError, match=f"{NAMES[0]}.*{message}"):
        read(tmp_path, text)


def test_line_numbers_count_over_blocks(tmp_path: Path) -> None:
    """From the first line of the file, a header included."""
    lines = [f"{n},83084.3,1,13,13,{DAY_ONE},true\n" for n in range(30_000)]
    lines[25_000] = "oops\n"
    with pytest.raises(ArchiveError, match="line 25002: expected 7 columns, was 1"):
        read(tmp_path, TRADE_HEADER + "".join(lines))


@pytest.mark.parametrize(("price", "quantity"), [("4000000000", "4000000000"), ("1", "9" * 18)])
def test_products_beyond_64_bits_are_refused(tmp_path: Path, price: str, quantity: str) -> None:
    """At the scales that the symbol has."""
    trades = read(tmp_path, f"7,{price},{quantity},1,1,{DAY_ONE},true\n")
    with pytest.raises(ScaleError, match="64 bits"):
        trades.at(2, 3)


def test_a_quantity_of_zero_is_a_trade(tmp_path: Path) -> None:
    """Its id counts, as it does live."""
    trades = read(tmp_path, ROW + NEXT.replace(",1,", ",0.0,"))
    assert [2, 0] == [row[2] for row in rows_of(trades)]
