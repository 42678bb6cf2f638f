"""What tools do to a database beside a daemon that may be running: they add, and never spoil."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import pytest

from klinetrio.domain.kline import FLAGS, OPEN, Flag, make_flags
from klinetrio.errors import StoreError
from klinetrio.storage import schema
from klinetrio.storage.sqlite import SqliteStore
from tests.storage.bars import BASE, MINUTE, NOTHING, bar, batch, registry, symbol
from tests.storage.test_sqlite import opened, query, rows_of


if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAST = Flag.FINAL | Flag.COMPLETE | Flag.BACKFILLED
SETTLED = PAST | Flag.SETTLED


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the database will be."""
    return tmp_path / "klines.db"


@pytest.fixture
def daemon(path: Path) -> Iterator[SqliteStore]:
    """Return the store as a daemon has it."""
    store = opened(path)
    yield store
    store.close()


@pytest.fixture
def tool(path: Path, daemon: SqliteStore) -> Iterator[SqliteStore]:
    """Return the same database as a tool opens it, for one of the daemon's symbols and a new one."""
    store = SqliteStore(path)
    store.open()
    store.enlist(registry(symbol("ETHUSDT", 2), symbol("NEWUSDT", 3)))
    yield store
    store.close()


def test_enlisting_adds_symbols_and_leaves_indexes_alone(path: Path, tool: SqliteStore) -> None:
    """The daemon's rows keep their meaning."""
    assert [("BTCUSDT", 0), ("ETHUSDT", 1), ("NEWUSDT", None)] == query(
        path, "SELECT name, symbol_index FROM symbols ORDER BY name"
    )


def test_rows_of_the_tool_are_its_own(daemon: SqliteStore, tool: SqliteStore) -> None:
    """Its row 0 is the daemon's row 3."""
    tool.write_history(batch((0, bar(BASE, bits=PAST))))
    assert [bar(BASE, bits=PAST)] == rows_of(daemon, 3) == rows_of(tool, 0)
    assert [] == rows_of(daemon, 0)


@pytest.mark.parametrize("scales", [(3, 3), (2, 4), (1, 3)])
def test_other_scales_are_refused(path: Path, tool: SqliteStore, scales: tuple[int, int]) -> None:
    """Larger ones too: the daemon would go on writing at the old ones."""
    other = registry(symbol("BTCUSDT", 1, *scales), symbol("NEWERUSDT", 9))
    with pytest.raises(StoreError, match=f"expected {scales[0]} decimals .* of BTCUSDT, were 2 "):
        tool.enlist(other)
    assert [] == query(path, "SELECT name FROM symbols WHERE name = 'NEWERUSDT'")


def test_nobody_writes_at_scales_that_have_changed(daemon: SqliteStore, tool: SqliteStore) -> None:
    """Whoever multiplied the bars: the other is refused and loses nothing."""
    daemon.write(batch((3, bar(BASE))), NOTHING)
    tool.regrow([symbol("ETHUSDT", 2, 3, 3), symbol("UNKNOWNUSDT", 9)])
    for write in (
        lambda: daemon.write(batch((3, bar(BASE + MINUTE))), NOTHING),
        lambda: tool.write_history(batch((0, bar(BASE + MINUTE)))),
        lambda: tool.settle(batch((0, bar(BASE)))),
    ):
        with pytest.raises(StoreError, match="of ETHUSDT, were 3 decimals"):
            write()
    assert [bar(BASE)[OPEN] * 10] == [row[OPEN] for row in rows_of(daemon, 3)]
    tool.enlist(registry(symbol("ETHUSDT", 2, 3, 3)))
    tool.write_history(batch((0, bar(BASE + MINUTE))))
    assert [BASE, BASE + MINUTE] == [row[0] for row in rows_of(daemon, 3)]


def test_what_was_checked_is_kept_with_the_bars(daemon: SqliteStore, tool: SqliteStore) -> None:
    """By series, the newest span."""
    assert {} == tool.read_checked()
    assert 1 == tool.write_history(batch((0, bar(BASE, bits=PAST))), {0: (BASE, BASE + MINUTE)})
    tool.write_history(NOTHING, {0: (BASE - MINUTE, BASE + MINUTE), 4: (1, 2)})
    assert {0: (BASE - MINUTE, BASE + MINUTE), 4: (1, 2)} == tool.read_checked()
    # The daemon does not know the new symbol.
    assert {3: (BASE - MINUTE, BASE + MINUTE)} == daemon.read_checked()


def test_a_failed_write_leaves_the_span_as_it_was(tool: SqliteStore) -> None:
    """Bars and span are one transaction."""
    broken = batch((0, bar(BASE)), (99, bar(BASE)))
    with pytest.raises(IndexError):
        tool.write_history(broken, {0: (1, 2)})
    assert {} == tool.read_checked()
    assert [] == rows_of(tool)


def test_proved_times_and_the_first_time(tool: SqliteStore) -> None:
    """A bar that is not proved counts as missing, but it is there."""
    assert tool.first_time(0) is None
    unproved = bar(BASE, bits=Flag.FINAL)
    bars = [bar(BASE + number * MINUTE, bits=PAST) for number in range(1, 5)]
    tool.write(batch((0, unproved), *((0, each) for each in bars), (1, bar(BASE))), NOTHING)
    assert tool.first_time(0) == BASE
    times = tool.proved_times(0, BASE, BASE + 4 * MINUTE).tolist()
    assert [BASE + number * MINUTE for number in (1, 2, 3)] == times
    assert [] == tool.proved_times(0, BASE, BASE).tolist()


@pytest.mark.parametrize(
    ("stored", "value", "written", "revision"),
    [
        # What differs is replaced and gets a revision; also what is proved.
        (Flag.FINAL | Flag.COMPLETE, 100, 1, 5),
        (Flag.FINAL, 100, 1, 5),
        # What is the same and was not proved, is now; what was, stays.
        (Flag.FINAL, 200, 1, 4),
        (Flag.FINAL | Flag.COMPLETE, 200, 0, 4),
    ],
)
def test_settling(tool: SqliteStore, stored: int, value: int, written: int, revision: int) -> None:
    """The exchange's own kline has the last word."""
    old = bar(BASE, value, bits=stored, revision=4)
    new = bar(BASE, 200, bits=SETTLED)
    tool.write(batch((0, old)), NOTHING)
    assert tool.settle(batch((0, new))) == written
    expected = [*new[:FLAGS], make_flags(SETTLED if written else stored, revision)]
    assert [expected] == rows_of(tool)


def test_settling_what_is_not_stored_stores_it(tool: SqliteStore) -> None:
    """A missing bar is the greatest difference."""
    assert tool.settle(batch((0, bar(BASE, bits=SETTLED)))) == 1
    assert [bar(BASE, bits=SETTLED)] == rows_of(tool)


def test_a_database_of_the_first_version_is_migrated(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all its bars."""
    with monkeypatch.context() as before:
        before.setattr(schema, "VERSION", 1)
        before.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:1])
        old = opened(path)
        old.write(batch((0, bar(BASE))), NOTHING)
        old.close()
    assert [("1",)] == query(path, "SELECT value FROM meta WHERE key = 'schema_version'")
    new = opened(path)
    assert [("2",)] == query(path, "SELECT value FROM meta WHERE key = 'schema_version'")
    assert [bar(BASE)] == rows_of(new)
    assert {} == new.read_checked()
    new.close()


def test_scales_that_grew_are_known_to_the_next_daemon(path: Path, tool: SqliteStore) -> None:
    """Regrown bars are not multiplied once more."""
    tool.write_history(batch((0, bar(BASE, bits=PAST))))
    grown = attrs.evolve(symbol("ETHUSDT", 2), price_scale=4)
    tool.regrow([grown])
    tool.regrow([grown])
    daemon = opened(path, registry(symbol("BTCUSDT", 1), grown))
    assert [bar(BASE)[OPEN] * 100] == [row[OPEN] for row in rows_of(daemon, 3)]
    daemon.close()
