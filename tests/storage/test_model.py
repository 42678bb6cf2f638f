"""SQLite and PostgreSQL answer as dictionaries do, whatever was written, settled and rescaled before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from klinetrio.domain.interval import parse_intervals
from klinetrio.domain.kline import Flag
from klinetrio.engine.registry import SymbolPeriodRegistry
from tests.storage.backends import MemoryBackend, PostgresBackend, SqliteBackend
from tests.storage.bars import BASE, MINUTE, batch, symbol


if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from klinetrio.storage.protocol import KlineStore
    from tests.storage.backends import Backend

SYMBOLS = ("BTCUSDT", "ETHUSDT")
ROWS, TIMES = 4, 5

# What a bar's flags say: by trades, proved or not, or the exchange's.
BITS = [
    Flag.FINAL,
    Flag.FINAL | Flag.COMPLETE,
    Flag.FINAL | Flag.COMPLETE | Flag.BACKFILLED,
    Flag.FINAL | Flag.COMPLETE | Flag.SETTLED,
]


@attrs.frozen
class Write:
    """What a run writes as time passes."""

    closed: list[tuple[int, list[int]]]
    live: list[tuple[int, list[int]]]

    def do(self, store: KlineStore) -> object:
        """Do it."""
        store.write(batch(*self.closed), batch(*self.live))
        return None


@attrs.frozen
class WriteHistory:
    """What the exchange tells of the past."""

    closed: list[tuple[int, list[int]]]
    checked: dict[int, tuple[int, int]]

    def do(self, store: KlineStore) -> object:
        """Do it."""
        return store.write_history(batch(*self.closed), self.checked)


@attrs.frozen
class Settle:
    """What the audit has found."""

    closed: list[tuple[int, list[int]]]

    def do(self, store: KlineStore) -> object:
        """Do it."""
        return store.settle(batch(*self.closed))


@attrs.frozen
class Start:
    """A run begins: with which symbols and intervals first, and how many more decimals."""

    turned: bool
    daily: bool
    more: tuple[int, int]

    def do(self, store: KlineStore) -> object:
        """Do it; decimals only grow, from those that are stored."""
        known = store.known_symbols()
        symbols = [self._symbol(name, known) for name in SYMBOLS]
        intervals = parse_intervals(["1m", "1d" if self.daily else "5m"])
        order = symbols[::-1] if self.turned else symbols
        store.attach(SymbolPeriodRegistry(tuple(order), intervals))
        return None

    def _symbol(self, name: str, known: Mapping[str, Any]) -> Any:
        price, quantity = self.more if name == SYMBOLS[0] else (0, 0)
        old = known.get(name)
        scales = (old.price_scale + price, old.quantity_scale + quantity) if old else (2, 3)
        return symbol(name, BASE, *scales)


# Small numbers, so that many are the same, and none outgrows 64 bits by a few more decimals.
BARS = st.builds(
    lambda row, number, value, bits, revision: (
        row,
        [BASE + number * MINUTE, *[value] * 6, value % 3, *[value] * 4, bits | revision << 8],
    ),
    st.integers(0, ROWS - 1),
    st.integers(0, TIMES - 1),
    st.integers(1, 4),
    st.sampled_from(BITS),
    st.integers(0, 2),
)
SPANS = st.tuples(st.integers(0, 9), st.integers(0, 9))
STEPS = st.one_of(
    st.builds(Write, st.lists(BARS, max_size=5), st.lists(BARS, max_size=3)),
    st.builds(
        WriteHistory,
        st.lists(BARS, max_size=5),
        st.dictionaries(st.integers(0, ROWS - 1), SPANS, max_size=2),
    ),
    st.builds(Settle, st.lists(BARS, max_size=5)),
    st.builds(Start, st.booleans(), st.booleans(), st.tuples(st.integers(0, 1), st.integers(0, 1))),
)
WINDOWS = st.tuples(
    st.one_of(st.none(), st.integers(-1, TIMES)),
    st.one_of(st.none(), st.integers(-1, TIMES)),
    st.integers(1, TIMES + 1),
)


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    """Return a real database."""
    if request.param == "sqlite":
        return SqliteBackend(tmp_path / "klines.db")
    return PostgresBackend(request.getfixturevalue("postgres_url"))


@pytest.fixture
def store(database: Backend) -> Iterator[KlineStore]:
    """Return its store, open."""
    made = database.make()
    made.open()
    yield made
    made.close()


def answers(store: KlineStore, window: tuple[int | None, int | None, int]) -> list[object]:
    """Return all that can be asked of a store."""
    start, end = (None if each is None else BASE + each * MINUTE for each in window[:2])
    low, high = start or BASE, end or BASE + TIMES * MINUTE
    rows = range(ROWS)
    return [
        [store.read(row, start=None, end=None, limit=99).tolist() for row in rows],
        [store.read(row, start=start, end=end, limit=window[2]).tolist() for row in rows],
        {row: list(bar) for row, bar in store.read_live().items()},
        {row: tuple(span) for row, span in store.read_checked().items()},
        [store.first_time(row) for row in rows],
        [np.asarray(store.proved_times(row, low, high)).tolist() for row in rows],
        store.stored_series(),
        dict(store.known_symbols()),
    ]


# Every example begins with empty tables, so that they can share a database.
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, min_size=1, max_size=8), window=WINDOWS)
def test_a_database_answers_as_the_model_does(
    database: Backend,
    store: KlineStore,
    steps: list[Write | WriteHistory | Settle | Start],
    window: tuple[int | None, int | None, int],
) -> None:
    """After every step, to every question."""
    tables = ["klines", "live", "checked", "symbols"]
    if isinstance(database, PostgresBackend):
        tables.insert(3, "series")
    for table in tables:
        database.query(f"DELETE FROM {table}")  # noqa: S608  (names of our own)
    model = MemoryBackend().make()
    model.open()
    for step in (Start(turned=False, daily=True, more=(0, 0)), *steps):
        assert step.do(store) == step.do(model)
        assert answers(store, window) == answers(model, window)
