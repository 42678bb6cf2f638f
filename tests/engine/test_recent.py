"""Recent bars are found again exactly, and the youngest stay."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klinetrio.domain.interval import HOUR, INTERVALS, parse_intervals
from klinetrio.domain.kline import FIELD_COUNT, OPEN_TIME
from klinetrio.engine.recent import HORIZON_MS, RecentBars
from tests.engine.strategies import BASE_TIME


ALL = parse_intervals(INTERVALS)
PERIODS = st.integers(0, len(ALL) - 1)


def bar(open_time: int, value: int = 1) -> list[int]:
    """Return a bar that can be told from others."""
    return [open_time] + [value] * (FIELD_COUNT - 1)


@given(st.lists(st.tuples(PERIODS, st.integers(0, 300), st.integers(1, 99)), max_size=60))
def test_what_was_put_last_is_got_or_nothing(puts: list[tuple[int, int, int]]) -> None:
    """A bar is its newest state, or gone because a younger one took its place (I1)."""
    recent = RecentBars(ALL)
    last: dict[tuple[int, int], int] = {}
    youngest: dict[int, int] = {}
    for index, back, value in puts:
        opened = ALL[index].open_of(BASE_TIME - back * ALL[index].length)
        recent.put(index, bar(opened, value))
        last[index, opened] = value
        youngest[index] = max(youngest.get(index, 0), opened)
    for (index, opened), value in last.items():
        found = recent.get(index, opened)
        assert found is None or found[1] == value
        age = ALL[index].ordinal(youngest[index]) - ALL[index].ordinal(opened)
        assert age >= recent.slots(index) or found == bar(opened, value)


@pytest.mark.parametrize("index", range(len(ALL)), ids=map(str, ALL))
def test_two_hours_of_every_interval_are_kept(index: int) -> None:
    """So that what is repaired in that time still finds its bar."""
    recent, interval = RecentBars(ALL), ALL[index]
    opens = [interval.open_of(BASE_TIME)]
    while len(opens) < recent.slots(index):
        opens.append(interval.next_open(opens[-1]))
    for opened in opens:
        recent.put(index, bar(opened))
    assert all(recent.get(index, opened) == bar(opened) for opened in opens)
    assert opens[-1] - opens[0] >= HORIZON_MS == 2 * HOUR
    recent.put(index, bar(interval.next_open(opens[-1])))
    assert recent.get(index, opens[0]) is None


def test_a_late_old_bar_does_not_push_out_a_young_one() -> None:
    """A step back in time is forgotten, not kept in place of what is newer."""
    recent = RecentBars(parse_intervals(["1m"]))
    young, old = BASE_TIME, BASE_TIME - recent.slots(0) * 60_000
    recent.put(0, bar(young))
    recent.put(0, bar(old))
    assert recent.get(0, young) == bar(young)
    assert recent.get(0, old) is None


def test_a_bar_got_is_a_copy() -> None:
    """Changing it changes nothing here."""
    recent = RecentBars(parse_intervals(["1m"]))
    recent.put(0, bar(BASE_TIME))
    got = recent.get(0, BASE_TIME)
    assert got is not None
    got[1] = 77
    assert recent.get(0, BASE_TIME) == bar(BASE_TIME)


def test_a_value_beyond_64_bits_changes_nothing() -> None:
    """The bar before it stays whole."""
    recent = RecentBars(parse_intervals(["1m"]))
    recent.put(0, bar(BASE_TIME))
    with pytest.raises(OverflowError):
        recent.put(0, [*bar(BASE_TIME, 5)[:-1], 2**63])
    assert recent.get(0, BASE_TIME) == bar(BASE_TIME)


def test_memory_is_what_the_constant_says() -> None:
    """177 slots of 104 bytes for the default intervals."""
    intervals = parse_intervals(["1m", "5m", "15m", "30m", "1h", "4h", "1d", "1w"])
    recent = RecentBars(intervals)
    assert sum(recent.slots(index) for index in range(len(intervals))) == 177
    assert sum(slots.nbytes for slots in recent._slots) == 177 * 104


def test_an_empty_slot_is_no_bar() -> None:
    """Nothing is found before anything was put."""
    recent = RecentBars(ALL)
    for index, interval in enumerate(ALL):
        assert recent.get(index, interval.open_of(BASE_TIME)) is None
    assert bar(5)[OPEN_TIME] == 5
