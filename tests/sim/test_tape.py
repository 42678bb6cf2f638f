"""Trades kept for REST, and sets of ids."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from klinetrio.sim import IdSet, SimTrade
from klinetrio.sim.tape import Tape


def make_trade(agg_id: int, time: int = 0) -> SimTrade:
    """Return a trade of which only id and time matter."""
    return SimTrade(agg_id, 1, 2, 2, agg_id, agg_id, time, agg_id % 2 == 0)


ids = st.lists(st.integers(0, 40), max_size=60)


@given(ids)
def test_tape_is_sorted_and_has_each_trade_once(arrivals: list[int]) -> None:
    """Trades may come in any order and more than once."""
    tape = Tape()
    news = [tape.add(make_trade(each)) for each in arrivals]
    assert [make_trade(each) for each in sorted(set(arrivals))] == list(tape)
    assert len(set(arrivals)) == sum(news)


@given(ids, st.integers(0, 45), st.integers(1, 10))
def test_from_id_is_inclusive(arrivals: list[int], start: int, limit: int) -> None:
    """``fromId`` begins with that id, or with the next one there is."""
    tape = Tape()
    for each in arrivals:
        tape.add(make_trade(each))
    expected = [each for each in sorted(set(arrivals)) if each >= start][:limit]
    assert expected == [trade.agg_id for trade in tape.from_id(start, limit)]


@given(
    st.lists(st.integers(0, 30), max_size=40),
    st.none() | st.integers(0, 30),
    st.none() | st.integers(0, 30),
    st.integers(1, 10),
)
def test_between_selects_by_time(
    times: list[int], start: int | None, end: int | None, limit: int
) -> None:
    """Both bounds are inclusive; a start gives the first ones, no start the last ones."""
    tape = Tape()
    for agg_id, time in enumerate(times):
        tape.add(make_trade(agg_id, time))
    inside = [
        agg_id
        for agg_id, time in enumerate(times)
        if (start is None or time >= start) and (end is None or time <= end)
    ]
    expected = inside[:limit] if start is not None else inside[-limit:]
    assert expected == [trade.agg_id for trade in tape.between(start, end, limit)]


def test_tape_forgets_the_oldest() -> None:
    """The bound holds, and what is forgotten is the oldest."""
    tape = Tape(limit=100)
    for agg_id in range(1_000):
        tape.add(make_trade(agg_id))
    assert 90 <= len(tape) <= 100
    assert tape[-1].agg_id == 999
    assert tape[0].agg_id == 1_000 - len(tape)


@given(st.lists(st.integers(0, 60)))
def test_id_set_is_a_set(numbers: list[int]) -> None:
    """Whatever is added in whatever order is in it, once."""
    found = IdSet()
    for number in numbers:
        found.add(number)
    assert sorted(set(numbers)) == list(found)
    assert len(set(numbers)) == len(found)
    assert [number in found for number in range(62)] == [n in set(numbers) for n in range(62)]


@given(st.permutations(range(30)))
def test_id_set_joins_runs(numbers: list[int]) -> None:
    """A gapless run is one range, however it came."""
    found = IdSet()
    for number in numbers:
        found.add(number)
    assert found.ranges == [(0, 29)]
