"""How fast the stores are, and how they grow: SQLite and PostgreSQL, with so many rows in them.

The bars that 500 symbols close in eight intervals, half an hour after the other, until there are
``--rows``.  At each step: a batch of 4,000 closed bars, one of each series, with its commit; one of
500, as a minute brings; the last 500 minutes of one symbol; the size.  Then 24 hours of 500 symbols'
minutes, written in batches of 4,000 and read back, compared in every value.

The baseline of the same run, on the same disk: SQLite's ``executemany`` of the same 4,000 rows into a
table without a key, which is the least that a database can do.
Run by ``nox -s bench -- stores``, or as a program with ``--rows 5000000,20000000`` for other steps.
PostgreSQL is that of ``tests/postgres.py``, with the durability of its defaults.
"""

from __future__ import annotations

import argparse
import sqlite3
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np


sys.path.insert(0, str(Path(__file__).parents[2]))

from klinetrio.domain.interval import DEFAULT_INTERVALS, MINUTE, parse_intervals
from klinetrio.domain.kline import FIELD_COUNT, Flag
from klinetrio.domain.symbol import Symbol
from klinetrio.engine.registry import SymbolPeriodRegistry
from klinetrio.storage.protocol import Batch
from klinetrio.storage.stores import open_store
from tests.postgres import new_database, open_server


if TYPE_CHECKING:
    from collections.abc import Callable

    from klinetrio.storage.protocol import Int64Array, KlineStore

SYMBOLS = 500
START = 1_735_689_600_000  # 2025-01-01
FILL_MINUTES = 30
BATCH = 4_000
BUDGET_UPSERT_MS, BUDGET_READ_MS = 50.0, 5.0
DAY_MINUTES = 1_440

RNG = np.random.default_rng(7)


def registry(symbols: int, intervals: tuple[str, ...]) -> SymbolPeriodRegistry:
    """Return so many symbols with these intervals."""
    made = [Symbol(f"S{n:03}USDT", f"S{n:03}", "USDT", n + 1, 2, 3) for n in range(symbols)]
    return SymbolPeriodRegistry.ranked(made, parse_intervals(intervals))


def bars_of(known: SymbolPeriodRegistry, rows: Int64Array, numbers: Int64Array | int) -> Batch:
    """Return the bars of these numbers of some series, with values of usual sizes."""
    bars = np.zeros((len(rows), FIELD_COUNT), np.int64)
    intervals = known.intervals
    period = rows % len(intervals)
    first = np.array([each.next_open(START) for each in intervals])
    bars[:, 0] = first[period] + numbers * lengths_of(known)[period]
    bars[:, 1:5] = RNG.integers(5_000_000, 9_000_000, (len(rows), 4))
    bars[:, 5:7] = RNG.integers(1_000, 10**9, (len(rows), 2)) * (1, 10_000)
    bars[:, 7] = RNG.integers(1, 20_000, len(rows))
    bars[:, 8:10] = bars[:, 5:7] // 2
    bars[:, 10] = bars[:, 0] // 3
    bars[:, 11] = bars[:, 10] + 19_999
    bars[:, 12] = Flag.FINAL | Flag.COMPLETE
    return Batch(rows, bars)


def lengths_of(known: SymbolPeriodRegistry) -> Int64Array:
    """Return the intervals' lengths in ms."""
    return np.array([each.length for each in known.intervals])


def milliseconds(fn: Callable[[], object]) -> float:
    """Return how long a call takes."""
    began = time.perf_counter()
    fn()
    return (time.perf_counter() - began) * 1_000


def spread(times: list[float]) -> str:
    """Return the median and the highest but one of twenty."""
    ordered = sorted(times)
    return f"{statistics.median(ordered):8.2f} {ordered[len(ordered) * 19 // 20 - 1]:8.2f}"


def baseline(folder: Path, batch: Batch) -> list[float]:
    """Return how long the plainest insert of a batch takes."""
    columns = ", ".join(f"c{number}" for number in range(FIELD_COUNT + 1))
    connection = sqlite3.connect(folder / "plain.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"CREATE TABLE plain ({columns})")
    rows = np.column_stack((batch.series, batch.bars)).tolist()
    marks = ", ".join("?" * (FIELD_COUNT + 1))

    def insert() -> None:
        connection.execute("BEGIN")
        connection.executemany(f"INSERT INTO plain VALUES ({marks})", rows)  # noqa: S608
        connection.execute("COMMIT")

    times = [milliseconds(insert) for _ in range(20)]
    connection.close()
    return times


class Grown:
    """A store that grows."""

    def __init__(self, store: KlineStore) -> None:
        self.store = store
        self.known = registry(SYMBOLS, DEFAULT_INTERVALS)
        self.all = np.arange(self.known.capacity)
        self.minutes = self.all[:: len(self.known.intervals)]
        self.time = 0
        # Of each series, the number of its next bar.
        self.next = np.zeros(len(self.all), np.int64)
        self.count = 0
        store.open()
        store.attach(self.known)

    def grow(self, rows: int) -> float:
        """Write until so many rows are stored; return rows per second."""
        spent, before = 0.0, self.count
        until = lengths_of(self.known)[self.all % len(self.known.intervals)]
        while self.count < rows:
            self.time += FILL_MINUTES * MINUTE
            closed = np.maximum(self.time // until - self.next, 0)
            series = np.repeat(self.all, closed)
            within = np.arange(len(series)) - np.repeat(np.cumsum(closed) - closed, closed)
            batch = bars_of(self.known, series, self.next[series] + within)
            self.next += closed
            self.count += len(series)
            spent += milliseconds(lambda batch=batch: self.store.write(batch, NOTHING))  # type: ignore[misc]
        return (self.count - before) / spent * 1_000

    def upserts(self, rows: Int64Array) -> list[float]:
        """Return how long batches of one new bar of some series take."""
        times = []
        for _ in range(20):
            batch = bars_of(self.known, rows, self.next[rows])
            self.next[rows] += 1
            self.count += len(rows)
            times.append(milliseconds(lambda batch=batch: self.store.write(batch, NOTHING)))  # type: ignore[misc]
        return times

    def reads(self) -> list[float]:
        """Return how long the last 500 minutes of some symbols take."""
        chosen = RNG.choice(self.minutes, 200, replace=False).tolist()
        return [
            milliseconds(lambda row=row: self.store.read(row, start=None, end=None, limit=500))  # type: ignore[misc]
            for row in chosen
        ]


NOTHING = Batch(np.zeros(0, np.int64), np.zeros((0, FIELD_COUNT), np.int64))


def measure(name: str, store: KlineStore, steps: list[int], plain_ms: float) -> None:
    """Grow a store step by step and print what it does at each."""
    grown = Grown(store)
    for step in steps:
        rate = grown.grow(step)
        closed = grown.upserts(grown.all)
        minute = grown.upserts(grown.minutes)
        reads = grown.reads()
        median = statistics.median(closed)
        print(
            f"{name:<12}{step:>11,}  fill {rate:>9,.0f}/s  4000 upserts {spread(closed)} ms"
            f" ({median / plain_ms:4.1f} x plain)  500 upserts {spread(minute)} ms"
            f"  last 500 {spread(reads)} ms  {store.size() / grown.count:5.0f} B/row",
            flush=True,
        )
        verdicts = [("last 500", statistics.median(reads), BUDGET_READ_MS)]
        if name == "postgres":
            verdicts.append(("4,000 upserts", median, BUDGET_UPSERT_MS))
        for what, seen, budget in verdicts:
            kept = "kept" if seen <= budget else "NOT KEPT"
            print(f"{'':<12}{what}: {seen:.2f} ms, budget {budget:.0f} ms: {kept}", flush=True)
    store.close()


def measure_day(name: str, store: KlineStore) -> None:
    """Write and read back a day of all symbols' minutes."""
    known = registry(SYMBOLS, ("1m",))
    store.open()
    store.attach(known)
    rows = np.arange(known.capacity)
    minutes = [bars_of(known, rows, number) for number in range(DAY_MINUTES)]
    bars = np.concatenate([each.bars for each in minutes])
    series = np.tile(rows, DAY_MINUTES)
    began = time.perf_counter()
    for first in range(0, len(series), BATCH):
        part = slice(first, first + BATCH)
        store.write(Batch(series[part], bars[part]), NOTHING)
    wrote = time.perf_counter() - began
    began = time.perf_counter()
    back = [store.read(int(row), start=START, end=None, limit=DAY_MINUTES + 1) for row in rows]
    read = time.perf_counter() - began
    cube = bars.reshape(DAY_MINUTES, len(rows), FIELD_COUNT)
    differ = sum(not np.array_equal(each, cube[:, row]) for row, each in enumerate(back))
    span = (cube[-1, 0, 0] - cube[0, 0, 0]) // MINUTE + 1
    print(
        f"{name:<12}{len(series):,} minutes ({span} of {len(rows)} symbols): written in {wrote:.1f} s"
        f" ({len(series) / wrote:,.0f}/s), read in {read:.1f} s ({len(series) / read:,.0f}/s),"
        f" {differ} series differ",
        flush=True,
    )
    store.close()


def main() -> None:
    """Measure both stores."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", default="1000000,5000000")
    parser.add_argument("--only", choices=["sqlite", "postgres"])
    options = parser.parse_args()
    steps = [int(each) for each in options.rows.split(",")]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        known = registry(SYMBOLS, DEFAULT_INTERVALS)
        plain = baseline(folder, bars_of(known, np.arange(known.capacity), 0))
        print(f"plain       4000 inserts without a key {spread(plain)} ms (median, 95 %)")
        made: dict[str, tuple[KlineStore, KlineStore]] = {}
        if options.only != "postgres":
            names = (folder / "grown.db", folder / "day.db")
            first, second = (open_store(f"sqlite:///{name}") for name in names)
            made["sqlite"] = first, second
        if options.only != "sqlite":
            server = stack.enter_context(open_server(durable=True))
            urls = [stack.enter_context(new_database(server.url)) for _ in range(2)]
            first, second = (open_store(url) for url in urls)
            made["postgres"] = first, second
        for name, (grown, day) in made.items():
            measure(name, grown, steps, statistics.median(plain))
            measure_day(name, day)


if __name__ == "__main__":
    main()
