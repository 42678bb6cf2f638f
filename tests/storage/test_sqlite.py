"""What a database of klines promises, asked of SQLite."""

from __future__ import annotations

import sqlite3
import tempfile
import threading
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klinetrio.domain.interval import parse_intervals
from klinetrio.domain.kline import FLAGS, OPEN, OPEN_TIME, TRADE_COUNT, Flag, is_complete
from klinetrio.engine.registry import SymbolPeriodRegistry
from klinetrio.errors import SchemaError, StoreError
from klinetrio.storage import schema, sqlite_file
from klinetrio.storage.enrolment import merge_scales
from klinetrio.storage.sqlite import SqliteStore, open_store
from tests.storage.bars import BASE, MINUTE, NOTHING, bar, batch, registry, symbol


if TYPE_CHECKING:
    from collections.abc import Iterator


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


def query(path: Path, text: str) -> list[tuple[object, ...]]:
    """Ask the file as a person with the sqlite3 prompt would."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(text).fetchall()


def test_what_is_written_is_read_back_exactly(path: Path, store: SqliteStore) -> None:
    """All thirteen fields, also at the ends of 64 bits, and after opening again."""
    edge = [BASE, 2**63 - 1, -(2**63), 0, -1, 1, 2**62, 5, 6, 7, -1, -1, bar(0)[FLAGS]]
    plain = bar(BASE + MINUTE, bits=Flag.FINAL | Flag.BACKFILLED, revision=2**40)
    store.write(batch((0, edge), (0, plain)), NOTHING)
    assert [edge, plain] == rows_of(store)
    store.close()

    again = opened(path)
    assert [edge, plain] == rows_of(again)
    again.close()


def test_series_do_not_mix(store: SqliteStore) -> None:
    """The same open time in every series of every symbol."""
    store.write(batch(*[(row, bar(BASE, row)) for row in range(6)]), NOTHING)
    for row in range(6):
        assert [bar(BASE, row)] == rows_of(store, row)


def test_writing_twice_is_writing_once(store: SqliteStore) -> None:
    """A batch that is repeated after a failure changes nothing."""
    closed = batch((0, bar(BASE)), (1, bar(BASE)), (0, bar(BASE + MINUTE)))
    live = batch((0, bar(BASE + 2 * MINUTE, bits=0)))
    for _ in range(3):
        store.write(closed, live)
    assert [bar(BASE), bar(BASE + MINUTE)] == rows_of(store)
    assert {0: tuple(bar(BASE + 2 * MINUTE, bits=0))} == dict(store.read_live())


STATES = st.builds(
    lambda complete, revision, trades, value: bar(
        BASE,
        value,
        bits=Flag.FINAL | (Flag.COMPLETE if complete else 0),
        revision=revision,
        trades=trades,
    ),
    st.booleans(),
    st.integers(0, 3),
    st.integers(0, 3),
    st.integers(0, 1_000),
)


def precedence(row: list[int]) -> tuple[bool, int, int]:
    """Return what the better of two states is told by."""
    return is_complete(row), row[FLAGS] >> 8, row[TRADE_COUNT]


@settings(max_examples=60)
@given(st.lists(STATES, min_size=1, max_size=12), st.data())
def test_the_best_state_stays_whatever_the_order(
    states: list[list[int]], data: st.DataObject
) -> None:
    """Proved before unproved, then the higher revision, then more trades; among equals the first."""
    with tempfile.TemporaryDirectory() as folder:
        store = opened(Path(folder) / "klines.db")
        best = states[0]
        for number, state in enumerate(states):
            best = state if number and precedence(state) > precedence(best) else best
        position = 0
        while position < len(states):
            size = data.draw(st.integers(1, len(states) - position))
            part = states[position : position + size]
            store.write(batch(*[(0, state) for state in part]), NOTHING)
            position += size
        assert [best] == rows_of(store)
        store.close()


@pytest.mark.parametrize(
    ("start", "end", "limit", "expected"),
    [
        (None, None, 3, [7, 8, 9]),
        (None, None, 99, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (None, 5, 3, [3, 4, 5]),
        (None, 5.5, 3, [3, 4, 5]),
        (2, None, 3, [2, 3, 4]),
        (1.5, None, 3, [2, 3, 4]),
        (2, 3, 99, [2, 3]),
        (2, 2, 1, [2]),
        (9, None, 5, [9]),
        (9.1, None, 5, []),
        (None, -1, 5, []),
        (5, 4, 5, []),
    ],
)
def test_a_window_is_inclusive_and_ascending(
    store: SqliteStore,
    start: float | None,
    end: float | None,
    limit: int,
    expected: list[int],
) -> None:
    """The first ones from a start, else the last ones."""
    store.write(batch(*[(1, bar(BASE + number * MINUTE)) for number in range(10)]), NOTHING)

    def moment(number: float | None) -> int | None:
        return None if number is None else BASE + round(number * MINUTE)

    found = store.read(1, start=moment(start), end=moment(end), limit=limit)
    assert found.shape == (len(expected), 13)
    assert [BASE + number * MINUTE for number in expected] == found[:, OPEN_TIME].tolist()


def test_live_rows_are_overwritten_and_never_history(store: SqliteStore) -> None:
    """One per series, the newest; even an older state replaces it, as it is only a snapshot."""
    first, second = bar(BASE, 1, bits=Flag.COMPLETE), bar(BASE + MINUTE, 2, bits=0)
    store.write(NOTHING, batch((0, first), (4, first)))
    store.write(NOTHING, batch((0, second)))
    assert {0: tuple(second), 4: tuple(first)} == dict(store.read_live())
    assert rows_of(store) == []


def test_rows_mean_the_registry_that_is_attached(path: Path, store: SqliteStore) -> None:
    """A new symbol, a gone one and another order change no bar's series."""
    store.write(batch((0, bar(BASE, 1)), (3, bar(BASE, 2))), batch((3, bar(BASE, 3, bits=0))))
    store.close()

    old, new = symbol("ETHUSDT", 2), symbol("AAAUSDT", 1)
    again = opened(path, registry(new, old))
    assert rows_of(again, 0) == []
    assert rows_of(again, 3) == [bar(BASE, 2)]
    assert dict(again.read_live()) == {3: tuple(bar(BASE, 3, bits=0))}
    indexes = query(path, "SELECT name, symbol_index FROM symbols ORDER BY name")
    assert indexes == [("AAAUSDT", 0), ("BTCUSDT", None), ("ETHUSDT", 1)]
    again.close()


def test_a_changed_set_of_intervals_forgets_nothing(path: Path, store: SqliteStore) -> None:
    """An interval that comes back finds its bars."""
    store.write(batch((1, bar(BASE, 5))), NOTHING)
    store.close()
    other = SymbolPeriodRegistry.ranked([symbol("BTCUSDT", 1)], parse_intervals(["5m", "1w"]))
    again = opened(path, other)
    assert rows_of(again, 0) == [bar(BASE, 5)]
    assert rows_of(again, 1) == []
    again.close()


def test_known_symbols_come_back_as_they_were(store: SqliteStore) -> None:
    """Scales, assets, and names that are not ASCII."""
    chinese = symbol("币安人生USDT", 3, 7, 0)
    store.attach(registry(symbol("BTCUSDT", 1), chinese))
    known = store.known_symbols()
    assert known["币安人生USDT"] == chinese
    assert set(known) == {"BTCUSDT", "ETHUSDT", "币安人生USDT"}


def test_the_listing_time_is_the_earliest_known(store: SqliteStore) -> None:
    """The first daily bar or what the exchange says, whichever is earlier."""
    store.attach(registry(symbol("BTCUSDT", BASE), symbol("ETHUSDT", BASE)))
    day = 86_400_000
    early = BASE - BASE % day - 5 * day
    store.write(batch((2, bar(early)), (2, bar(early + day)), (0, bar(early - day))), NOTHING)
    known = store.known_symbols()
    assert (early, BASE) == (known["BTCUSDT"].listing_time, known["ETHUSDT"].listing_time)

    store.write(batch((5, bar(BASE + day))), NOTHING)
    assert store.known_symbols()["ETHUSDT"].listing_time == BASE


def test_merging_takes_the_larger_scales_and_the_earlier_listing() -> None:
    """Scales never shrink; a relisted symbol keeps its age."""
    now, stored = symbol("BTCUSDT", 50, 1, 4), symbol("BTCUSDT", 30, 2, 3)
    assert symbol("BTCUSDT", 30, 2, 4) == merge_scales(now, stored)
    assert symbol("BTCUSDT", 50, 1, 4) == merge_scales(now, None)


def test_bars_are_rescaled_when_a_scale_grows(path: Path, store: SqliteStore) -> None:
    """Closed and open ones of that symbol alone; prices, quantities and quotes by their own."""
    store.write(batch((0, bar(BASE)), (3, bar(BASE))), batch((0, bar(BASE, bits=0))))
    store.attach(registry(symbol("BTCUSDT", 1, 3, 5), symbol("ETHUSDT", 2)))
    plain = bar(BASE)
    prices = [value * 10 for value in plain[1:5]]
    expected = [BASE, *prices, plain[5] * 100, plain[6] * 1000, 3, 100, 2000, *plain[10:]]
    assert [expected] == rows_of(store, 0)
    assert [plain] == rows_of(store, 3)
    assert [*expected[:FLAGS], 0] == list(store.read_live()[0])
    assert query(path, "SELECT price_scale, quantity_scale FROM symbols") == [(3, 5), (2, 3)]

    store.attach(registry(symbol("BTCUSDT", 1, 3, 5), symbol("ETHUSDT", 2)))
    assert [expected] == rows_of(store, 0)


def test_a_rescale_that_does_not_fit_changes_nothing(path: Path, store: SqliteStore) -> None:
    """A number beyond 64 bits is an error, never a rounded one."""
    huge = bar(BASE, 2**62)
    store.write(batch((0, huge), (3, bar(BASE))), NOTHING)
    with pytest.raises(StoreError):
        store.attach(registry(symbol("BTCUSDT", 1, 3, 3), symbol("ETHUSDT", 2, 5, 5)))
    assert [huge] == rows_of(store, 0)
    assert [bar(BASE)] == rows_of(store, 3)
    assert query(path, "SELECT DISTINCT price_scale, quantity_scale FROM symbols") == [(2, 3)]
    store.write(batch((0, bar(BASE + MINUTE))), NOTHING)
    assert len(rows_of(store)) == 2


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


def test_a_batch_is_written_whole_or_not_at_all(store: SqliteStore) -> None:
    """A bad bar in the middle leaves none of the others behind."""
    good = batch((0, bar(BASE)), (0, bar(BASE + MINUTE)))
    with pytest.raises(IndexError):
        store.write(batch((0, bar(BASE)), (99, bar(BASE))), NOTHING)
    assert rows_of(store) == []
    with pytest.raises(IndexError):
        store.write(good, batch((99, bar(BASE))))
    assert rows_of(store) == []
    store.write(good, NOTHING)
    assert len(rows_of(store)) == 2


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


def test_many_threads_read_and_write(store: SqliteStore) -> None:
    """Each read is one moment of the database: all bars of a transaction or none."""
    failures: list[object] = []

    def read() -> None:
        try:
            for _ in range(100):
                values = {row[OPEN] for row in rows_of(store)}
                if len(values) > 1:
                    failures.append(values)
        except Exception as error:  # noqa: BLE001  (told by the main thread)
            failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for revision in range(30):
        bars = [bar(BASE + n * MINUTE, revision, revision=revision) for n in range(20)]
        store.write(batch(*[(0, each) for each in bars]), NOTHING)
    for thread in threads:
        thread.join()
    assert failures == []


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


def test_a_url_names_a_file() -> None:
    """Relative with three slashes, absolute with four."""
    assert open_store("sqlite:///klines.db").path == Path("klines.db")
    assert open_store("sqlite:////var/lib/klines.db").path == Path("/var/lib/klines.db")


def test_tables_hold_integers_only(path: Path, store: SqliteStore) -> None:
    """A value that is not one is an error, not a silent float."""
    store.write(batch((0, bar(BASE))), NOTHING)
    with pytest.raises(sqlite3.IntegrityError):
        query(path, "UPDATE klines SET open = 1.5")
