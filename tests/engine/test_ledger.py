"""The ledger lets each id through once and never proves what is not known."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from klinetrio.engine.ledger import (
    CONTRADICTIONS,
    MAX_DISORDER_MS,
    MAX_HOLES,
    MAX_JUMP,
    RESTART_PAUSE_MS,
    IdLedger,
    Verdict,
)


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


def test_what_was_suspected_before_a_right_id_confirms_nothing() -> None:
    """Wrong ids between right ones never add up, however near each other they are."""
    ledger = IdLedger()
    ledger.anchor(10, 1_000)
    for number in range(20):
        assert ledger.see(10**9 + number, 1_001 + number) is Verdict.IMPLAUSIBLE
        assert ledger.see(11 + number, 1_001 + number) is Verdict.NEW
    assert not ledger.holes


def test_the_exchange_s_own_word_needs_no_confirmation() -> None:
    """Neither for a jump nor for ids that started over."""
    ledger = IdLedger()
    ledger.anchor(10, 1_000)
    ledger.vouch(10**9)
    assert ledger.see(10**9, 1_001) is Verdict.NEW
    young = 1_001 + MAX_DISORDER_MS + 1
    assert ledger.see(3, young) is Verdict.CONTRADICTS
    ledger.vouch(3)
    assert ledger.see(3, young) is Verdict.RESTARTS


def test_young_trades_with_old_ids_restart_the_ledger() -> None:
    """Three in a row, of rising ids; then the new count goes on, and nothing before is proved."""
    ledger = IdLedger()
    ledger.anchor(1_000, 5_000)
    ledger.see(1_003, 6_000)
    young = 6_000 + MAX_DISORDER_MS + 1
    for agg_id in range(1, CONTRADICTIONS):
        assert ledger.see(agg_id, young) is Verdict.CONTRADICTS
    assert ledger.see(CONTRADICTIONS, young) is Verdict.RESTARTS
    assert ledger.whole_until == 5_000

    ledger.restart(CONTRADICTIONS, young)
    assert not ledger.holes
    assert not ledger.proves_since(young)
    assert ledger.see(CONTRADICTIONS + 1, young + 10) is Verdict.NEW
    assert ledger.proves(young + 1, young + 10)
    assert not ledger.proves(young - 1, young + 10)


def test_one_wrong_frame_sent_often_contradicts_once() -> None:
    """The same id again is no further evidence, and neither are ids far from each other."""
    ledger = IdLedger()
    ledger.anchor(10**6, 5_000)
    young = 5_000 + MAX_DISORDER_MS + 1
    for agg_id in (7, 7, 7, 7, 6, 5, 4, 3, 50_000, 100_000, 200_000, 9):
        assert ledger.see(agg_id, young) is Verdict.CONTRADICTS


def test_a_credible_trade_between_ends_the_count() -> None:
    """Whether it is the next one or fills a hole; a mere duplicate says nothing."""
    ledger = IdLedger()
    ledger.anchor(1_000, 5_000)
    ledger.see(1_003, 6_000)
    young = 8_000
    for between in ((1_001, 5_500), (1_004, 6_001)):
        for agg_id in range(1, CONTRADICTIONS):
            assert ledger.see(agg_id, young) is Verdict.CONTRADICTS
        assert ledger.see(*between) in {Verdict.FILLS, Verdict.NEW}
    for agg_id in range(1, CONTRADICTIONS):
        assert ledger.see(agg_id, young) is Verdict.CONTRADICTS
        assert ledger.see(900, 4_000) is Verdict.DUPLICATE
    assert ledger.see(CONTRADICTIONS, young) is Verdict.RESTARTS


@given(
    st.lists(st.integers(0, 3_000), min_size=1, max_size=60),
    st.data(),
)
def test_what_the_exchange_really_sent_never_restarts_the_ledger(
    steps: list[int], data: st.DataObject
) -> None:
    """Doubled, out of order, replayed as a whole after a reconnect, and times a little mixed."""
    times = [10**6 + sum(steps[: number + 1]) for number in range(len(steps))]
    jitter = st.integers(-MAX_DISORDER_MS // 2, MAX_DISORDER_MS // 2)
    real = [(100 + number, time + data.draw(jitter)) for number, time in enumerate(times)]
    replay = data.draw(st.integers(0, len(real)))
    frames = [*real[:replay], *real[: data.draw(st.integers(0, replay))], *real[replay:]]
    if data.draw(st.booleans()):
        frames = data.draw(st.permutations(frames))
    ledger = IdLedger()
    allowed = {Verdict.NEW, Verdict.FILLS, Verdict.DUPLICATE}
    # The first trade is the anchor, so it is sent first, as nothing is known to be before it.
    assert all(ledger.see(*frame) in allowed for frame in [real[0], *frames])


@given(
    st.integers(1, 10**7),
    st.integers(1, 10**7),
    st.lists(st.integers(1, 5_000), min_size=10, max_size=40),
)
def test_a_count_that_starts_over_is_followed(old: int, new: int, steps: list[int]) -> None:
    """Wherever it starts, soon after the disorder that is allowed every id is the next one."""
    ledger = IdLedger()
    ledger.anchor(old, 10**6)
    time, verdicts = 10**6 + MAX_DISORDER_MS, []
    for number, step in enumerate(steps):
        time += step
        verdict = ledger.see(new + number, time)
        if verdict is Verdict.RESTARTS:
            ledger.restart(new + number, time)
        verdicts.append(verdict)
    # A hole below stays, for repair, if the new count starts above the old one.
    assert ledger.newest == new + len(steps) - 1
    assert {Verdict.NEW} == set(verdicts[CONTRADICTIONS:]) - {Verdict.FILLS}


@given(st.integers(1, 3 * MAX_JUMP), st.integers(4, 30), st.integers(2, 3_000))
def test_one_wrong_id_ahead_is_got_over(ahead: int, after: int, step: int) -> None:
    """Right ids after it are taken again after a few, and nothing is proved on its word."""
    ledger = IdLedger()
    ledger.anchor(10, 10**6)
    ledger.see(10 + ahead, 10**6 + 1)
    taken = []
    for number in range(1, after + 1):
        time = 10**6 + number * step
        verdict = ledger.see(10 + number, time)
        if verdict is Verdict.RESTARTS:
            ledger.restart(10 + number, time)
        taken.append(verdict)
        if number == ahead:
            # Its own id: what has been folded under it was wrong.
            assert not ledger.proves_since(10**6 + 1)
    late = [verdict for verdict in taken if verdict is Verdict.CONTRADICTS]
    assert len(late) < CONTRADICTIONS
    assert {Verdict.NEW, Verdict.FILLS, Verdict.RESTARTS, Verdict.CONTRADICTS} >= set(taken)


@given(
    st.lists(
        st.tuples(st.integers(0, 40) | st.integers(0, 10**8), st.integers(-20_000, 20_000)),
        max_size=200,
    )
)
@example([(0, MAX_DISORDER_MS + 1), (1, -MAX_DISORDER_MS - 1), (2, 0), (3, 0)])
def test_restarts_are_paced_and_go_back_in_time_for_new_ids_only(
    frames: list[tuple[int, int]],
) -> None:
    """Whatever comes: at most one per pause of trade time (I5)."""
    ledger = IdLedger()
    now, restarts = 10**6, []
    for agg_id, step in frames:
        now = max(10**6, now + step)
        newest, newest_time = ledger.newest, ledger.newest_time
        if ledger.see(agg_id, now) is Verdict.RESTARTS:
            # Several new ids that are all older than one trade show that its time was wrong.
            assert now > newest_time or agg_id > (newest or 0)
            ledger.restart(agg_id, now)
            restarts.append(now)
    assert all(b - a >= RESTART_PAUSE_MS for a, b in pairwise(restarts))


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
