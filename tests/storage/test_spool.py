"""What was put into the spool is there until it is named, through any crash."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klinetrio.domain.kline import Flag
from klinetrio.errors import StoreError
from klinetrio.storage import spool as spool_module
from klinetrio.storage.pending import rank
from klinetrio.storage.spool import Spool
from tests.storage.bars import BASE, MINUTE, NOTHING, bar, batch, registry, spool_of, symbol


if TYPE_CHECKING:
    from klinetrio.storage.protocol import Batch

LIMIT_S = 300.0
ROOT = Path(__file__).parents[2]


def bars_of(batch: Batch) -> list[tuple[int, list[int]]]:
    """Return a batch as a list."""
    return list(zip(batch.series.tolist(), batch.bars.tolist(), strict=True))


PUT = st.tuples(st.just("put"), st.integers(0, 2), st.integers(0, 3), st.integers(0, 2))
TAKE = st.tuples(st.just("take"), st.integers(1, 4))
OTHERS = st.sampled_from([("commit",), ("crash",), ("open",)])


@settings(max_examples=60)
@given(st.lists(st.one_of(PUT, PUT, TAKE, OTHERS), max_size=25))
def test_a_bar_stays_until_exactly_its_state_is_removed(steps: list[tuple[object, ...]]) -> None:
    """Through corrections that come while it is on its way, and crashes at any moment (I1, I3)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spool = spool_of(folder)
        model: dict[tuple[int, int], list[int]] = {}
        taken = NOTHING
        for value, step in enumerate(steps):
            match step:
                case ("put", int(row), int(number), int(revision)):
                    new = bar(BASE + number * MINUTE, value, revision=revision)
                    old = model.get((row, number))
                    if old is None or rank(new) > rank(old):
                        model[row, number] = new
                    spool.put(batch((row, new)), NOTHING)
                case ("take", int(limit)):
                    taken = spool.first(limit)
                case ("commit",):
                    spool.remove(taken, 0)
                    for row, values in bars_of(taken):
                        key = row, (values[0] - BASE) // MINUTE
                        if model.get(key) == values:
                            del model[key]
                    taken = NOTHING
                case _:
                    spool, folder = reopened(spool, folder, crashed=step == ("crash",))
                    taken = NOTHING
            assert len(model) == spool.bars
            expected = [(row, model[row, number]) for row, number in sorted(model)]
            assert expected == sorted(bars_of(spool.first(100)))
        spool.close()


def reopened(spool: Spool, folder: Path, *, crashed: bool) -> tuple[Spool, Path]:
    """Return the spool as a next run finds it: closed in order, or as it lies on the disk."""
    if crashed:
        copy = folder / "next"
        shutil.copytree(spool.path.parent, copy / "spool")
        spool.close()
        return spool_of(copy), copy
    spool.close()
    return spool_of(folder), folder


def test_a_torn_end_is_cut_off(tmp_path: Path) -> None:
    """Whatever a crash leaves half written, what was put before it is there."""
    spool = spool_of(tmp_path)
    for number in range(3):
        spool.put(batch((0, bar(BASE + number * MINUTE))), NOTHING)
    wal = spool.path.with_name("bars.db-wal").read_bytes()
    whole = len(bars_of(spool.first(9)))
    counts = []
    for cut in range(len(wal) - 4200, len(wal), 97):
        copy = tmp_path / f"cut{cut}"
        shutil.copytree(spool.path.parent, copy / "spool")
        (copy / "spool" / "bars.db-wal").write_bytes(wal[:cut])
        torn = spool_of(copy)
        counts.append(torn.bars)
        assert [bar(BASE + n * MINUTE) for n in range(torn.bars)] == [
            values for _, values in bars_of(torn.first(9))
        ]
        torn.close()
    spool.close()
    assert whole == 3
    assert {2} <= set(counts) <= {1, 2}


KILLED = """
import sys
from pathlib import Path
from tests.storage.bars import BASE, MINUTE, NOTHING, bar, batch, spool_of
spool = spool_of(Path(sys.argv[1]))
for number in range(10**6):
    spool.put(batch((0, bar(BASE + number * MINUTE))), batch((1, bar(BASE, number + 1, bits=0))))
    print(number, flush=True)
"""


def test_kill_9_costs_nothing_that_was_put(tmp_path: Path) -> None:
    """A process of its own, killed in the middle of its writing, again and again."""
    for attempt in range(3):
        folder = tmp_path / str(attempt)
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(folder)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert process.stdout is not None
        told = -1
        while told < 20 + attempt:
            told = int(process.stdout.readline())
        process.kill()
        rest = process.stdout.read().split()
        process.wait(LIMIT_S)
        process.stdout.close()
        told = max(told, *map(int, rest)) if rest else told
        spool = spool_of(folder)
        assert told + 1 <= spool.bars <= told + 2
        assert spool.bars == len(bars_of(spool.first(10**6)))
        assert spool.read_live()[1][1] in {told + 1, told + 2}
        spool.close()


def test_bars_are_found_by_name_in_a_run_with_other_rows_and_scales(tmp_path: Path) -> None:
    """Symbols that came or went shift the rows; decimals that grew multiply exactly."""
    spool = spool_of(tmp_path)
    spool.put(
        batch((0, bar(BASE, 7)), (4, bar(BASE, 9))), batch((3, bar(BASE + MINUTE, 8, bits=0)))
    )
    spool.close()
    again = Spool(tmp_path / "spool", "klines.db")
    again.open()
    known = again.known_symbols()
    assert {"BTCUSDT": 2, "ETHUSDT": 2} == {name: s.price_scale for name, s in known.items()}
    again.attach(registry(symbol("AAAUSDT", 0), symbol("BTCUSDT", 1, 3, 3), symbol("ETHUSDT", 2)))
    grown = bar(BASE, 7)
    prices, quotes = (1, 2, 3, 4), (6, 9)
    for field in (*prices, *quotes):
        grown[field] *= 10
    assert [(3, grown), (7, bar(BASE, 9))] == bars_of(again.first(9))
    assert {6: tuple(bar(BASE + MINUTE, 8, bits=0))} == dict(again.read_live())
    again.close()


def test_a_number_that_would_not_fit_its_new_scale_is_refused(tmp_path: Path) -> None:
    """And nothing has changed."""
    spool = spool_of(tmp_path)
    large = bar(BASE, 2**62)
    spool.put(batch((0, large)), NOTHING)
    with pytest.raises(StoreError):
        spool.attach(registry(symbol("BTCUSDT", 1, 4, 3), symbol("ETHUSDT", 2)))
    spool.attach(registry())
    assert [(0, large)] == bars_of(spool.first(9))
    spool.close()


def test_open_bars_go_with_the_newest_mark_only(tmp_path: Path) -> None:
    """Younger ones than those that the database has stay."""
    spool = spool_of(tmp_path)
    spool.put(NOTHING, batch((0, bar(BASE, 1, bits=0))))
    old = spool.live_mark
    spool.put(NOTHING, batch((0, bar(BASE, 2, bits=0))))
    spool.remove(NOTHING, old)
    assert {0: tuple(bar(BASE, 2, bits=0))} == dict(spool.read_live())
    spool.remove(NOTHING, spool.live_mark)
    assert ({}, 0) == (dict(spool.read_live()), spool.live_mark)
    spool.close()


def test_the_spool_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What would go beyond is refused, and what is there stays (I2)."""
    spool = spool_of(tmp_path)
    spool.put(batch((0, bar(BASE))), NOTHING)
    monkeypatch.setattr(spool_module, "MAX_BYTES", spool.size)
    with pytest.raises(StoreError, match=r"expected the spool to stay below \d+ bytes, was \d+"):
        spool.put(batch((0, bar(BASE + MINUTE))), NOTHING)
    assert (1, [(0, bar(BASE))]) == (spool.bars, bars_of(spool.first(9)))
    spool.remove(spool.first(9), 0)
    assert spool.bars == 0
    spool.close()


def test_a_spool_that_was_large_is_small_when_it_is_empty(tmp_path: Path) -> None:
    """An outage of weeks does not cost its gigabytes for ever."""
    spool = spool_of(tmp_path)
    many = batch(*[(row, bar(BASE + n * MINUTE, n)) for row in range(6) for n in range(5_000)])
    spool.put(many, NOTHING)
    assert spool.size > 1_500_000
    spool.remove(many, 0)
    assert (spool.bars, spool.size < 100_000) == (0, True)
    spool.put(batch((0, bar(BASE))), NOTHING)
    assert spool.bars == 1
    spool.close()


@pytest.mark.parametrize("damage", ["text", "page"])
def test_a_damaged_file_is_set_aside(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The daemon starts with an empty one, says so, and keeps what may be saved by hand."""
    spool = spool_of(tmp_path)
    spool.put(batch(*[(0, bar(BASE + n * MINUTE, n)) for n in range(500)]), NOTHING)
    spool.close()
    content = bytearray(spool.path.read_bytes())
    if damage == "text":
        content[:] = b"not a database, whatever it is called " * 200
    else:
        content[8_192:-4_096] = bytes(len(content) - 12_288)
    spool.path.write_bytes(content)
    again = spool_of(tmp_path)
    assert again.bars == 0
    again.put(batch((0, bar(BASE))), NOTHING)
    again.close()
    assert "spool_set_aside path=" in caplog.text
    (aside,) = spool.path.parent.glob("bars.db.damaged-*")
    assert bytes(content) == aside.read_bytes()


def test_bars_of_another_database_are_refused(tmp_path: Path) -> None:
    """Whoever changed the database's address hears where they belong; an empty spool is anybody's."""
    spool = spool_of(tmp_path, "postgresql://...@one/klines")
    spool.put(batch((0, bar(BASE))), NOTHING)
    spool.close()
    text = r"expected .*bars.db to hold bars of klines.db, were of postgresql://\.\.\.@one/klines"
    with pytest.raises(StoreError, match=text):
        Spool(tmp_path / "spool", "klines.db").open()
    first = spool_of(tmp_path, "postgresql://...@one/klines")
    first.remove(first.first(9), 0)
    first.close()
    spool_of(tmp_path, "klines.db").close()


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    """At the start, not in the first outage."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="cannot open"):
        Spool(tmp_path / "file" / "spool", "klines.db").open()


def test_a_spool_that_is_looked_at_is_emptied_all_the_same(tmp_path: Path) -> None:
    """A person at the sqlite3 prompt keeps it large, no more."""
    spool = spool_of(tmp_path)
    many = batch(*[(row, bar(BASE + n * MINUTE, n)) for row in range(6) for n in range(3_000)])
    spool.put(many, NOTHING)
    with closing(sqlite3.connect(spool.path, isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM klines").fetchone()
        spool.remove(many, 0)
        assert spool.bars == 0
        other.execute("COMMIT")
    assert bars_of(spool.first(9)) == []
    spool.close()


def test_a_better_state_in_the_spool_is_not_overwritten(tmp_path: Path) -> None:
    """As in the database: a proved bar is not replaced by an older, unproved state."""
    spool = spool_of(tmp_path)
    spool.put(batch((0, bar(BASE, 2, revision=1))), NOTHING)
    spool.put(batch((0, bar(BASE, 1, bits=Flag.FINAL))), NOTHING)
    assert [(0, bar(BASE, 2, revision=1))] == bars_of(spool.first(9))
    assert spool.bars == 1
    spool.close()
