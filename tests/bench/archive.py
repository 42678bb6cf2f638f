"""How fast archive files are imported: 5 million trades from CSV, on one core.

The baseline is the csv module and Python's integers on a part of the same file, in the same run.
The bars are compared with those of a book, fed trade by trade, on the first 20,000 trades.
Run by ``nox -s bench -- archive``.
"""

from __future__ import annotations

import csv
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np


sys.path.insert(0, str(Path(__file__).parents[2]))

from klinetrio.archive.names import ArchiveName, parse_name
from klinetrio.archive.series import Series, take_file
from klinetrio.archive.trades import read_pieces
from klinetrio.domain.decimals import parse_scaled
from klinetrio.domain.interval import DEFAULT_INTERVALS, parse_intervals
from klinetrio.domain.kline import OPEN_TIME
from klinetrio.domain.symbol import Symbol
from klinetrio.domain.trade import AggTrade
from klinetrio.engine.book import SymbolBook
from klinetrio.engine.outbox import Outbox
from klinetrio.engine.store import DoubleBufferedKlineStore
from klinetrio.storage.sqlite import SqliteStore
from klinetrio.tools.importer import ArchiveFile, Importer


if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

INTERVALS = parse_intervals(DEFAULT_INTERVALS)
MANY = 5_000_000
SAMPLE = 150_000
FEW = 20_000
PRICE, QUANTITY = 1, 3
START = 1_785_542_400_000  # 2026-08-01 00:00 UTC
NAME = "BTCUSDT-aggTrades-2026-08.csv"


def write_file(path: Path, count: int) -> None:
    """Write random trades, two a second, as the exchange does: without zeros at the end."""
    rng = np.random.default_rng(1)
    columns = (
        range(3_477_868_380, 3_477_868_380 + count),
        (831_000 + rng.integers(-5, 6, count).cumsum()).tolist(),
        rng.integers(1, 9_999, count).tolist(),
        rng.integers(1, 4, count).tolist(),
        (START + np.arange(count, dtype=np.int64) * 500).tolist(),
        (rng.random(count) < 0.5).tolist(),
    )
    fill = 8_153_634_282
    with path.open("w") as file:
        file.write("agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,")
        file.write("is_buyer_maker\n")
        for agg_id, price, quantity, fills, when, maker in zip(*columns, strict=True):
            whole = f"{price // 10}.{price % 10}".removesuffix(".0")
            size = f"{quantity // 1000}.{quantity % 1000:03}".rstrip("0").removesuffix(".")
            first, fill = fill, fill + fills
            file.write(f"{agg_id},{whole},{size},{first},{fill - 1},{when},{maker!s}\n".lower())


def plain_rows(path: Path, count: int) -> Iterator[AggTrade]:
    """Read trades in plain Python."""
    with path.open() as file:
        for row in islice(csv.reader(file), 1, count + 1):
            price, quantity = parse_scaled(row[1], PRICE), parse_scaled(row[2], QUANTITY)
            ids = int(row[3]), int(row[4])
            yield AggTrade(
                "BTCUSDT", int(row[0]), price, quantity, *ids, int(row[5]), row[6] == "true"
            )


def live_bars(trades: Iterator[AggTrade]) -> dict[tuple[str, int], tuple[int, ...]]:
    """Return the closed bars of a book."""
    store, outbox = DoubleBufferedKlineStore.allocate(len(INTERVALS)), Outbox()
    symbol = Symbol("BTCUSDT", "BTC", "USDT", 0, PRICE, QUANTITY)
    book = SymbolBook(symbol, INTERVALS, store=store, outbox=outbox, first_row=0)
    book.set_feed(up=True)
    for trade in trades:
        book.apply(trade)
    book.flush()
    announced, proved = outbox.take()
    return {
        (INTERVALS[bar.row].name, bar.values[OPEN_TIME]): bar.values
        for bar in [*announced, *proved]
    }


def imported_bars(path: Path, name: ArchiveName) -> dict[tuple[str, int], tuple[int, ...]]:
    """Return the bars of a file."""
    bars = take_file(Series(INTERVALS, 0, 0), path, name).bars
    return {
        (interval, row[OPEN_TIME]): tuple(row)
        for interval, rows in bars.items()
        for row in rows.tolist()
    }


def best(fn: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Return the shortest time of some rounds, and the least processor time."""
    walls, cores = [], []
    for _ in range(rounds):
        wall, core = time.perf_counter(), time.process_time()
        fn()
        walls.append(time.perf_counter() - wall)
        cores.append(time.process_time() - core)
    return min(walls), min(cores)


def import_into_new_database(file: ArchiveFile) -> None:
    """Do all that the command does."""
    store = SqliteStore(file.path.parent / f"{time.monotonic_ns()}.db")
    store.open()
    Importer(store, INTERVALS).take([file])
    store.close()


def measure(path: Path, name: ArchiveName, count: int, rounds: int, baseline: float) -> None:
    """Measure the ways through a file, and print them."""
    print(f"{count:,} aggTrades, {path.stat().st_size / 1e6:.0f} MB of CSV, best of {rounds}")
    for what, fn in (
        ("read and parse", lambda: sum(len(each.columns.time) for each in read_pieces(path, name))),
        (
            "... and fold into eight intervals",
            lambda: take_file(Series(INTERVALS, 0, 0), path, name),
        ),
        (
            "... and the database: all of it",
            lambda: import_into_new_database(ArchiveFile(path, name)),
        ),
    ):
        wall, core = best(fn, rounds)
        rate = count / wall
        print(
            f"  {what:34}{rate:12,.0f} rows/s, {count / core:12,.0f} per s of a core,"
            f" {rate / baseline:5.1f} x baseline"
        )


def compare(path: Path, name: ArchiveName) -> int:
    """Compare bars with the live path's, print how many differ, and return it."""
    ours, theirs = imported_bars(path, name), live_bars(plain_rows(path, FEW))
    wrong = [key for key, values in theirs.items() if ours.get(key) != values]
    # What opened before the file is not covered by it.
    wrong = [(interval, opened) for interval, opened in wrong if opened >= name.start]
    print(
        f"{len(theirs):,} bars of the first {FEW:,} trades differ from the live path's: {len(wrong)}"
    )
    return len(wrong)


def main() -> None:
    """Measure, check and print."""
    name = parse_name(NAME)
    if name is None:
        raise AssertionError("expected the name of an archive file")
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / NAME
        write_file(path, SAMPLE)
        wall, _ = best(lambda: sum(1 for _ in plain_rows(path, FEW)), 60)
        print(f"baseline, csv module and Python   {FEW / wall:14,.0f} rows/s")
        # A short run often finds the shared machine at rest, a long one does not.
        measure(path, name, SAMPLE, 60, FEW / wall)
        wrong = compare(path, name)
        write_file(path, MANY)
        measure(path, name, MANY, 2, FEW / wall)
    print("budget: all of it at 2,000,000 rows/s of an undisturbed core")
    if wrong:
        sys.exit(1)


if __name__ == "__main__":
    main()
