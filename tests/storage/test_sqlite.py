"""What a database of klines promises, asked of SQLite."""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klinetrio.domain.kline import FLAGS
from klinetrio.errors import SchemaError, StoreError
from klinetrio.storage import schema, sqlite_file
from klinetrio.storage.enrolment import merge_scales
from klinetrio.storage.sqlite import SqliteStore
from klinetrio.storage.stores import open_store
from tests.storage.bars import BASE, MINUTE, NOTHING, bar, batch, registry, symbol


if TYPE_CHECKING:
    from collections.abc import Iterator

    from klinetrio.engine.registry import SymbolPeriodRegistry


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the database will be."""
    return tmp_path / "some" / "where" / "klines.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    """Return an open database that is attached to the plain registry."""
    database = opened(path)
    yield database
    database.close()


def opened(path: Path, known: SymbolPeriodRegistry | None = None) -> SqliteStore:
    """Return a database that is open and attached."""
    database = SqliteStore(path)
    database.open()
    database.attach(known or registry())
    return database


def rows_of(store: SqliteStore, series: int = 0) -> list[list[int]]:
    """Return all bars of a series."""
    rows: list[list[int]] = store.read(series, start=None, end=None, limit=10_000).tolist()
    return rows


def test_a_file_that_was_replaced_is_not_written_to(tmp_path: Path) -> None:
    """SQLite would go on in the old one, which has no name any more, and nobody would know."""
    store = SqliteStore(tmp_path / "klines.db")
    store.open()
    store.attach(registry())
    store.path.rename(tmp_path / "elsewhere.db")
    with pytest.raises(StoreError, match="cannot read "):
        store.write(batch((0, bar(BASE))), NOTHING)
    store.path.write_text("a,csv,file")
    with pytest.raises(StoreError, match="has been replaced since it was opened"):
        store.write(batch((0, bar(BASE))), NOTHING)
    (tmp_path / "elsewhere.db").replace(store.path)
    store.write(batch((0, bar(BASE))), NOTHING)
    assert rows_of(store) == [bar(BASE)]
    store.close()


def query(path: Path, text: str) -> list[tuple[object, ...]]:
    """Ask the file as a person with the sqlite3 prompt would."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(text).fetchall()


def test_merging_takes_the_larger_scales_and_the_earlier_listing() -> None:
    """Scales never shrink; a relisted symbol keeps its age."""
    now, stored = symbol("BTCUSDT", 50, 1, 4), symbol("BTCUSDT", 30, 2, 3)
    assert symbol("BTCUSDT", 30, 2, 4) == merge_scales(now, stored)
    assert symbol("BTCUSDT", 50, 1, 4) == merge_scales(now, None)


def test_people_see_decimals(path: Path, store: SqliteStore) -> None:
    """The view shows each number at its place, and times that can be read."""
    values = [8313790, 8315570, 8308290, 8308490, 102437, 851429261220, 4409, 49832, 414180593340]
    row = [1_791_382_920_000, *values, 5, 9, bar(0, revision=4)[FLAGS]]
    store.write(batch((0, row)), NOTHING)
    found = query(path, "SELECT * FROM klines_decimal")
    expected = ("BTCUSDT", "1m", 1_791_382_920_000, "2026-10-07 14:22:00")
    expected += (83137.9, 83155.7, 83082.9, 83084.9, 102.437, 8514292.6122, 4409)  # type: ignore[assignment]
    expected += (49.832, 4141805.9334, 1, 4)  # type: ignore[assignment]
    assert [expected] == found


@settings(max_examples=40)
@given(st.integers(0, 2**53), st.integers(0, 9), st.integers(0, 9))
def test_the_decimal_view_is_the_nearest_float(value: int, price: int, quantity: int) -> None:
    """At any scales."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "klines.db"
        store = opened(path, registry(symbol("BTCUSDT", 1, price, quantity)))
        store.write(batch((0, [BASE, *[value] * 6, 1, value, value, 1, 1, 1])), NOTHING)
        store.close()
        columns = "high, volume, taker_buy_quote_volume"
        ((high, volume, quote),) = query(path, f"SELECT {columns} FROM klines_decimal")  # noqa: S608
        assert high == value / 10**price
        assert volume == value / 10**quantity
        assert quote == pytest.approx(value / 10 ** (price + quantity), rel=1e-15)


def test_a_newer_schema_is_refused_and_left_alone(path: Path, store: SqliteStore) -> None:
    """With both versions in the message."""
    store.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE meta SET value = '99' WHERE key = 'schema_version'")
        connection.commit()
    before = path.read_bytes()
    text = f"expected schema version {schema.VERSION} or older, was 99"
    with pytest.raises(SchemaError, match=text):
        SqliteStore(path).open()
    assert before == path.read_bytes()


@pytest.mark.parametrize(
    "script",
    [
        "CREATE TABLE candles (x)",
        "CREATE TABLE meta (x)",
        "CREATE TABLE meta (key, value)",
        "CREATE TABLE meta (key, value); INSERT INTO meta VALUES ('schema_version', 'two')",
        "CREATE TABLE meta (key, value); INSERT INTO meta VALUES ('schema_version', NULL)",
        "CREATE TABLE meta (key, value); INSERT INTO meta VALUES ('schema_version', '0')",
    ],
)
def test_a_foreign_database_is_refused_and_left_alone(tmp_path: Path, script: str) -> None:
    """Somebody else's file is not ours to change, not even its journal mode."""
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)
    before = path.read_bytes()
    with pytest.raises(SchemaError, match=r"other.db: expected"):
        SqliteStore(path).open()
    assert before == path.read_bytes()
    assert [path] == list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"not a database at all" * 100, b"SQLite format 3\0junk" * 99])
def test_a_file_that_is_no_database_is_a_store_error(tmp_path: Path, content: bytes) -> None:
    """And is left alone."""
    path = tmp_path / "text.db"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"cannot open .*text.db"):
        SqliteStore(path).open()
    assert content == path.read_bytes()


def test_a_place_that_cannot_be_opened_is_a_store_error(tmp_path: Path) -> None:
    """A directory, or a path through a file."""
    (tmp_path / "file").write_text("x")
    for path in (tmp_path, tmp_path / "file" / "klines.db"):
        with pytest.raises(StoreError, match="cannot open"):
            SqliteStore(path).open()


def test_a_locked_database_is_a_store_error_and_nothing_has_changed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readers go on, and once it is free everything works again."""
    monkeypatch.setattr(sqlite_file, "BUSY_TIMEOUT_S", 0.05)
    store = opened(path)
    store.write(batch((0, bar(BASE))), NOTHING)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match=r"cannot write .*locked"):
            store.write(batch((0, bar(BASE, 99, revision=1))), batch((0, bar(BASE))))
        with pytest.raises(StoreError, match="locked"):
            store.attach(registry(symbol("NEWUSDT")))
        assert [bar(BASE)] == rows_of(store)
        other.execute("ROLLBACK")
    assert dict(store.read_live()) == {}
    assert set(store.known_symbols()) == {"BTCUSDT", "ETHUSDT"}
    store.write(batch((0, bar(BASE, 99, revision=1))), NOTHING)
    assert [bar(BASE, 99, revision=1)] == rows_of(store)
    store.close()


def test_a_failed_commit_is_a_store_error_and_the_next_works(store: SqliteStore) -> None:
    """The transaction is rolled back, so that a new one can begin."""

    def deny(action: int, argument: str | None, *_rest: str | None) -> int:
        commit = action == sqlite3.SQLITE_TRANSACTION and argument == "COMMIT"
        return sqlite3.SQLITE_DENY if commit else sqlite3.SQLITE_OK

    assert store._file.writer is not None
    store._file.writer.set_authorizer(deny)
    with pytest.raises(StoreError):
        store.write(batch((0, bar(BASE))), NOTHING)
    store._file.writer.set_authorizer(None)
    assert rows_of(store) == []
    store.write(batch((0, bar(BASE, 8))), NOTHING)
    assert [bar(BASE, 8)] == rows_of(store)


def test_a_full_disk_is_a_store_error_and_nothing_has_changed(store: SqliteStore) -> None:
    """As far as SQLite can be made to believe in one."""
    store.write(batch((0, bar(BASE))), NOTHING)
    assert store._file.writer is not None
    (pages,) = store._file.writer.execute("PRAGMA page_count").fetchone()
    store._file.writer.execute(f"PRAGMA max_page_count = {pages}")
    many = batch(*[(0, bar(BASE + number * MINUTE)) for number in range(1, 2_000)])
    with pytest.raises(StoreError, match="full"):
        store.write(many, NOTHING)
    assert [bar(BASE)] == rows_of(store)
    store._file.writer.execute("PRAGMA max_page_count = 1000000")
    store.write(many, NOTHING)
    assert len(rows_of(store)) == 2_000


def test_readers_and_the_writer_do_not_wait_for_each_other(path: Path, store: SqliteStore) -> None:
    """While a transaction is under way, the state before it is read."""
    store.write(batch((0, bar(BASE))), NOTHING)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("UPDATE klines SET open = 0")
        assert [bar(BASE)] == rows_of(store)
        other.execute("ROLLBACK")


def test_a_closed_store_says_so(path: Path) -> None:
    """Closing again is harmless, writing is an error; the WAL is folded into the file."""
    store = opened(path)
    store.write(batch((0, bar(BASE))), NOTHING)
    rows_of(store)
    assert store.size() > 0
    store.close()
    store.close()
    with pytest.raises(StoreError, match="is closed"):
        store.write(batch((0, bar(BASE))), NOTHING)
    assert [path] == list(path.parent.iterdir())


def test_a_file_is_known_by_every_name(path: Path, store: SqliteStore, tmp_path: Path) -> None:
    """Through a link or a detour; another file is another database."""
    link = tmp_path / "link.db"
    link.symlink_to(path)
    detour = path.parent / ".." / path.parent.name / path.name
    assert store.identity() == SqliteStore(link).identity() == SqliteStore(detour).identity()
    other = opened(tmp_path / "other.db")
    assert store.identity() != other.identity()
    other.close()


def test_asking_whether_a_file_exists_makes_none(path: Path, tmp_path: Path) -> None:
    """Nor is an empty one filled, or a foreign one taken for ours."""
    assert not SqliteStore(path).exists()
    assert not path.parent.exists()
    empty = tmp_path / "empty.db"
    empty.touch()
    assert not SqliteStore(empty).exists()
    assert empty.stat().st_size == 0
    with closing(sqlite3.connect(tmp_path / "foreign.db")) as foreign:
        foreign.execute("CREATE TABLE notes (text)")
    with pytest.raises(SchemaError):
        SqliteStore(tmp_path / "foreign.db").exists()


def test_a_url_names_a_file() -> None:
    """Relative with three slashes, absolute with four."""
    assert open_store("sqlite:///klines.db").name == "klines.db"
    assert open_store("sqlite:////var/lib/klines.db").name == "/var/lib/klines.db"


def test_tables_hold_integers_only(path: Path, store: SqliteStore) -> None:
    """A value that is not one is an error, not a silent float."""
    store.write(batch((0, bar(BASE))), NOTHING)
    with pytest.raises(sqlite3.IntegrityError):
        query(path, "UPDATE klines SET open = 1.5")
