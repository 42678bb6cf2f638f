"""Names of archive files say whose they are, what is inside, and of which time."""

from __future__ import annotations

import pytest

from klinetrio.archive.names import ArchiveName, parse_name, split_assets
from klinetrio.domain.interval import DAY, INTERVALS


AUGUST, SEPTEMBER = 1_785_542_400_000, 1_788_220_800_000


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("BTCUSDT-aggTrades-2026-08.zip", ("BTCUSDT", None, AUGUST, SEPTEMBER)),
        ("BTCUSDT-aggTrades-2026-08-31.csv", ("BTCUSDT", None, SEPTEMBER - DAY, SEPTEMBER)),
        ("币安人生USDT-1m-2026-08-01.zip", ("币安人生USDT", "1m", AUGUST, AUGUST + DAY)),
        ("BTCUSDT_261225-1mo-2026-08.zip", ("BTCUSDT_261225", "1M", AUGUST, SEPTEMBER)),
        ("A-B-12h-2026-08.csv", ("A-B", "12h", AUGUST, SEPTEMBER)),
    ],
)
def test_names_are_read(name: str, expected: tuple[str, str | None, int, int]) -> None:
    """Of any symbol, non-ASCII ones and quarterlies too."""
    symbol, interval, start, end = expected
    known = None if interval is None else INTERVALS[interval]
    assert ArchiveName(symbol, known, start, end) == parse_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "BTCUSDT-trades-2026-08.zip",
        "BTCUSDT-aggTrades-2026-13.zip",
        "BTCUSDT-aggTrades-2026-02-30.zip",
        "BTCUSDT-aggTrades-2026-08.zip.CHECKSUM",
        "BTCUSDT-7m-2026-08.zip",
        "BTCUSDT-1M-2026-08.zip",
        "-1m-2026-08.zip",
        "BTCUSDT-1m-2026-08-01T00.csv",
        "BTCUSDT-1m-٢٠٢٦-08.csv",
    ],
)
def test_other_names_say_nothing(name: str) -> None:
    """None of them is taken for something that it may not be."""
    assert parse_name(name) is None


@pytest.mark.parametrize(
    ("symbol", "assets"),
    [
        ("BTCUSDT", ("BTC", "USDT")),
        ("BTCFDUSD", ("BTC", "FDUSD")),
        ("ETHBTC", ("ETH", "BTC")),
        ("BTCUSDT_261225", ("BTC", "USDT")),
        ("BTCUSD_PERP", ("BTC", "USD")),
        ("币安人生USDT", ("币安人生", "USDT")),
        ("USDT", ("USDT", "")),
        ("WHATEVER", ("WHATEVER", "")),
    ],
)
def test_assets_are_told_by_the_usual_quotes(symbol: str, assets: tuple[str, str]) -> None:
    """What ends with none of them is all base."""
    assert assets == split_assets(symbol)
