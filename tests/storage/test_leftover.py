"""What an earlier run left in the spool gets into the database, whatever this run follows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from klinetrio.domain.interval import parse_intervals
from klinetrio.domain.kline import OPEN
from klinetrio.engine.registry import SymbolPeriodRegistry
from klinetrio.errors import StoreError
from klinetrio.storage.leftover import attach_both, known_to
from klinetrio.storage.sqlite import SqliteStore
from klinetrio.storage.stored import StoredBars
from tests.storage.bars import BASE, MINUTE, NOTHING, bar, batch, registry, spool_of, symbol
from tests.storage.test_sqlite import opened, rows_of


if TYPE_CHECKING:
    from pathlib import Path

    from klinetrio.storage.spool import Spool


def left(folder: Path) -> Spool:
    """Return the spool of a run that ended in an outage: bars of both symbols."""
    spool = spool_of(folder)
    spool.put(
        batch(
            *[(row, bar(BASE + n * MINUTE, 10 * row + n)) for row in (0, 1, 3) for n in range(3)]
        ),
        batch((0, bar(BASE + 3 * MINUTE, bits=0))),
    )
    return spool


def test_what_this_run_follows_waits_on(tmp_path: Path) -> None:
    """The start does not wait for it, and reads it beside the database."""
    database, spool = opened(tmp_path / "klines.db"), left(tmp_path)
    assert attach_both(database, spool, registry(), known_to(database, spool)) == 0
    assert (9, []) == (spool.bars, rows_of(database))
    stored = StoredBars(database, spool)
    assert [0, 1, 2] == stored.read(0, start=None, end=None, limit=9)[:, OPEN].tolist()
    assert [BASE + 3 * MINUTE] == [row[0] for row in database.read_live().values()]
    assert spool.live_mark == 0
    database.close()
    spool.close()


@pytest.mark.parametrize("in_database", [True, False])
def test_what_this_run_does_not_follow_is_written_at_the_start(
    in_database: bool, tmp_path: Path
) -> None:
    """A symbol that is gone and an interval that was taken out, at the larger of both scales."""
    database, spool = SqliteStore(tmp_path / "klines.db"), left(tmp_path)
    database.open()
    if in_database:
        database.attach(registry(symbol("BTCUSDT", 1), symbol("ETHUSDT", 2, 3, 3)))
    known = known_to(database, spool)
    now = SymbolPeriodRegistry.ranked([known["BTCUSDT"]], parse_intervals(["1m"]))
    assert attach_both(database, spool, now, known) == 6
    assert 3 == spool.bars
    everything = registry(symbol("BTCUSDT", 1), symbol("ETHUSDT", 2, 3 if in_database else 2, 3))
    database.enlist(everything)
    assert [[], [10, 11, 12]] == [[row[1] for row in rows_of(database, row)] for row in (0, 1)]
    factor = 10 if in_database else 1
    assert [30 * factor, 31 * factor, 32 * factor] == [row[1] for row in rows_of(database, 3)]
    # What is in both places after a crash in between is written once.
    database.write(spool.first(9), NOTHING)
    database.close()
    spool.close()


def test_scales_of_the_spool_do_not_shrink(tmp_path: Path) -> None:
    """Also if the database is a new one, which knows none."""
    spool = spool_of(tmp_path)
    spool.attach(registry(symbol("BTCUSDT", 1, 5, 3), symbol("ETHUSDT", 2)))
    spool.put(batch((0, bar(BASE, 7))), NOTHING)
    database = opened(tmp_path / "new.db")
    known = known_to(database, spool)
    assert (5, 3) == (known["BTCUSDT"].price_scale, known["BTCUSDT"].quantity_scale)
    database.close()
    spool.close()


def test_a_database_that_fails_at_the_start_can_be_asked_again(tmp_path: Path) -> None:
    """Nothing is lost by the attempt."""
    database, spool = SqliteStore(tmp_path / "klines.db"), left(tmp_path)
    database.open()
    known = known_to(database, spool)
    database.close()
    now = SymbolPeriodRegistry.ranked([known["BTCUSDT"]], parse_intervals(["1m"]))
    with pytest.raises(StoreError):
        attach_both(database, spool, now, known)
    assert spool.bars == 9
    database.open()
    assert attach_both(database, spool, now, known) == 6
    database.close()
    spool.close()


def test_of_two_open_states_the_younger_one_is_continued(tmp_path: Path) -> None:
    """Whichever place has it; a daemon may have died between writing one and clearing the other."""
    database, spool = opened(tmp_path / "klines.db"), spool_of(tmp_path)
    young, old = bar(BASE + MINUTE, 5, bits=0), bar(BASE, 9, bits=0)
    database.write(NOTHING, batch((0, young), (1, old), (2, old)))
    spool.put(NOTHING, batch((0, old), (1, young)))
    found = {row: list(values) for row, values in StoredBars(database, spool).read_live().items()}
    assert {0: young, 1: young, 2: old} == found
    database.close()
    spool.close()
