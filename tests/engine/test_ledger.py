"""The ledger lets each id through once and never proves what is not known."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from klinetrio.engine.ledger import MAX_HOLES, MAX_JUMP, IdLedger, Verdict


def time_of(agg_id: int) -> int:
    """Return the time of a trade in these tests."""
    return agg_id * 10


@given(st.lists(st.integers(100, 140), min_size=1, max_size=80))
def test_each_id_passes_once_and_holes_are_what_is_missing(ids: list[int]) -> None:
    """Whatever comes in whatever order, seen ids and holes are exactly the range (I1-I3)."""
    ledger = IdLedger()
    ledger.anchor(99, time_of(99))
    fresh = {Verdict.NEW, Verdict.FILLS}
    passed = [agg_id for agg_id in ids if ledger.see(agg_id, time_of(agg_id)) in fresh]

    missing = [i for hole in ledger.holes for i in range(hole.first, hole.last + 1)]
    assert sorted(set(ids)) == sorted(passed)
    assert sorted(set(range(100, max(ids) + 1)) - set(ids)) == missing
    assert max(ids) == ledger.newest


@given(st.sets(st.integers(100, 140), min_size=1), st.integers(990, 1400), st.integers(1, 300))
def test_a_span_with_a_missing_trade_is_never_proved(
    ids: set[int], start: int, length: int
) -> None:
    """Proof means that every trade of the span has passed (I4)."""
    ledger = IdLedger()
    ledger.anchor(99, time_of(99))
    for agg_id in sorted(ids):
        ledger.see(agg_id, time_of(agg_id))
    inside = {i for i in range(100, 141) if start <= time_of(i) < start + length}

    if ledger.proves(start, start + length):
        assert inside <= ids


def test_nothing_is_proved_before_the_anchor_or_beyond_the_newest_trade() -> None:
    """The first trade's own millisecond is not proved, and a bar needs a younger trade."""
    ledger = IdLedger()
    ledger.see(5, 1_000)
    ledger.see(6, 2_000)

    assert not ledger.proves(1_000, 1_500)
    assert ledger.proves(1_001, 2_000)
    assert not ledger.proves(1_001, 2_001)
    assert ledger.proves_since(1_001)
    assert not ledger.proves_since(1_000)


def test_klines_close_older_holes_and_take_over_their_span() -> None:
    """What the exchange's klines cover needs no ids, and ids prove nothing there."""
    ledger = IdLedger()
    ledger.anchor(1, 1_000)
    ledger.see(4, 4_000)
    ledger.see(9, 9_000)

    ledger.cover(6_000, 500)

    assert [(5, 8, 6_000, 9_000)] == [(h.first, h.last, h.since, h.until) for h in ledger.holes]
    assert not ledger.proves(4_000, 5_000)
    assert not ledger.proves(5_000, 7_000)


def test_an_absurd_jump_is_believed_only_when_confirmed() -> None:
    """One mad id changes nothing; the exchange going on from it does."""
    ledger = IdLedger()
    ledger.anchor(10, 1_000)
    mad = 10 + MAX_JUMP + 5

    assert ledger.see(mad, 1_001) is Verdict.IMPLAUSIBLE
    assert ledger.see(11, 1_002) is Verdict.NEW
    assert ledger.see(mad, 1_003) is Verdict.IMPLAUSIBLE
    assert ledger.see(mad + 1, 1_004) is Verdict.NEW
    assert [(12, mad)] == [(hole.first, hole.last) for hole in ledger.holes]


def test_too_many_holes_are_given_up_and_nothing_before_them_is_proved() -> None:
    """Holes are bounded, and giving one up is never taken for having filled it."""
    ledger = IdLedger()
    ledger.anchor(0, 0)
    for number in range(1, MAX_HOLES + 5):
        ledger.see(number * 2, time_of(number * 2))

    assert MAX_HOLES == len(ledger.holes)
    assert ledger.overflowed
    for number in range(1, MAX_HOLES + 5):
        ledger.see(number * 2 - 1, time_of(number * 2 - 1))
    assert not ledger.holes
    assert not ledger.proves(1, time_of(40))
    newest = ledger.newest_time
    ledger.cover(newest, 1)
    ledger.see(2 * MAX_HOLES + 9, newest + 10)
    assert not ledger.overflowed
    assert ledger.proves_since(1)
