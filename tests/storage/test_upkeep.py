"""The write-ahead log does not grow for ever, and nobody waits long for that."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from klinetrio.storage import sqlite_file
from tests.storage.bars import BASE, MINUTE, NOTHING, bar, batch
from tests.storage.test_sqlite import opened, rows_of


if TYPE_CHECKING:
    from pathlib import Path

    from klinetrio.storage.sqlite import SqliteStore


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints of small logs, without a pause."""
    monkeypatch.setattr(sqlite_file, "_LARGE_WAL", 100_000)
    monkeypatch.setattr(sqlite_file, "_CHECKPOINT_PAUSE_S", 0.0)


def write(store: SqliteStore, first: int, count: int = 2_000) -> None:
    """Write bars."""
    bars = [(0, bar(BASE + number * MINUTE, number)) for number in range(first, first + count)]
    store.write(batch(*bars), NOTHING)


def test_a_large_log_is_cut_off(tmp_path: Path) -> None:
    """Its bars are in the file then."""
    store = opened(tmp_path / "klines.db")
    write(store, 0)
    large = store.journal_size()
    assert 100_000 < large < store.size()
    store.tidy()
    assert store.journal_size() == 0
    assert len(rows_of(store)) == 2_000
    store.close()


def test_a_small_log_is_left_alone(tmp_path: Path) -> None:
    """Which costs nothing."""
    store = opened(tmp_path / "klines.db")
    store.tidy()
    write(store, 0, 3)
    before = store.journal_size()
    store.tidy()
    assert before == store.journal_size() > 0
    store.close()


def test_a_reader_that_stays_is_not_waited_for(tmp_path: Path) -> None:
    """The log stays until it has gone; writing goes on meanwhile."""
    store = opened(tmp_path / "klines.db")
    write(store, 0)
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN")
        assert other.execute("SELECT count(*) FROM klines").fetchone() == (2_000,)
        write(store, 2_000)
        store.tidy()
        assert store.journal_size() > 0
        write(store, 4_000)
        assert other.execute("SELECT count(*) FROM klines").fetchone() == (2_000,)
        other.execute("COMMIT")
    store.tidy()
    assert store.journal_size() == 0
    assert len(rows_of(store)) == 6_000
    store.close()


def test_a_writer_elsewhere_is_not_waited_for(tmp_path: Path) -> None:
    """An import may hold the lock for seconds."""
    store = opened(tmp_path / "klines.db")
    write(store, 0)
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        store.tidy()
        assert store.journal_size() > 0
        other.execute("ROLLBACK")
    store.tidy()
    assert store.journal_size() == 0
    store.close()


def test_the_log_is_looked_at_now_and_then_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not at every batch while somebody keeps it large."""
    monkeypatch.setattr(sqlite_file, "_CHECKPOINT_PAUSE_S", 3_600.0)
    store = opened(tmp_path / "klines.db")
    write(store, 0)
    store.tidy()
    assert store.journal_size() == 0
    write(store, 2_000)
    before = store.journal_size()
    store.tidy()
    assert before == store.journal_size()
    store.close()
