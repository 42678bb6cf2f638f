"""The outbox keeps the newest state of each bar, until it is taken."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from klinetrio.domain.kline import FIELD_COUNT
from klinetrio.engine.outbox import Outbox
from klinetrio.engine.publication import ClosedBar


def bar(open_time: int, value: int = 0) -> list[int]:
    """Return the values of a bar."""
    return [open_time] + [value] * (FIELD_COUNT - 1)


@given(
    st.lists(
        st.one_of(st.none(), st.tuples(st.integers(0, 2), st.integers(1, 4), st.booleans())),
        max_size=40,
    )
)
def test_each_take_gives_the_newest_states_since_the_last(
    steps: list[tuple[int, int, bool] | None],
) -> None:
    """Each bar once, oldest first; one that was to be announced stays to be announced."""
    outbox = Outbox()
    waiting: dict[tuple[int, int], tuple[int, bool]] = {}
    for number, step in enumerate([*steps, None]):
        if step is not None:
            row, opened, announce = step
            assert ((row, opened) in waiting) == outbox.holds(row, opened)
            outbox.put(row, bar(opened, number), announce=announce)
            before = waiting.get((row, opened), (0, False))
            waiting[row, opened] = number, announce or before[1]
            continue
        announced, proved = outbox.take()
        for found, wanted in ((announced, True), (proved, False)):
            expected = {
                ClosedBar(row, tuple(bar(opened, value)))
                for (row, opened), (value, announce) in waiting.items()
                if announce is wanted
            }
            assert expected == set(found)
            assert len(expected) == len(found)
            opens = [each.values[0] for each in found]
            assert sorted(opens) == opens
        waiting.clear()
        assert outbox.take() == ([], [])


def test_what_is_in_the_outbox_does_not_change_with_its_source() -> None:
    """The book goes on with its row."""
    outbox = Outbox()
    values = bar(60_000, 1)
    outbox.put(0, values, announce=True)
    values[1] = 99
    assert outbox.take()[0] == [ClosedBar(0, tuple(bar(60_000, 1)))]
