"""How bars come into PostgreSQL's tables: appended or merged, what is stored is the same."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from klinetrio.domain.kline import FLAGS, TRADE_COUNT, Flag, is_complete
from klinetrio.storage import postgres_bars
from klinetrio.storage.postgres_bars import DISTRUST_S, layers_of
from klinetrio.storage.protocol import Batch
from tests.postgres import new_database, open_server
from tests.storage.backends import PostgresBackend, rows_of
from tests.storage.bars import BASE, MINUTE, NOTHING, bar, batch
from tests.storage.on_postgres import opened


if TYPE_CHECKING:
    from collections.abc import Iterator

    from klinetrio.storage.postgres import PostgresStore

# What the server's log says of an append that came too late.
REFUSED = "duplicate key value"


@pytest.fixture
def stores(postgres_url: str) -> Iterator[list[PostgresStore]]:
    """Return the stores of two processes in one database."""
    made = [opened(postgres_url), opened(postgres_url)]
    yield made
    for store in made:
        store.close()


STATES = st.builds(
    lambda row, number, complete, revision, value: (
        row,
        bar(
            BASE + number * MINUTE,
            value,
            bits=Flag.FINAL | (Flag.COMPLETE if complete else 0),
            revision=revision,
        ),
    ),
    st.integers(0, 2),
    st.integers(0, 5),
    st.booleans(),
    st.integers(0, 2),
    st.integers(0, 1_000),
)
WRITES = st.tuples(st.integers(0, 1), st.lists(STATES, min_size=1, max_size=6))


def precedence(row: list[int]) -> tuple[bool, int, int]:
    """Return what the better of two states is told by."""
    return is_complete(row), row[FLAGS] >> 8, row[TRADE_COUNT]


# Every example begins with empty tables, so that they can share a database: what the stores remember
# of the one before makes their guesses only worse.
@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(writes=st.lists(WRITES, min_size=1, max_size=12))
def test_the_way_in_makes_no_difference(
    stores: list[PostgresStore], writes: list[tuple[int, list[tuple[int, list[int]]]]]
) -> None:
    """I1: two processes write the same series in any order, and guess wrong again and again."""
    PostgresBackend(stores[0].url).query("DELETE FROM klines")
    best: dict[tuple[int, int], list[int]] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postgres_bars, "DISTRUST_S", 0.0)
        for writer, bars in writes:
            stores[writer].write(batch(*bars), NOTHING)
            for row, state in bars:
                known = best.setdefault((row, state[0]), state)
                if precedence(state) > precedence(known):
                    best[row, state[0]] = state
    for row in range(3):
        expected = [best[key] for key in sorted(best) if key[0] == row]
        assert rows_of(stores[0], row) == expected


def test_a_wrong_guess_is_one_line_in_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """I2: what follows is merged for a while; then appending is tried again."""
    now = 1_000.0
    clock = SimpleNamespace(monotonic=lambda: now, time_ns=time.time_ns)
    monkeypatch.setattr(postgres_bars, "time", clock)
    with open_server() as server, new_database(server.url) as url:
        one, other = opened(url), opened(url)

        def both(number: int) -> int:
            closed = batch(*[(row, bar(BASE + number * MINUTE)) for row in range(3)])
            other.write(closed, NOTHING)
            one.write(closed, NOTHING)
            return (server.folder / "log").read_text().count(REFUSED)

        # What is stored is not known at first, so nothing is guessed.
        assert [both(number) for number in range(5)] == [0, 1, 1, 1, 1]
        now += DISTRUST_S
        assert [both(number) for number in range(5, 8)] == [2, 2, 2]
        for row in range(3):
            assert rows_of(one, row) == [bar(BASE + number * MINUTE) for number in range(8)]
        one.close()
        other.close()


def test_layers_keep_the_order_of_one_bar() -> None:
    """Each bar is once in a layer, its states in theirs."""
    times = np.array([5, 6, 5, 5, 6, 7], np.int64)
    bars = np.zeros((6, 13), np.int64)
    bars[:, 0] = times
    layers = [each.tolist() for each in layers_of(Batch(np.zeros(6, np.int64), bars))]
    assert layers == [[0, 1, 5], [2, 4], [3]]
