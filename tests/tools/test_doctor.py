"""The doctor: whatever is wrong with stored bars is found, and nothing else is."""

from __future__ import annotations

import time
from contextlib import nullcontext
from shutil import which
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from klinetrio.domain.interval import DAY, HOUR, MINUTE, parse_intervals
from klinetrio.domain.interval import INTERVALS as ALL_INTERVALS
from klinetrio.domain.kline import OPEN_TIME, TRADE_COUNT, VOLUME
from klinetrio.engine.registry import SymbolPeriodRegistry
from klinetrio.errors import ConfigError
from klinetrio.tools import visit as tools_visit
from klinetrio.tools.examination import examine, part_of
from klinetrio.tools.finding import Kind
from klinetrio.tools.report import Report
from tests.storage.backends import SqliteBackend
from tests.storage.bars import NOTHING, batch
from tests.tools.sound import (
    CHANGES,
    INTERVALS,
    MINUTES,
    REGISTRY,
    START,
    SYMBOLS,
    counts,
    of_exchange,
    put,
    sound,
    visit,
)


if TYPE_CHECKING:
    from collections.abc import Iterator

    from klinetrio.storage.protocol import KlineStore
    from klinetrio.tools.examination import Diagnosis
    from klinetrio.tools.visit import Visit
    from tests.storage.backends import Backend

NOW = START + 90 * DAY

# When a bar ends that is meant to be in the future, by whatever clock.
FAR = 4_102_444_800_000


@pytest.fixture
def store(backend: Backend) -> Iterator[KlineStore]:
    """Return an open database of sound bars of one symbol."""
    database = backend.opened(REGISTRY)
    put(database, sound())
    yield database
    database.close()


def report_of(found: Visit, store: KlineStore) -> Report:
    """Return what is said of it."""
    return Report(found.diagnoses, found.damage, 0, store)


async def test_a_sound_store_is_healthy(store: KlineStore) -> None:
    """Bars without trades, folds and all; a symbol without bars is nothing to speak of."""
    found = await visit(store)
    assert counts(found.diagnoses) == {}
    assert found.damage == []
    report = report_of(found, store)
    assert ["healthy: 219 bars of 3 series"] == list(report.lines())
    assert report.is_healthy


# Every example begins with a sound store, so that they can share a database.
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(sorted(CHANGES)),
    # A bar with trades, and neither the first nor the last.
    number=st.sampled_from(
        [int(each) for each in range(1, MINUTES - 1) if sound()["1m"][each, TRADE_COUNT] > 1]
    ),
    page=st.sampled_from((1, 7, 60, 20_000)),
)
def test_a_damage_is_found_and_nothing_else(
    backend: Backend, store: KlineStore, name: str, number: int, page: int
) -> None:
    """However the bars are cut into pages."""
    store.attach(REGISTRY)
    backend.query("DELETE FROM klines")
    put(store, sound())
    statement, expected = CHANGES[name]
    here = f"{store.condition('BTCUSDT', '1m')} AND open_time = {START + number * MINUTE}"
    backend.query(statement.format(here=here))

    found = examine(store, SYMBOLS[0], INTERVALS, span=(0, NOW), now_ms=NOW, page=page)
    assert {("BTCUSDT", *key): count for key, count in expected.items()} == counts(found)
    assert sum(each.bars for each in found) == 219 - (name == "gone")


async def test_each_interval_is_compared_with_the_longest_that_divides_it(
    backend: Backend, store: KlineStore
) -> None:
    """So a wrong one between differs from its parts, and the longer one from it."""
    where = store.condition("BTCUSDT", "5m")
    backend.query(f"UPDATE klines SET close = low, low = low WHERE {where} AND close > low")
    found = counts((await visit(store)).diagnoses)
    assert {("BTCUSDT", "5m", Kind.DIFFERENT), ("BTCUSDT", "1h", Kind.DIFFERENT)} == set(found)
    names = ("1m", "3m", "5m", "15m", "1h", "1d", "3d", "1w", "1M")
    parts = {
        each.name: str(part_of(each, parse_intervals(names))) for each in parse_intervals(names)
    }
    assert parts == {
        "1m": "None",
        "3m": "1m",
        "5m": "1m",
        "15m": "5m",
        "1h": "15m",
        "1d": "1h",
        "3d": "1d",
        "1w": "1d",
        "1M": "1d",
    }


async def test_sums_beyond_64_bits_are_a_difference(backend: Backend, store: KlineStore) -> None:
    """A minute that can be by itself, and makes an hour that cannot."""
    where = store.condition("BTCUSDT", "1m")
    backend.query(f"UPDATE klines SET trade_count = {2**62} WHERE {where} AND trade_count > 1")
    found = counts((await visit(store)).diagnoses)
    assert {("BTCUSDT", "5m", Kind.DIFFERENT)} == set(found)


async def test_the_exchanges_bars_over_bars_of_trades_are_no_alarm(store: KlineStore) -> None:
    """Its klines are made of single fills; but among its own bars a difference is one."""
    bars = sound()
    bars["1h"][0, VOLUME] += 1
    store.settle(batch(*[(2, row) for row in of_exchange(bars["1h"]).tolist()]))
    found = await visit(store)
    assert counts(found.diagnoses) == {("BTCUSDT", "1h", Kind.APART): 1}
    assert report_of(found, store).is_healthy

    for period, name in enumerate(("1m", "5m")):
        settled = of_exchange(bars[name]).tolist()
        store.attach(REGISTRY)
        store.write(batch(*[(period, row) for row in settled]), NOTHING)
    found = await visit(store)
    assert counts(found.diagnoses) == {("BTCUSDT", "1h", Kind.DIFFERENT): 1}
    assert not report_of(found, store).is_healthy


async def test_holes_of_weeks_and_months_and_those_of_the_exchange(backend: Backend) -> None:
    """On the calendar's grid; what the exchange was asked for and has not is told apart."""
    intervals = parse_intervals(("1w", "1M"))
    store = backend.opened(SymbolPeriodRegistry(SYMBOLS, intervals))
    plain = sound()["1m"][0].tolist()
    opens = {
        each.name: ALL_INTERVALS[each.name].opens_between(START - 600 * DAY, START)
        for each in intervals
    }
    weeks, months = opens["1w"].tolist(), opens["1M"].tolist()
    chosen = [(0, each) for each in weeks if each not in weeks[3:5] + weeks[20:30]]
    chosen += [(1, each) for each in months if each not in months[4:6]]
    checked = {0: (weeks[10], weeks[25])}
    store.write_history(batch(*[(row, [each, *plain[1:]]) for row, each in chosen]), checked)

    found = await visit(store)
    assert counts(found.diagnoses) == {
        ("BTCUSDT", "1w", Kind.MISSING): 7,
        ("BTCUSDT", "1w", Kind.ABSENT): 5,
        ("BTCUSDT", "1M", Kind.MISSING): 2,
    }
    holes = found.diagnoses[0].findings[Kind.MISSING].named
    assert [(weeks[25], weeks[30], 5), (weeks[3], weeks[5], 2)] == [
        (each.start, each.end, each.count) for each in holes
    ]
    store.close()


def without_key(backend: Backend) -> None:
    """Take the primary key away, as in a database that something else has written."""
    if isinstance(backend, SqliteBackend):
        for statement in (
            "DROP VIEW klines_decimal",
            "CREATE TABLE foreign_klines AS SELECT * FROM klines",
            "DROP TABLE klines",
            "ALTER TABLE foreign_klines RENAME TO klines",
        ):
            backend.query(statement)
    else:
        backend.query("ALTER TABLE klines DROP CONSTRAINT klines_pkey")


async def test_bars_that_are_there_twice(backend: Backend, store: KlineStore) -> None:
    """The key forbids it, and a database without it is told of, too."""
    without_key(backend)
    where = f"{store.condition('BTCUSDT', '1m')} AND open_time < {START + 3 * MINUTE}"
    backend.query(f"INSERT INTO klines SELECT * FROM klines WHERE {where}")
    found = await visit(store)
    assert counts(found.diagnoses) == {("BTCUSDT", "1m", Kind.DOUBLE): 3}
    assert "primary key" in found.damage[0]
    for page in (1, 2, 3, 100):
        pages = examine(store, SYMBOLS[0], INTERVALS, span=(0, NOW), now_ms=NOW, page=page)
        assert counts(pages) == {("BTCUSDT", "1m", Kind.DOUBLE): 3}


@pytest.mark.skipif(not (which("sqlite3") and which("psql")), reason="no programs to run SQL")
async def test_what_is_to_be_deleted_is_deleted_by_the_command(
    backend: Backend, store: KlineStore
) -> None:
    """Exactly the bars that are told of, by the command as it is printed."""
    copy = "SELECT * FROM klines"
    for interval, shift in (("1m", 17), ("1h", 30 * MINUTE)):
        where = f"{store.condition('BTCUSDT', interval)} AND open_time = {START + HOUR}"
        backend.query(f"CREATE TABLE extra AS {copy} WHERE {where}")
        backend.query(f"UPDATE extra SET open_time = open_time + {shift}")
        backend.query("INSERT INTO klines SELECT * FROM extra")
        backend.query("DROP TABLE extra")
    store.attach(REGISTRY)
    late = sound()["1m"][:2].copy()
    late[:, OPEN_TIME] += FAR - START
    store.write(batch(*[(0, row) for row in late.tolist()]), NOTHING)

    found = await visit(store)
    assert counts(found.diagnoses) == {
        ("BTCUSDT", "1m", Kind.MISALIGNED): 1,
        ("BTCUSDT", "1h", Kind.MISALIGNED): 1,
        ("BTCUSDT", "1m", Kind.FUTURE): 2,
    }
    commands = [line for line in report_of(found, store).lines() if line.startswith("  $ ")]
    assert len(commands) == 2
    for line in commands:
        await trio.run_process(line.removeprefix("  $ "), shell=True, capture_stdout=True)
    again = await visit(store)
    assert counts(again.diagnoses) == {}
    assert sum(each.bars for each in again.diagnoses) == 219


async def test_what_is_looked_at_can_be_narrowed_down(backend: Backend, store: KlineStore) -> None:
    """By symbol, interval and time; what is not stored is not taken."""
    put(store, sound(), symbol=1)
    for name in ("BTCUSDT", "ETHUSDT"):
        where = f"{store.condition(name, '1m')} AND open_time = {START + 100 * MINUTE}"
        backend.query(f"DELETE FROM klines WHERE {where}")
    missing = {("BTCUSDT", "1m", Kind.MISSING): 1, ("ETHUSDT", "1m", Kind.MISSING): 1}
    assert missing == counts((await visit(store)).diagnoses)
    one = await visit(store, symbols=("eth_usdt",), intervals=("1m", "5m"))
    assert [("ETHUSDT", "1m"), ("ETHUSDT", "5m")] == [
        (each.symbol, each.interval) for each in one.diagnoses
    ]
    early = await visit(store, until=START + 90 * MINUTE)
    assert counts(early.diagnoses) == {}
    assert [each.bars for each in early.diagnoses[:3]] == [90, 18, 2]
    with pytest.raises(ConfigError, match="--symbols: expected symbols that have bars"):
        await visit(store, symbols=("NOPEUSDT",))
    with pytest.raises(ConfigError, match="--intervals: expected some of"):
        await visit(store, intervals=("7m",))


@pytest.mark.parametrize("claimed", [True, False])
async def test_beside_a_daemon_what_is_young_is_looked_at_again(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, claimed: bool
) -> None:
    """What it was just writing is no finding; without a daemon nobody is."""
    store = backend.opened(REGISTRY)
    bars = sound()
    for rows in bars.values():
        rows[:, OPEN_TIME] += time.time_ns() // 1_000_000 // HOUR * HOUR - 3 * HOUR - START
    put(store, {**bars, "1m": np.delete(bars["1m"], 170, axis=0)})

    def look_and_write(*arguments: Any, **options: Any) -> list[Diagnosis]:
        found = examine(*arguments, **options)
        store.attach(REGISTRY)
        put(store, bars)
        return found

    monkeypatch.setattr(tools_visit, "examine", look_and_write)
    with backend.make().claim() if claimed else nullcontext():
        found = await visit(store)
    told = {} if claimed else {("BTCUSDT", "1m", Kind.MISSING): 1}
    assert told == counts(found.diagnoses)
    store.close()
