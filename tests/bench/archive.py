"""How fast archive files are imported: 5 million trades of a month of daily CSVs, on one core.

The baseline is the csv module and Python's integers on a part of the same file, in the same run.
A shared machine takes the core away for a while, again and again, so a total says as much about the
neighbours as about the program: after each file a spin, which is always the same work, shows the
pace of the machine at that moment, and the median file is printed beside the total.
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
from klinetrio.tools.importer import ArchiveFile, ImportCounts, Importer


if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

INTERVALS = parse_intervals(DEFAULT_INTERVALS)
DAYS = 31
A_DAY = 161_300  # 5 million in all
SAMPLE = 150_000
FEW = 20_000
PRICE, QUANTITY = 1, 3
NAME = "BTCUSDT-aggTrades-2026-08-{:02}.csv"
SPIN = 1_700_000  # as long as a day takes, about


def write_file(directory: Path, day: int, count: int) -> ArchiveFile:
    """Write random trades, two a second, as the exchange does: without zeros at the end."""
    rng = np.random.default_rng(day)
    path = directory / NAME.format(day)
    name = parse_name(path.name)
    if name is None:
        raise AssertionError("expected the name of an archive file")
    oldest = 3_477_868_380 + (day - 1) * count
    columns = (
        range(oldest, oldest + count),
        (831_000 + rng.integers(-5, 6, count).cumsum()).tolist(),
        rng.integers(1, 9_999, count).tolist(),
        rng.integers(1, 4, count).tolist(),
        (name.start + np.arange(count, dtype=np.int64) * 500).tolist(),
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
    return ArchiveFile(path, name)


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


def import_into_new_database(
    files: Sequence[ArchiveFile], done: Callable[[ArchiveFile], None] = lambda _file: None
) -> ImportCounts:
    """Do all that the command does."""
    store = SqliteStore(files[0].path.parent / f"{time.monotonic_ns()}.db")
    store.open()
    importer = Importer(store, INTERVALS, done)
    importer.take(files)
    store.close()
    return importer.counts


def measure(file: ArchiveFile, count: int, rounds: int, baseline: float) -> None:
    """Measure the ways through a file, and print them."""
    size = file.path.stat().st_size / 1e6
    print(f"{count:,} aggTrades, {size:.0f} MB of CSV, best of {rounds}")
    path, name = file.path, file.name
    for what, fn in (
        ("read and parse", lambda: sum(len(each.columns.time) for each in read_pieces(path, name))),
        (
            "... and fold into eight intervals",
            lambda: take_file(Series(INTERVALS, 0, 0), path, name),
        ),
        ("... and the database: all of it", lambda: import_into_new_database([file])),
    ):
        wall, core = best(fn, rounds)
        rate = count / wall
        print(
            f"  {what:34}{rate:12,.0f} rows/s, {count / core:12,.0f} per s of a core,"
            f" {rate / baseline:5.1f} x baseline"
        )


def spin() -> float:
    """Return how long a piece of work takes that is always the same."""
    started = time.perf_counter()
    for each in range(SPIN):
        divmod(each, 7)
    return time.perf_counter() - started


def measure_month(files: Sequence[ArchiveFile], baseline: float) -> None:
    """Import a month, and print its rate beside the machine's pace."""
    seconds, spins = [], []
    started = time.perf_counter()

    def done(_file: ArchiveFile) -> None:
        nonlocal started
        seconds.append(time.perf_counter() - started)
        spins.append(spin())
        started = time.perf_counter()

    counts = import_into_new_database(files, done)
    seconds[-1] += time.perf_counter() - started
    print(f"{counts.rows:,} aggTrades of {counts.files} days, {counts.bars:,} bars written, once")
    per_file = A_DAY / np.percentile(seconds, [0, 50, 90])
    for what, rate in (
        ("total", counts.rows / sum(seconds)),
        ("fastest day", per_file[0]),
        ("median day", per_file[1]),
        ("day at the 90th percentile", per_file[2]),
    ):
        print(f"  {what:34}{rate:12,.0f} rows/s, {rate / baseline:5.1f} x baseline")
    slowed = np.array(spins) / min(spins)
    print(
        f"  the machine, by {len(spins)} spins of {min(spins) * 1000:.0f} ms at best: median"
        f" {np.median(slowed):.1f}, mean {slowed.mean():.1f}, worst {slowed.max():.1f} times as long"
    )


def compare(file: ArchiveFile) -> int:
    """Compare bars with the live path's, print how many differ, and return it."""
    ours, theirs = imported_bars(file.path, file.name), live_bars(plain_rows(file.path, FEW))
    wrong = [key for key, values in theirs.items() if ours.get(key) != values]
    # What opened before the file is not covered by it.
    wrong = [(interval, opened) for interval, opened in wrong if opened >= file.name.start]
    print(
        f"{len(theirs):,} bars of the first {FEW:,} trades differ from the live path's: {len(wrong)}"
    )
    return len(wrong)


def main() -> None:
    """Measure, check and print."""
    with tempfile.TemporaryDirectory() as directory:
        file = write_file(Path(directory), 1, SAMPLE)
        wall, _ = best(lambda: sum(1 for _ in plain_rows(file.path, FEW)), 60)
        print(f"baseline, csv module and Python   {FEW / wall:14,.0f} rows/s")
        # A short run often finds the shared machine at rest, a long one does not.
        measure(file, SAMPLE, 60, FEW / wall)
        wrong = compare(file)
        files = [write_file(Path(directory), day, A_DAY) for day in range(1, DAYS + 1)]
        measure_month(files, FEW / wall)
    print("budget: all of it at 2,000,000 rows/s of an undisturbed core")
    if wrong:
        sys.exit(1)


if __name__ == "__main__":
    main()
