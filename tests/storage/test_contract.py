"""What every database of klines promises, asked of all of them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from klinetrio.domain.interval import parse_intervals
from klinetrio.domain.kline import FLAGS, OPEN, OPEN_TIME, TRADE_COUNT, Flag, is_complete
from klinetrio.engine.registry import SymbolPeriodRegistry
from klinetrio.errors import ScalesChanged, StoreError
from klinetrio.storage import postgres_schema, schema
from klinetrio.storage.protocol import Batch
from tests.storage.backends import SqliteBackend, rows_of, with_sql
from tests.storage.bars import BASE, MINUTE, NOTHING, bar, batch, registry, symbol


if TYPE_CHECKING:
    from klinetrio.storage.protocol import KlineStore
    from tests.storage.backends import Backend


def test_what_is_written_is_read_back_exactly(backend: Backend, store: KlineStore) -> None:
    """All thirteen fields, also at the ends of 64 bits, and after opening again."""
    edge = [BASE, 2**63 - 1, -(2**63), 0, -1, 1, 2**62, 5, 6, 7, -1, -1, bar(0)[FLAGS]]
    plain = bar(BASE + MINUTE, bits=Flag.FINAL | Flag.BACKFILLED, revision=2**30)
    store.write(batch((0, edge), (0, plain)), NOTHING)
    assert [edge, plain] == rows_of(store)
    store.close()

    again = backend.opened()
    assert [edge, plain] == rows_of(again)
    again.close()


def test_series_do_not_mix(store: KlineStore) -> None:
    """The same open time in every series of every symbol."""
    store.write(batch(*[(row, bar(BASE, row)) for row in range(6)]), NOTHING)
    for row in range(6):
        assert [bar(BASE, row)] == rows_of(store, row)


def test_writing_twice_is_writing_once(store: KlineStore) -> None:
    """A batch that is repeated after a failure changes nothing."""
    closed = batch((0, bar(BASE)), (1, bar(BASE)), (0, bar(BASE + MINUTE)))
    live = batch((0, bar(BASE + 2 * MINUTE, bits=0)))
    for _ in range(3):
        store.write(closed, live)
    assert [bar(BASE), bar(BASE + MINUTE)] == rows_of(store)
    assert {0: tuple(bar(BASE + 2 * MINUTE, bits=0))} == dict(store.read_live())


def test_whoever_consults_reads_and_changes_nothing(backend: Backend, store: KlineStore) -> None:
    """Series that are not stored are empty, and can be no place for bars."""
    store.write(batch((3, bar(BASE))), batch((3, bar(BASE + MINUTE, bits=0))))
    reader = backend.make()
    reader.open()
    before = reader.stored_series(), reader.known_symbols()
    reader.consult(registry(symbol("ETHUSDT", 2), symbol("NEWUSDT", 3)))
    assert [bar(BASE)] == rows_of(reader, 0)
    assert rows_of(reader, 1) == rows_of(reader, 3) == []
    assert list(reader.read_live()) == [0]
    assert reader.first_time(3) is None
    assert before == (reader.stored_series(), reader.known_symbols())
    with pytest.raises(StoreError):
        reader.write(batch((3, bar(BASE))), NOTHING)
    with pytest.raises(StoreError, match="expected 3 decimals"):
        reader.consult(registry(symbol("ETHUSDT", 2, 3, 3)))
    assert before == (reader.stored_series(), reader.known_symbols())
    reader.close()


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


# Every example begins with an empty series, so that they can share a database.
@with_sql
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(states=st.lists(STATES, min_size=1, max_size=12), data=st.data())
def test_the_best_state_stays_whatever_the_order(
    backend: Backend, store: KlineStore, states: list[list[int]], data: st.DataObject
) -> None:
    """Proved before unproved, then the higher revision, then more trades; among equals the first."""
    backend.query("DELETE FROM klines")
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
    store: KlineStore,
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


def test_live_rows_are_overwritten_and_never_history(store: KlineStore) -> None:
    """One per series, the newest; even an older state replaces it, as it is only a snapshot."""
    first, second = bar(BASE, 1, bits=Flag.COMPLETE), bar(BASE + MINUTE, 2, bits=0)
    store.write(NOTHING, batch((0, first), (4, first)))
    store.write(NOTHING, batch((0, second)))
    assert {0: tuple(second), 4: tuple(first)} == dict(store.read_live())
    assert rows_of(store) == []


@with_sql
def test_rows_mean_the_registry_that_is_attached(backend: Backend, store: KlineStore) -> None:
    """A new symbol, a gone one and another order change no bar's series."""
    store.write(batch((0, bar(BASE, 1)), (3, bar(BASE, 2))), batch((3, bar(BASE, 3, bits=0))))
    store.close()

    old, new = symbol("ETHUSDT", 2), symbol("AAAUSDT", 1)
    again = backend.opened(registry(new, old))
    assert rows_of(again, 0) == []
    assert rows_of(again, 3) == [bar(BASE, 2)]
    assert dict(again.read_live()) == {3: tuple(bar(BASE, 3, bits=0))}
    indexes = backend.query("SELECT name, symbol_index FROM symbols ORDER BY name")
    assert indexes == [("AAAUSDT", 0), ("BTCUSDT", None), ("ETHUSDT", 1)]
    again.close()


def test_a_changed_set_of_intervals_forgets_nothing(backend: Backend, store: KlineStore) -> None:
    """An interval that comes back finds its bars."""
    store.write(batch((1, bar(BASE, 5))), NOTHING)
    store.close()
    other = SymbolPeriodRegistry.ranked([symbol("BTCUSDT", 1)], parse_intervals(["5m", "1w"]))
    again = backend.opened(other)
    assert rows_of(again, 0) == [bar(BASE, 5)]
    assert rows_of(again, 1) == []
    again.close()


def test_known_symbols_come_back_as_they_were(store: KlineStore) -> None:
    """Scales, assets, and names that are not ASCII."""
    chinese = symbol("币安人生USDT", 3, 7, 0)
    store.attach(registry(symbol("BTCUSDT", 1), chinese))
    known = store.known_symbols()
    assert known["币安人生USDT"] == chinese
    assert set(known) == {"BTCUSDT", "ETHUSDT", "币安人生USDT"}


def test_the_listing_time_is_the_earliest_known(store: KlineStore) -> None:
    """The first daily bar or what the exchange says, whichever is earlier."""
    store.attach(registry(symbol("BTCUSDT", BASE), symbol("ETHUSDT", BASE)))
    day = 86_400_000
    early = BASE - BASE % day - 5 * day
    store.write(batch((2, bar(early)), (2, bar(early + day)), (0, bar(early - day))), NOTHING)
    known = store.known_symbols()
    assert (early, BASE) == (known["BTCUSDT"].listing_time, known["ETHUSDT"].listing_time)

    store.write(batch((5, bar(BASE + day))), NOTHING)
    assert store.known_symbols()["ETHUSDT"].listing_time == BASE


def test_all_stored_series_are_found(backend: Backend, store: KlineStore) -> None:
    """Closed, open or only looked through; of symbols and intervals that nobody follows too."""
    assert set() == store.stored_series()
    store.write(batch((0, bar(BASE)), (0, bar(BASE + MINUTE)), (5, bar(BASE))), NOTHING)
    store.write(NOTHING, batch((0, bar(BASE, bits=0)), (3, bar(BASE, bits=0))))
    store.write_history(NOTHING, {4: (BASE, BASE + MINUTE)})
    expected = {("BTCUSDT", "1m")} | {("ETHUSDT", name) for name in ("1m", "5m", "1d")}
    assert expected == store.stored_series()

    other = SymbolPeriodRegistry.ranked([symbol("NEWUSDT", 9)], parse_intervals(["1w", "1M"]))
    again = backend.opened(other)
    again.write(batch((1, bar(BASE))), NOTHING)
    assert {*expected, ("NEWUSDT", "1M")} == again.stored_series()
    again.close()


@with_sql
def test_finding_series_does_not_read_their_bars(backend: Backend, store: KlineStore) -> None:
    """Whatever an index does not lead to is a bar that is read for nothing."""
    month = 31 * 86_400_000
    for number in range(4):
        opens = BASE - number * month + np.arange(2_000) * MINUTE
        rows = np.tile(np.array(bar(BASE)), (2_000, 1))
        rows[:, OPEN_TIME] = opens
        for row in (0, 1, 3):
            store.write(Batch(np.full(2_000, row), rows), NOTHING)
    if isinstance(backend, SqliteBackend):
        plan = backend.query(f"EXPLAIN QUERY PLAN {schema.SELECT_SERIES}")
        read = [str(step[-1]) for step in plan if "klines" in str(step[-1])]
        assert all("SEARCH klines USING PRIMARY KEY" in step for step in read)
    else:
        backend.query("ANALYZE")
        asked = f"EXPLAIN (ANALYZE) {postgres_schema.SELECT_STORED_SERIES}"
        read = [str(step) for (step,) in backend.query(asked) if "on klines_" in str(step)]
        assert all(" rows=0 " in step or " rows=1 " in step for step in read if "actual" in step)
        assert not any("Seq Scan on klines_2026" in step for step in read)
    assert read
    assert {("BTCUSDT", "1m"), ("BTCUSDT", "5m"), ("ETHUSDT", "1m")} == store.stored_series()


def test_a_database_exists_once_it_was_opened(backend: Backend) -> None:
    """Asking makes none."""
    store = backend.make()
    assert [False, False] == [store.exists(), store.exists()]
    store.open()
    assert store.damage() == []
    store.close()
    assert store.exists()


def test_scales_that_have_grown_are_noticed(backend: Backend, store: KlineStore) -> None:
    """By whoever has read bars at the old ones."""
    store.check_scales()
    other = backend.make()
    other.open()
    other.regrow([symbol("ETHUSDT", 2, 3, 3)])
    other.close()
    with pytest.raises(ScalesChanged, match="of ETHUSDT, were 3 decimals"):
        store.check_scales()


@with_sql
def test_bars_are_rescaled_when_a_scale_grows(backend: Backend, store: KlineStore) -> None:
    """Closed and open ones of that symbol alone; prices, quantities and quotes by their own."""
    store.write(batch((0, bar(BASE)), (3, bar(BASE))), batch((0, bar(BASE, bits=0))))
    store.attach(registry(symbol("BTCUSDT", 1, 3, 5), symbol("ETHUSDT", 2)))
    plain = bar(BASE)
    prices = [value * 10 for value in plain[1:5]]
    expected = [BASE, *prices, plain[5] * 100, plain[6] * 1000, 3, 100, 2000, *plain[10:]]
    assert [expected] == rows_of(store, 0)
    assert [plain] == rows_of(store, 3)
    assert [*expected[:FLAGS], 0] == list(store.read_live()[0])
    assert backend.query("SELECT price_scale, quantity_scale FROM symbols") == [(3, 5), (2, 3)]

    store.attach(registry(symbol("BTCUSDT", 1, 3, 5), symbol("ETHUSDT", 2)))
    assert [expected] == rows_of(store, 0)


@with_sql
def test_a_rescale_that_does_not_fit_changes_nothing(backend: Backend, store: KlineStore) -> None:
    """A number beyond 64 bits is an error, never a rounded one."""
    huge = bar(BASE, 2**62)
    store.write(batch((0, huge), (3, bar(BASE))), NOTHING)
    with pytest.raises(StoreError):
        store.attach(registry(symbol("BTCUSDT", 1, 3, 3), symbol("ETHUSDT", 2, 5, 5)))
    assert [huge] == rows_of(store, 0)
    assert [bar(BASE)] == rows_of(store, 3)
    assert backend.query("SELECT DISTINCT price_scale, quantity_scale FROM symbols") == [(2, 3)]
    store.write(batch((0, bar(BASE + MINUTE))), NOTHING)
    assert len(rows_of(store)) == 2


def test_a_batch_is_written_whole_or_not_at_all(store: KlineStore) -> None:
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


def test_many_threads_read_and_write(store: KlineStore) -> None:
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


@with_sql
def test_bars_of_nobody_are_a_damage(backend: Backend, store: KlineStore) -> None:
    """As where rows of another table are lost."""
    store.write(batch((0, bar(BASE)), (1, bar(BASE)), (3, bar(BASE))), NOTHING)
    assert store.damage() == []
    backend.query("DELETE FROM series" if "postgres" in store.url else "DELETE FROM symbols")
    assert "have bars in klines and no row in" in store.damage()[0]


@with_sql
def test_the_condition_finds_the_bars_of_one_series(backend: Backend) -> None:
    """Also of a symbol whose name has a quote in it."""
    store = backend.opened(registry(symbol("O'NEILUSDT"), symbol("ETHUSDT")))
    store.write(batch(*[(row, bar(BASE, row)) for row in range(6)]), NOTHING)
    where = store.condition("O'NEILUSDT", "5m")
    found = backend.query(f"SELECT open FROM klines WHERE {where}")  # noqa: S608
    assert [(bar(BASE, 4)[OPEN],)] == found
    store.close()
