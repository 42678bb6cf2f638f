"""Archive files for tests, and trades as they are written there."""

from __future__ import annotations

import hashlib
import zipfile
from typing import TYPE_CHECKING

from klinetrio.archive.names import ArchiveName, parse_name
from klinetrio.domain.decimals import format_scaled
from klinetrio.domain.interval import DAY


if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from klinetrio.domain.trade import AggTrade

PRICE, QUANTITY = 2, 3
"""Scales of the trades in these files."""

TRADE_HEADER = (
    "agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker\n"
)
KLINE_HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,"
    "taker_buy_volume,taker_buy_quote_volume,ignore\n"
)

DAY_ONE = 1_786_147_200_000
"""2026-08-08 00:00 UTC, a Saturday."""

NAMES = [f"BTCUSDT-aggTrades-2026-08-{day:02}.csv" for day in range(8, 18)]
"""Of ten days from there on."""


def name_of(path: Path) -> ArchiveName:
    """Return what the file's name says."""
    name = parse_name(path.name)
    assert name is not None
    return name


def trade_line(trade: AggTrade) -> str:
    """Return a trade as a line of an archive file."""
    cells = [
        trade.agg_id,
        format_scaled(trade.price, PRICE),
        format_scaled(trade.quantity, QUANTITY),
        trade.first_id,
        trade.last_id,
        trade.time,
        str(trade.buyer_is_maker).lower(),
    ]
    return ",".join(map(str, cells)) + "\n"


def write_days(directory: Path, trades: Iterable[AggTrade], header: str = TRADE_HEADER) -> None:
    """Write trades into one file per day from ``DAY_ONE`` on; a day without any has no file."""
    days: dict[int, list[str]] = {}
    for trade in trades:
        days.setdefault((trade.time - DAY_ONE) // DAY, []).append(trade_line(trade))
    for day, lines in days.items():
        (directory / NAMES[day]).write_text(header + "".join(lines))


def write_zip(path: Path, text: str) -> Path:
    """Write a text as the exchange packs it."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(path.with_suffix(".csv").name, text)
    return path


def write_checksum(path: Path, digest: str | None = None) -> None:
    """Write the checksum beside a file; the right one unless another is given."""
    digest = digest or hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_name(f"{path.name}.CHECKSUM").write_text(f"{digest}  {path.name}\n")
