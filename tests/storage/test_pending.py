"""Closed bars wait until exactly their newest state is written."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from klinetrio.domain.kline import FIELD_COUNT, Flag
from klinetrio.engine.publication import ClosedBar
from klinetrio.storage.pending import PendingBars, rank
from tests.storage.bars import BASE, MINUTE, bar


def closed(row: int, number: int, value: int) -> ClosedBar:
    """Return a bar of a series that can be told from others."""
    return ClosedBar(row, tuple(bar(BASE + number * MINUTE, value)))


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.integers(0, 2), st.integers(0, 3)),
            st.tuples(st.sampled_from(["begin", "commit", "fail"])),
        ),
        max_size=60,
    )
)
def test_a_bar_stays_until_its_newest_state_is_written(
    steps: list[tuple[str, int, int] | tuple[str]],
) -> None:
    """Whatever comes while a transaction is under way, and however often one fails (I1)."""
    pending = PendingBars()
    newest: dict[tuple[int, int], ClosedBar] = {}
    written: dict[tuple[int, int], tuple[int, ...]] = {}
    under_way = None
    for value, step in enumerate(steps):
        match step:
            case ("add", row, number):
                added = closed(int(row), int(number), value)
                newest[int(row), int(number)] = added
                pending.add([added])
            case ("begin",):
                under_way = pending.batch()
            case ("commit",) if under_way is not None:
                for row, values in zip(
                    under_way.series.tolist(), under_way.bars.tolist(), strict=True
                ):
                    written[row, (values[0] - BASE) // MINUTE] = tuple(values)
                pending.forget(under_way)
                under_way = None
            case _:
                under_way = None
        waiting = {
            (row, (values[0] - BASE) // MINUTE): values
            for row in range(3)
            for values in pending.of_series(row)
        }
        expected = {
            key: added.values for key, added in newest.items() if written.get(key) != added.values
        }
        assert expected == waiting
        assert len(waiting) == len(pending)


def test_a_batch_is_bounded_and_the_rest_follows() -> None:
    """After a long outage one transaction does not hold everything."""
    pending = PendingBars()
    pending.add(closed(row, number, 1) for row in range(10) for number in range(4))
    seen = []
    while len(pending):
        batch = pending.batch(10)
        assert len(batch) == min(10, len(pending))
        seen += batch.series.tolist()
        pending.forget(batch)
    assert [row for row in range(10) for _ in range(4)] == seen


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5), st.integers(0, 2)), max_size=40))
def test_bars_leave_in_the_order_in_which_they_came(
    added: list[tuple[int, int, int]],
) -> None:
    """A correction keeps the place of the bar that it corrects (I3)."""
    pending = PendingBars()
    for row, number, revision in added:
        values = bar(BASE + number * MINUTE, revision=revision)
        pending.add([ClosedBar(row, tuple(values))])
    expected = list(dict.fromkeys((row, BASE + number * MINUTE) for row, number, _ in added))
    batch = pending.batch()
    assert expected == list(zip(batch.series.tolist(), batch.bars[:, 0].tolist(), strict=True))


@given(
    st.lists(st.integers(0, 1), min_size=1, max_size=12),
    st.integers(0, 12),
)
def test_what_is_given_up_is_named_and_corrections_go_last(
    revisions: list[int], number: int
) -> None:
    """A correction that is lost would leave a bar that looks whole; a missing one is found."""
    pending = PendingBars()
    pending.add(
        ClosedBar(each % 3, tuple(bar(BASE + each * MINUTE, revision=revision)))
        for each, revision in enumerate(revisions)
    )
    keys = [(each % 3, BASE + each * MINUTE) for each in range(len(revisions))]
    harmless_first = sorted(range(len(keys)), key=lambda each: revisions[each])
    expected = [keys[each] for each in harmless_first][:number]
    assert expected == pending.give_up(number)
    assert len(keys) - len(expected) == len(pending)
    left = {(row, values[0]) for row in range(3) for values in pending.of_series(row)}
    assert set(keys) - set(expected) == left


def test_nothing_waiting_is_an_empty_batch() -> None:
    """Of the right shape."""
    batch = PendingBars().batch()
    assert len(batch) == 0
    assert batch.bars.shape == (0, FIELD_COUNT)
    assert PendingBars().of_series(3) == []


def test_the_better_state_has_the_higher_rank() -> None:
    """Final, proved, corrected, and with more trades, in this order."""
    ascending = [
        bar(BASE, bits=0, trades=0),
        bar(BASE, bits=0, trades=5),
        bar(BASE, bits=0, revision=9),
        bar(BASE, bits=Flag.COMPLETE),
        bar(BASE, bits=Flag.FINAL, trades=1),
        bar(BASE, bits=Flag.FINAL, trades=2),
        bar(BASE, bits=Flag.FINAL, revision=1, trades=0),
        bar(BASE, bits=Flag.FINAL | Flag.COMPLETE),
        bar(BASE, bits=Flag.FINAL | Flag.COMPLETE, revision=2),
    ]
    ranks = [rank(each) for each in ascending]
    assert sorted(ranks) == ranks
    assert len(set(ranks)) == len(ranks)
    assert rank(bar(BASE, bits=Flag.FINAL | Flag.BACKFILLED)) == rank(bar(BASE, bits=Flag.FINAL))
