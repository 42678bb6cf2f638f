"""Files of klines are read as the same klines of REST are."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from klinetrio.archive.klines import FileKlines, read_klines
from klinetrio.domain.symbol import Symbol
from klinetrio.errors import ArchiveError, ScaleError
from klinetrio.exchange.codec import decode_kline
from tests.archive.texts import KLINE_HEADER, name_of


DATA = Path(__file__).parents[3] / "shared" / "data"
NAME = "NEARUSDT-1m-2023-09.csv"
START = 1_693_526_400_000

ROW = (
    f"{START},1.1540,1.1540,1.1510,1.1520,134178,{START + 59_999},154637.9490,270,49790,"
    "57397.2260,0\n"
)
NEXT = (
    ROW.replace(f"{START}", f"{START + 60_000}", 1)
    .replace(f"{START + 59_999}", f"{START + 119_999}")
    .replace("134178", "134178.50")
)


def read(directory: Path, text: str, name: str = NAME) -> FileKlines:
    """Write a file and read it."""
    path = directory / name
    path.write_text(text)
    interval = name_of(path).interval
    assert interval is not None
    return read_klines(path, name_of(path), interval)


@pytest.mark.skipif(not DATA.is_dir(), reason="no recorded market data beside the tree")
def test_an_official_file_is_read_as_rest_would_be(tmp_path: Path) -> None:
    """All 43,200 rows, field by field (I1)."""
    text = gzip.decompress((DATA / "official_um_NEARUSDT-1m-2023-09.csv.gz").read_bytes()).decode()
    klines = read(tmp_path, text)

    symbol = Symbol("NEARUSDT", "NEAR", "USDT", 0, 4, 0)
    assert (3, 0) == klines.scales(0, 0)
    assert (4, 0) == klines.scales(4, 0)
    expected = []
    for line in text.splitlines()[1:]:
        cells = line.split(",")
        whole = {0: int(cells[0]), 8: int(cells[8])}
        row = [whole.get(index, cell) for index, cell in enumerate(cells)]
        expected.append(decode_kline(row, symbol))
    assert np.array_equal(np.array(expected), klines.at(4, 0))


@pytest.mark.parametrize(
    "text",
    [
        ROW + NEXT,
        KLINE_HEADER + ROW + NEXT,
        NEXT + ROW + NEXT,
        (ROW + NEXT)
        .replace(f"{START}", f"{START}000")
        .replace(f"{START + 60_000}", f"{START + 60_000}000"),
    ],
)
def test_all_layouts_give_the_same_klines(tmp_path: Path, text: str) -> None:
    """Header or not, ms or us, out of order, repeated."""
    rows = read(tmp_path, text).at(4, 1)
    assert [START, START + 60_000] == rows[:, 0].tolist()
    assert [1341780, 1341785] == rows[:, 5].tolist()
    assert [11540, 11540, 11510, 11520] == rows[0, 1:5].tolist()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ROW + NEXT.replace(f"{START + 60_000}", f"{START + 60_001}"), "line 2: .* a bar of 1m"),
        (ROW.replace(f"{START}", "1786147200000", 1), "line 1: expected a time of the day or"),
        (ROW + NEXT.replace("1.1510", "1.1530"), "line 2: expected 0 < low <= open, close <= high"),
        (
            ROW.replace(",49790,", ",134178.1,"),
            "line 1: expected takers to have bought no more than",
        ),
        (
            ROW + NEXT.replace(f"{START + 119_999}", f"{START + 359_999}"),
            "line 2: expected a bar of 1m",
        ),
        (
            ROW + NEXT.replace("134178.50", "0").replace("154637.9490", "0"),
            "line 2: expected volume where the price moves",
        ),
        (ROW + ROW.replace("270", "271"), "line 2: expected another time or the same kline"),
        (ROW.replace(",0\n", "\n"), "line 1: expected 12 columns, was 11"),
        ("agg_trade_id\n" + ROW, "line 1: expected open_time or a digit"),
    ],
)
def test_a_wrong_file_is_refused_by_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    """One clear error."""
    with pytest.raises(ArchiveError, match=f"{NAME} {message}"):
        read(tmp_path, text)


def test_quote_volumes_have_their_digits(tmp_path: Path) -> None:
    """Should the file's prices and quantities show fewer, the symbol gets more."""
    klines = read(tmp_path, ROW.replace("154637.9490", "154637.94901"))
    assert (3, 2) == klines.scales(0, 0)
    assert (4, 1) == klines.scales(4, 0)
    assert 15463794901 == klines.at(4, 1)[0, 6]


def test_what_no_scale_can_hold_is_refused(tmp_path: Path) -> None:
    """64 bits have 18 decimals, and so many digits."""
    klines = read(tmp_path, ROW.replace("154637.9490", "1.000000000000000001"))
    with pytest.raises(ScaleError, match="expected quote volumes of at most 18"):
        klines.scales(6, 13)
    with pytest.raises(ScaleError, match="expected numbers of 64 bits"):
        klines.at(9, 14)
