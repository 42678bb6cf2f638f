"""Archive files in a database: whole or not at all, twice as once, beside a daemon."""

from __future__ import annotations

import gzip
import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from klinetrio.archive import files as blocks
from klinetrio.archive.names import parse_name
from klinetrio.domain.interval import DAY, DEFAULT_INTERVALS, HOUR, MINUTE, parse_intervals
from klinetrio.domain.kline import CLOSE, FLAGS, OPEN_TIME, REVISION_SHIFT, TRADE_COUNT, Flag
from klinetrio.domain.symbol import Symbol
from klinetrio.domain.trade import AggTrade
from klinetrio.engine.registry import SymbolPeriodRegistry
from klinetrio.storage.claim import claim
from klinetrio.storage.protocol import Batch
from klinetrio.storage.sqlite import SqliteStore
from klinetrio.tools.importer import ArchiveFile, ImportCounts, Importer
from tests.archive.texts import (
    DAY_ONE,
    KLINE_HEADER,
    NAMES,
    TRADE_HEADER,
    trade_line,
    write_checksum,
    write_days,
    write_zip,
)


if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DATA = Path(__file__).parents[3] / "shared" / "data"
INTERVALS = parse_intervals(DEFAULT_INTERVALS)
COMPLETE = Flag.FINAL | Flag.COMPLETE


def random_trades(days: int, seed: int = 1, step_ms: int = 60_000) -> list[AggTrade]:
    """Return trades of some whole days."""
    rng = random.Random(seed)  # noqa: S311
    trades: list[AggTrade] = []
    time, fill = DAY_ONE, 1
    while True:
        time += rng.randrange(step_ms * 2)
        if time >= DAY_ONE + days * DAY:
            return trades
        fills = rng.randint(1, 3)
        price, quantity = rng.randint(1, 10**7), rng.choice([0, 1, rng.randint(1, 10**6)])
        agg_id, last = 1000 + len(trades), fill + fills - 1
        trades.append(
            AggTrade("BTCUSDT", agg_id, price, quantity, fill, last, time, rng.random() < 0.5)
        )
        fill += fills


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    """Return an empty database."""
    store = SqliteStore(tmp_path / "db" / "klines.db")
    store.open()
    yield store
    store.close()


def import_from(store: SqliteStore, *paths: Path) -> ImportCounts:
    """Import files, or those of a directory."""
    files = [each for path in paths for each in (path.iterdir() if path.is_dir() else [path])]
    named = [ArchiveFile(path, name) for path in files if (name := parse_name(path.name))]
    importer = Importer(store, INTERVALS)
    importer.take(named)
    return importer.counts


def dump(store: SqliteStore) -> list[tuple[object, ...]]:
    """Return everything in the database, in order."""
    with closing(sqlite3.connect(store.path)) as connection:
        tables = [
            row[0]
            for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        return [
            (table, *row)
            for table in sorted(tables)
            for row in sorted(connection.execute(f"SELECT * FROM {table}").fetchall())  # noqa: S608
        ]


def bars_of(store: SqliteStore, interval: str, symbol: str = "BTCUSDT") -> list[list[int]]:
    """Return the stored bars of a series."""
    known = store.known_symbols()[symbol]
    store.enlist(SymbolPeriodRegistry.ranked([known], INTERVALS))
    series = [each.name for each in INTERVALS].index(interval)
    rows: list[list[int]] = store.read(series, start=0, end=None, limit=10**6).tolist()
    return rows


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Return a directory for archive files."""
    directory = tmp_path / "files"
    directory.mkdir()
    return directory


def test_days_become_one_series(store: SqliteStore, files: Path) -> None:
    """Every bar inside is proved, bars at the edges are there if covered, the week is not."""
    trades = random_trades(3)
    write_days(files, trades)
    counts = import_from(store, files)

    assert (3, len(trades), {}) == (counts.files, counts.rows, counts.refused)
    days = bars_of(store, "1d")
    assert [DAY_ONE, DAY_ONE + DAY, DAY_ONE + 2 * DAY] == [row[OPEN_TIME] for row in days]
    assert [Flag.FINAL, COMPLETE, Flag.FINAL] == [row[FLAGS] for row in days]
    hours = bars_of(store, "1h")
    assert 72 == len(hours)
    assert [COMPLETE] * 70 == [row[FLAGS] for row in hours[1:-1]]
    assert [] == bars_of(store, "1w")
    assert sum(row[TRADE_COUNT] for row in days) == trades[-1].last_id
    symbol = store.known_symbols()["BTCUSDT"]
    assert Symbol("BTCUSDT", "BTC", "USDT", DAY_ONE, 2, 3) == symbol


def test_twice_is_once(store: SqliteStore, files: Path) -> None:
    """Nothing changes, not even a revision (I2)."""
    write_days(files, random_trades(3))
    first = import_from(store, files)
    before = dump(store)
    second = import_from(store, files)

    assert before == dump(store)
    assert first.bars == second.bars + second.proved
    assert 0 == first.proved < second.proved
    assert {0} == {row[FLAGS] >> REVISION_SHIFT for row in bars_of(store, "1m")}


def test_a_missing_day_is_a_hole(store: SqliteStore, files: Path) -> None:
    """Bars of that day are not there, and those beside it are not proved; the file mends it."""
    write_days(files, random_trades(3))
    text = (files / NAMES[1]).read_text()
    (files / NAMES[1]).unlink()
    import_from(store, files)

    opens = [row[OPEN_TIME] for row in bars_of(store, "1h")]
    assert [DAY_ONE + n * HOUR for n in (*range(24), *range(48, 72))] == opens
    flags = [row[FLAGS] for row in bars_of(store, "1h")]
    assert [0, 23, 24, 47] == [n for n, bits in enumerate(flags) if bits != COMPLETE]

    (files / NAMES[1]).write_text(text)
    import_from(store, files)
    other = SqliteStore(store.path.with_name("other.db"))
    other.open()
    import_from(other, files)
    assert dump(other) == dump(store)
    other.close()


def test_a_hole_in_a_file_leaves_its_bars_unproved(store: SqliteStore, files: Path) -> None:
    """They are there, with the trades that are."""
    trades = [trade for trade in random_trades(1) if trade.agg_id != 1500]
    write_days(files, trades)
    import_from(store, files)
    before, after = (next(t.time for t in trades if t.agg_id == n) for n in (1499, 1501))
    touched = [
        row[OPEN_TIME] for row in bars_of(store, "1m")[1:-1] if not row[FLAGS] & Flag.COMPLETE
    ]
    assert list(range(before // MINUTE * MINUTE, after + 1, MINUTE)) == touched


@pytest.mark.parametrize("damage", ["checksum", "garbage", "zip", "scale"])
def test_a_refused_file_leaves_no_trace_and_the_others_go_on(
    store: SqliteStore, files: Path, damage: str
) -> None:
    """As if it were not there (I1)."""
    write_days(files, random_trades(3))
    bad = files / NAMES[1]
    text = bad.read_text()
    bad.unlink()
    import_from(store, files)
    expected = dump(store)

    other = SqliteStore(store.path.with_name("other.db"))
    other.open()
    if damage == "zip":
        bad = write_zip(bad.with_suffix(".zip"), text)
        bad.write_bytes(bad.read_bytes()[:-100])
    else:
        row = {"garbage": "oops\n", "scale": f"9999,{10**17},{10**17},1,1,{DAY_ONE + DAY},true\n"}
        bad.write_text(text + row.get(damage, ""))
    if damage == "checksum":
        write_checksum(bad, "0" * 64)
    counts = import_from(other, files)

    assert expected == dump(other)
    assert [bad] == list(counts.refused)
    assert bad.name in counts.refused[bad]
    assert 2 == counts.files
    other.close()


def test_trades_of_a_minute_that_spans_files_are_one_bar(store: SqliteStore, files: Path) -> None:
    """Files may be cut anywhere, also where their names do not say so."""
    trades = random_trades(1, step_ms=5_000)
    half = len(trades) // 2
    write_days(files, trades[:half])
    late = [trade_line(trade) for trade in trades[half:]]
    write_zip((files / NAMES[0]).with_suffix(".zip"), TRADE_HEADER + "".join(late))
    import_from(store, files)
    assert [COMPLETE] * 1438 == [row[FLAGS] for row in bars_of(store, "1m")[1:-1]]


def test_klines_mend_what_trades_do_not_prove(store: SqliteStore, files: Path) -> None:
    """And leave alone what they do."""
    write_days(files, random_trades(1))
    import_from(store, files)
    before = bars_of(store, "1h")
    rows = [
        f"{DAY_ONE + n * HOUR},5,6,4,5,1,{DAY_ONE + (n + 1) * HOUR - 1},5,1,0,0,0\n"
        for n in range(24)
    ]
    (files / "BTCUSDT-1h-2026-08-08.csv").write_text(KLINE_HEADER + "".join(rows))
    counts = import_from(store, files)

    after = bars_of(store, "1h")
    assert before[1:-1] == after[1:-1]
    past = COMPLETE | Flag.BACKFILLED | 1 << REVISION_SHIFT
    assert [past, past] == [after[0][FLAGS], after[-1][FLAGS]]
    assert 500 == after[0][CLOSE]
    assert past == bars_of(store, "1d")[0][FLAGS]
    assert {} == counts.refused


def test_more_decimals_rescale_what_is_stored(store: SqliteStore, files: Path) -> None:
    """If no daemon runs; the bars are the same numbers."""
    trades = random_trades(2)
    write_days(files, [trade._replace(price=trade.price * 100) for trade in trades[:100]])
    import_from(store, files)
    assert 0 == store.known_symbols()["BTCUSDT"].price_scale
    coarse = bars_of(store, "1m")

    write_days(files, [*trades[:100], *(trade._replace(time=trade.time + DAY) for trade in trades)])
    counts = import_from(store, files / NAMES[1])
    assert {} == counts.refused
    assert 2 == store.known_symbols()["BTCUSDT"].price_scale
    fine = bars_of(store, "1m")
    assert [row[CLOSE] * 100 for row in coarse] == [row[CLOSE] for row in fine[: len(coarse)]]


def test_more_decimals_are_refused_beside_a_daemon(store: SqliteStore, files: Path) -> None:
    """It would go on writing at the old ones; what has not more is taken."""
    write_days(files, random_trades(1))
    symbols = [Symbol("BTCUSDT", "BTC", "USDT", 5, 1, 3), Symbol("ETHUSDT", "ETH", "USDT", 5, 2, 3)]
    store.attach(SymbolPeriodRegistry.ranked(symbols, INTERVALS))
    other = files / NAMES[0].replace("BTC", "ETH")
    other.write_text((files / NAMES[0]).read_text())
    with claim(store.path):
        counts = import_from(store, files)

    assert [files / NAMES[0]] == list(counts.refused)
    text = "BTCUSDT has more decimals in the file than in the database; stop the daemon first"
    assert text in counts.refused[files / NAMES[0]]
    assert [] == bars_of(store, "1m")
    assert 24 == len(bars_of(store, "1h", "ETHUSDT"))
    with closing(sqlite3.connect(store.path)) as connection:
        indexes = connection.execute("SELECT symbol_index FROM symbols ORDER BY 1").fetchall()
    assert [(0,), (1,)] == indexes


def test_what_a_daemon_has_proved_stays(store: SqliteStore, files: Path) -> None:
    """Its bar wins, whatever the file says."""
    registry = SymbolPeriodRegistry.ranked([Symbol("BTCUSDT", "BTC", "USDT", 5, 2, 3)], INTERVALS)
    store.attach(registry)
    ours = [DAY_ONE + HOUR, 1, 1, 1, 1, 1, 1, 1, 1, 1, 7, 7, COMPLETE]
    theirs = [DAY_ONE + 2 * HOUR, 1, 1, 1, 1, 1, 1, 1, 1, 1, 7, 7, Flag.FINAL]
    bars = Batch(np.array([4, 4]), np.array([ours, theirs]))
    store.write(bars, Batch(np.zeros(0, np.int64), np.zeros((0, 13), np.int64)))
    write_days(files, random_trades(1))
    import_from(store, files)

    hours = bars_of(store, "1h")
    assert ours == hours[1]
    assert COMPLETE | 1 << REVISION_SHIFT == hours[2][FLAGS]


@pytest.mark.skipif(not DATA.is_dir(), reason="no recorded market data beside the tree")
def test_an_official_month_of_minutes(store: SqliteStore, files: Path) -> None:
    """All 43,200 klines, and all longer bars that lie in the month."""
    packed = (DATA / "official_um_NEARUSDT-1m-2023-09.csv.gz").read_bytes()
    write_zip(files / "NEARUSDT-1m-2023-09.zip", gzip.decompress(packed).decode())
    write_checksum(files / "NEARUSDT-1m-2023-09.zip")
    counts = import_from(store, files)

    assert (1, 1, 43_200) == (counts.files, counts.checked, counts.rows)
    sizes = {each.name: len(bars_of(store, each.name, "NEARUSDT")) for each in INTERVALS}
    expected: Sequence[int] = (43_200, 8_640, 2_880, 1_440, 720, 180, 30, 3)
    assert dict(zip(DEFAULT_INTERVALS, expected, strict=True)) == sizes
    flags = {row[FLAGS] for row in bars_of(store, "1w", "NEARUSDT")}
    assert {COMPLETE | Flag.BACKFILLED} == flags


def test_a_file_is_read_piece_by_piece_or_as_a_whole_alike(
    store: SqliteStore, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In order it comes in pieces, whose decimals grow; out of order it is sorted first."""
    trades = random_trades(2)
    # Decimals come late: the first half has none.
    even = [trade._replace(price=trade.price * 100, quantity=1000) for trade in trades[:1000]]
    trades = [*even, *trades[1000:]]
    write_days(files, trades)
    monkeypatch.setattr(blocks, "BLOCK", 1_000)
    import_from(store, files)
    assert (2, 3) == scales_of(store)

    for path in files.iterdir():
        header, *lines = path.read_text().splitlines(keepends=True)
        random.Random(1).shuffle(lines)  # noqa: S311
        path.write_text(header + "".join([*lines, *lines[:20]]))
    other = SqliteStore(store.path.with_name("other.db"))
    other.open()
    assert len(trades) == import_from(other, files).rows
    assert dump(store) == dump(other)
    other.close()


def scales_of(store: SqliteStore) -> tuple[int, int]:
    """Return the scales of the symbol."""
    symbol = store.known_symbols()["BTCUSDT"]
    return symbol.price_scale, symbol.quantity_scale
