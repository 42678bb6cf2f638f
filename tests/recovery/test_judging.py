"""Every difference from the exchange's klines that has a reason is explained, and no other."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klinetrio.domain.interval import MINUTE
from klinetrio.domain.kline import (
    CLOSE,
    FIELDS,
    FIRST_AGG_ID,
    FLAGS,
    HIGH,
    LOW,
    NO_ID,
    OPEN,
    OPEN_TIME,
    TAKER_BUY_QUOTE_VOLUME,
    TAKER_BUY_VOLUME,
    TRADE_COUNT,
    Flag,
)
from klinetrio.recovery.explaining import FEW_HOLES
from klinetrio.recovery.judging import (
    Agreement,
    Amount,
    Finding,
    Standing,
    Verdict,
    conclude,
    judge,
)
from klinetrio.sim.bars import LiveMinutes
from klinetrio.sim.fills import FIRST_ID, Fill, Pace, Shares, aggregate, as_trade, make_fills
from klinetrio.sim.tape import SimTrade


if TYPE_CHECKING:
    from collections.abc import Sequence

    Rows = list[list[int]]

# Wednesday 2026-10-07 14:24 UTC.
START = 1_791_383_040_000
MINUTES = 40
END = START + MINUTES * MINUTE
CLOSED = Flag.FINAL | Flag.COMPLETE

NONE = Shares(straddles=0, forced=0, holes=0)
STRADDLES = attrs.evolve(NONE, straddles=0.3)
FORCED = attrs.evolve(NONE, forced=0.02)
HOLES = attrs.evolve(NONE, holes=0.02)
# More of everything than was ever seen, but for the straddles.
LIVELY = Shares(straddles=0.15, forced=0.001, holes=0.003)

seeds = st.integers(0, 2**32)
rates = st.sampled_from([0.5, 3.0, 12.0])


@attrs.frozen
class World:
    """One symbol's fills, and the bars that either side makes of them."""

    fills: list[Fill]
    trades: list[SimTrade]
    ours: Rows
    theirs: Rows


def make_world(seed: int, shares: Shares, rate: float = 12.0) -> World:
    """Return some minutes from a seed."""
    pace = Pace(bursts_per_minute=rate)
    fills = make_fills(seed, start=START, minutes=MINUTES, pace=pace, shares=shares)
    trades = aggregate(fills)
    theirs = fold([as_trade(fill, NO_ID) for fill in fills])
    return World(fills, trades, fold(trades), theirs)


def fold(trades: Sequence[SimTrade]) -> Rows:
    """Return the closed bars of trades."""
    live = LiveMinutes()
    for trade in trades:
        live.add(trade)
    rows = live.dense(START, END, (Pace().price, FIRST_ID - 1))
    return [[*row, CLOSED] for row in rows.tolist()]


def judge_all(ours: Rows, theirs: Rows) -> list[Finding]:
    """Judge all bars, also the newest."""
    findings, standing = judge(Standing(), ours, theirs)
    return [*findings, *conclude(standing)]


def verdicts(world: World, ours: Rows | None = None) -> list[Verdict]:
    """Return the verdict of each bar."""
    return [each.verdict for each in judge_all(ours or world.ours, world.theirs)]


def differs(our: Sequence[int], their: Sequence[int]) -> bool:
    """Tell whether any of the nine values differs."""
    return list(our[OPEN:FIRST_AGG_ID]) != list(their[OPEN:FIRST_AGG_ID])


def amount_of(fills: Sequence[Fill]) -> Amount:
    """Return the sums of fills."""
    taken = [each for each in fills if not each.buyer_is_maker]
    return Amount(
        sum(each.quantity for each in fills),
        sum(each.quantity * each.price for each in fills),
        len(fills),
        sum(each.quantity for each in taken),
        sum(each.quantity * each.price for each in taken),
    )


def find_straddles(world: World) -> dict[int, Amount]:
    """Return by open time what an aggregate of the bar has beyond its end."""
    beyond: dict[int, list[Fill]] = defaultdict(list)
    for trade in world.trades:
        opened = trade.time - trade.time % MINUTE
        for fill in world.fills:
            inside = trade.first_id <= fill.fill_id <= trade.last_id
            if inside and fill.time >= opened + MINUTE:
                beyond[opened].append(fill)
    return {opened: amount_of(fills) for opened, fills in beyond.items()}


@settings(max_examples=40, deadline=None)
@given(seed=seeds, rate=rates)
def test_every_straddle_is_found(seed: int, rate: float) -> None:
    """Where only straddles happen each is found in its size, and nothing else is."""
    world = make_world(seed, STRADDLES, rate)
    findings = judge_all(world.ours, world.theirs)

    left = {each.open_time: each.left for each in findings if each.left}
    assert find_straddles(world) == left
    entered = {each.open_time - MINUTE: each.entered for each in findings if each.entered}
    assert entered == left
    for our, their, finding in zip(world.ours, world.theirs, findings, strict=True):
        expected = Verdict.STRADDLE if differs(our, their) else Verdict.EQUAL
        assert expected is finding.verdict


@settings(max_examples=20, deadline=None)
@given(seed=seeds, rate=rates)
def test_too_high_counts_are_found(seed: int, rate: float) -> None:
    """Where ids are no fills, only the count differs, by as many."""
    world = make_world(seed, HOLES, rate)
    for our, their, finding in zip(
        world.ours, world.theirs, judge_all(world.ours, world.theirs), strict=True
    ):
        overcount = our[TRADE_COUNT] - their[TRADE_COUNT]
        if overcount <= FEW_HOLES:
            assert overcount == finding.overcount
            assert (Verdict.COUNT if overcount else Verdict.EQUAL) is finding.verdict


@settings(max_examples=20, deadline=None)
@given(seed=seeds, rate=rates)
def test_forced_fills_are_explained(seed: int, rate: float) -> None:
    """Where some fills are in no aggregate, nothing stays unexplained."""
    world = make_world(seed, FORCED, rate)
    forced = defaultdict(list)
    for fill in world.fills:
        if fill.is_forced:
            forced[fill.time - fill.time % MINUTE].append(fill)
    expected = {opened: amount_of(fills) for opened, fills in forced.items()}

    assert Verdict.UNEXPLAINED not in verdicts(world)
    findings = judge_all(world.ours, world.theirs)
    assert expected == {each.open_time: -each.difference for each in findings if each.difference}


def test_forced_fills_are_told_from_straddles() -> None:
    """Forced fills at the very price of a straddle happen, but seldom."""
    found = Agreement()
    for seed in range(20):
        world = make_world(seed, FORCED)
        found += Agreement.of(judge_all(world.ours, world.theirs))
    assert found.forced > 100
    assert found.straddle + found.seam < found.forced // 50


@settings(max_examples=30, deadline=None)
@given(seed=seeds, rate=rates)
def test_equal_means_equal(seed: int, rate: float) -> None:
    """Whatever happens: a bar is found equal if and only if it is."""
    world = make_world(seed, Shares(straddles=0.5, forced=0.05, holes=0.05), rate)
    for our, their, verdict in zip(world.ours, world.theirs, verdicts(world), strict=True):
        assert differs(our, their) is (verdict is not Verdict.EQUAL)


def test_a_lively_market_is_explained() -> None:
    """With everything at once hardly anything stays unexplained: of 800 bars at most two.

    Where forced fills fall together with holes in the ids or with straddles at both ends, three
    numbers are known of a bar and more are wanted.
    """
    found = Agreement()
    for seed in range(20):
        world = make_world(seed, LIVELY)
        found += Agreement.of(judge_all(world.ours, world.theirs))
    assert found.compared == 20 * MINUTES
    assert found.straddle > 100
    assert found.count > 10
    assert found.forced > 5
    assert found.unexplained <= 2


@settings(max_examples=20, deadline=None)
@given(seed=seeds, data=st.data())
def test_pieces_are_judged_like_the_whole(seed: int, data: st.DataObject) -> None:
    """How a run is cut into calls does not matter."""
    world = make_world(seed, LIVELY)
    cuts = data.draw(st.lists(st.integers(0, MINUTES), max_size=6).map(sorted))
    standing = Standing()
    found: list[Finding] = []
    for start, end in zip([0, *cuts], [*cuts, MINUTES], strict=True):
        findings, standing = judge(standing, world.ours[start:end], world.theirs[start:end])
        found += findings
    assert judge_all(world.ours, world.theirs) == [*found, *conclude(standing)]


def test_rows_may_be_numpy() -> None:
    """The rows of the engine and of REST are accepted as they are."""
    world = make_world(1, LIVELY)
    ours, theirs = np.array(world.ours), np.array([[*row[:FLAGS], 0] for row in world.theirs])
    findings, _ = judge(Standing(), ours, theirs)
    assert tuple(judge_all(world.ours, world.theirs)[:-1]) == findings


# What is at fault is our bar or its trade: ``change`` gets one with all before it, in place.


@pytest.mark.parametrize("by", [-1, 1])
@pytest.mark.parametrize("field", range(OPEN, FIRST_AGG_ID), ids=lambda field: FIELDS[field])
def test_one_field_off_by_one_is_found(field: int, by: int) -> None:
    """No value of an equal bar can be off by the least without being noticed."""
    for seed in range(5):
        world = make_world(seed, NONE)
        ours = [list(row) for row in world.ours]
        ours[20][field] += by
        expected = [Verdict.EQUAL] * MINUTES
        # Holes in the ids look exactly like this.
        is_overcount = field == TRADE_COUNT and by > 0
        expected[20] = Verdict.COUNT if is_overcount else Verdict.UNEXPLAINED
        assert expected == verdicts(world, ours)


@pytest.mark.parametrize("seed", range(20))
def test_what_never_happened_is_found(seed: int) -> None:
    """A trade taken twice, or with another quantity, price or side, is noticed."""
    world = make_world(seed, NONE, rate=6.0)
    index = len(world.trades) // 2
    trade = world.trades[index]
    wrong = [
        [trade, trade],
        [trade._replace(quantity=trade.quantity + 1)],
        [trade._replace(quantity=trade.quantity - 1)],
        [trade._replace(price=trade.price + 3)],
        [trade._replace(buyer_is_maker=not trade.buyer_is_maker)],
    ]
    for instead in wrong:
        ours = fold([*world.trades[:index], *instead, *world.trades[index + 1 :]])
        assert Verdict.UNEXPLAINED in verdicts(world, ours), instead


def test_a_count_taken_twice_is_found() -> None:
    """Holes in the ids are few: a count that is far too high has another reason."""
    world = make_world(3, NONE, rate=30.0)
    ours = [list(row) for row in world.ours]
    ours[20][TRADE_COUNT] += ours[20][TRADE_COUNT] // 3
    assert verdicts(world, ours)[20] is Verdict.UNEXPLAINED


def test_a_lost_trade_looks_like_a_forced_fill() -> None:
    """As the module says: that an id is missing must be found by the ids."""
    world = make_world(4, NONE)
    index = next(i for i, each in enumerate(world.trades) if each.time > START + 20 * MINUTE)
    ours = fold([*world.trades[: index + 3], *world.trades[index + 4 :]])
    found = verdicts(world, ours)
    assert found[20] is Verdict.FORCED
    assert found.count(Verdict.EQUAL) == MINUTES - 1


def trade_at(agg_id: int, time: int, price: int, *, fills: int = 1) -> SimTrade:
    """Return an aggregate; the taker bought."""
    return SimTrade(agg_id, price, 10, 10, agg_id, agg_id + fills - 1, START + time, False)


def judge_late(theirs: list[SimTrade]) -> list[Verdict]:
    """Return what is found if the first trade of the tenth minute fell into the one before."""
    ours = list(theirs)
    ours[20] = ours[20]._replace(time=ours[20].time - 1)
    return [each.verdict for each in judge_all(fold(ours), fold(theirs))]


def test_a_trade_of_the_bar_before_looks_like_a_straddle() -> None:
    """As the module says: if price and count are as if it were the far side of an aggregate."""
    theirs = [trade_at(FIRST_ID + n, 30_000 * n, 100 + n // 2, fills=2) for n in range(80)]
    theirs[20] = trade_at(FIRST_ID + 20, 20 * 30_000, theirs[19].price)
    found = judge_late(theirs)
    assert found[8:12] == [Verdict.EQUAL, Verdict.STRADDLE, Verdict.STRADDLE, Verdict.EQUAL]

    theirs[20] = theirs[20]._replace(price=500)
    assert Verdict.UNEXPLAINED in judge_late(theirs)[9:11]

    # With one fill each, no aggregate can have any beyond the end of its bar.
    theirs = [trade_at(FIRST_ID + n, 30_000 * n, 100) for n in range(80)]
    assert Verdict.UNEXPLAINED in judge_late(theirs)[9:11]


@settings(max_examples=30, deadline=None)
@given(seed=seeds, rate=rates, taken=st.sets(st.integers(0, MINUTES - 1)))
def test_bars_of_the_exchange_itself_cannot_tell(seed: int, rate: float, taken: set[int]) -> None:
    """A straddle to or from a bar that was taken over is a seam; all others are as before."""
    world = make_world(seed, STRADDLES, rate)
    ours = [list(row) for row in world.ours]
    for index in taken:
        flags = CLOSED | (Flag.SETTLED if index % 2 else Flag.BACKFILLED)
        ours[index] = [*world.theirs[index][:FIRST_AGG_ID], NO_ID, NO_ID, flags]
    straddled = {(opened - START) // MINUTE for opened in find_straddles(world)}
    for index, finding in enumerate(judge_all(ours, world.theirs)):
        if {index - 1, index + 1} <= taken | {-1, MINUTES}:
            # If straddles of one price and side enter and leave it, only their difference is known.
            continue
        entered = index - 1 in straddled
        if not differs(ours[index], world.theirs[index]):
            expected = Verdict.EQUAL
        elif (entered and index - 1 in taken) or (index in straddled and index + 1 in taken):
            expected = Verdict.SEAM
        else:
            expected = Verdict.STRADDLE
        assert expected is finding.verdict, index


def test_a_bar_of_the_exchange_itself_must_be_equal() -> None:
    """What was taken over is not explained by anything."""
    world = make_world(5, NONE)
    ours = [list(row) for row in world.ours]
    ours[20] = [*ours[20][:FIRST_AGG_ID], NO_ID, NO_ID, CLOSED | Flag.SETTLED]
    ours[20][TRADE_COUNT] += 1
    expected = [Verdict.EQUAL] * MINUTES
    expected[20] = Verdict.UNEXPLAINED
    assert expected == verdicts(world, ours)


def test_a_gap_is_a_seam() -> None:
    """Bars on both sides of missing minutes are judged by themselves."""
    world = make_world(6, STRADDLES)
    index = next(
        (opened - START) // MINUTE
        for opened in sorted(find_straddles(world))
        if opened > START + 10 * MINUTE
    )
    ours, theirs = list(world.ours), list(world.theirs)
    # The bar before the gap keeps too much, and nobody can confirm it.
    del ours[index + 1], theirs[index + 1]
    findings = judge_all(ours, theirs)
    assert findings[index].verdict is Verdict.SEAM
    assert Verdict.UNEXPLAINED not in {each.verdict for each in findings}
    # The bar after a gap has too little.
    ours, theirs = list(world.ours), list(world.theirs)
    del ours[index], theirs[index]
    findings = judge_all(ours, theirs)
    assert findings[index].verdict is Verdict.SEAM
    assert findings[index].entered == find_straddles(world)[START + index * MINUTE]


def test_an_empty_bar_can_be_entered() -> None:
    """We have nothing in the minute, the exchange has the far side of the aggregate before."""
    fills = [
        Fill(1, 100, 5, START + MINUTE - 10, False, False),
        Fill(2, 100, 7, START + MINUTE + 3, False, False),
        Fill(3, 103, 1, START + 2 * MINUTE, False, False),
    ]
    theirs = fold([as_trade(fill, NO_ID) for fill in fills])[:3]
    findings = judge_all(fold(aggregate(fills))[:3], theirs)
    assert [each.verdict for each in findings] == [
        Verdict.STRADDLE,
        Verdict.STRADDLE,
        Verdict.EQUAL,
    ]
    assert findings[0].left == findings[1].entered == Amount(7, 700, 1, 7, 700)


def test_a_carried_close_may_be_that_of_a_forced_fill() -> None:
    """After a forced fill at the end of a bar, bars without trades differ in their price only."""
    fills = [
        Fill(1, 100, 5, START + 10, False, False),
        Fill(2, 98, 7, START + 20, True, True),
        Fill(3, 103, 1, START + 3 * MINUTE, False, False),
    ]
    theirs = fold([as_trade(fill, NO_ID) for fill in fills])[:4]
    ours = fold(aggregate(fills))[:4]
    found = [each.verdict for each in judge_all(ours, theirs)]
    assert found == [Verdict.FORCED, Verdict.FORCED, Verdict.FORCED, Verdict.EQUAL]
    ours[2][OPEN : CLOSE + 1] = [101] * 4
    assert judge_all(ours, theirs)[2].verdict is Verdict.UNEXPLAINED


# One bar of the exchange.
THEIRS = [START, 100, 110, 90, 100, 1_000, 100_000, 50, 500, 50_000, NO_ID, NO_ID, 0]


def judge_lacking(*, high: int = 110, low: int = 90, **sums: int) -> Verdict:
    """Return the verdict on a bar that lacks these sums of the exchange's; the one before is equal.

    Args:
        high: Of our bar.
        low: Of our bar.
        sums: By field.
    """
    ours = [*THEIRS[:FIRST_AGG_ID], 1, 40, CLOSED]
    ours[HIGH], ours[LOW] = high, low
    for name, value in sums.items():
        ours[FIELDS.index(name)] -= value
    before = [START - MINUTE, *[100] * 4, *[0] * 5, 1, 0, CLOSED]
    return judge_all([before, ours], [before, THEIRS])[1].verdict


def test_forced_fills_have_plausible_prices() -> None:
    """What we lack must be some fills, at prices that the exchange's bar had."""
    check = judge_lacking
    assert check(volume=10, quote_volume=900, trade_count=1) is Verdict.FORCED
    assert check(volume=10, quote_volume=899, trade_count=1) is Verdict.UNEXPLAINED
    assert check(volume=10, quote_volume=1101, trade_count=1) is Verdict.UNEXPLAINED
    assert check(volume=1, quote_volume=100, trade_count=2) is Verdict.UNEXPLAINED
    taken = {"volume": 10, "quote_volume": 1000, "trade_count": 2, "taker_buy_volume": 4}
    assert check(**taken, taker_buy_quote_volume=400) is Verdict.FORCED
    assert check(**taken, taker_buy_quote_volume=300) is Verdict.UNEXPLAINED
    assert check(**taken, taker_buy_quote_volume=450) is Verdict.UNEXPLAINED
    assert check(trade_count=1) is Verdict.UNEXPLAINED


def test_forced_fills_must_have_made_the_extremes() -> None:
    """A high or a low that only the exchange has takes a fill at that price."""
    check = judge_lacking
    two = {"volume": 2, "trade_count": 2}
    assert check(**two, quote_volume=110 + 95, high=105) is Verdict.FORCED
    assert check(**two, quote_volume=110 + 95, high=105, low=95) is Verdict.UNEXPLAINED
    assert check(**two, quote_volume=110 + 90, high=105, low=95) is Verdict.FORCED
    assert check(**two, quote_volume=110 + 90, high=111, low=95) is Verdict.UNEXPLAINED


def test_a_straddle_is_of_one_side() -> None:
    """What leaves a bar was all bought by takers, or all sold."""
    world = make_world(7, STRADDLES)
    opened, left = next(
        (opened, left) for opened, left in find_straddles(world).items() if left.volume > 1
    )
    index = (opened - START) // MINUTE
    ours, theirs = [list(row) for row in world.ours], [list(row) for row in world.theirs]
    price = left.quote_volume // left.volume
    towards = -1 if left.taker_buy_volume else 1
    ours[index][TAKER_BUY_VOLUME] += towards
    ours[index][TAKER_BUY_QUOTE_VOLUME] += towards * price
    assert Verdict.UNEXPLAINED in {each.verdict for each in judge_all(ours, theirs)}


def test_rows_that_do_not_match_are_refused() -> None:
    """Comparing the wrong minutes would explain nothing."""
    world = make_world(8, NONE)
    with pytest.raises(ValueError, match="expected their bar of"):
        judge(Standing(), world.ours[:2], world.theirs[1:3])
    with pytest.raises(ValueError, match="expected a bar after"):
        judge(Standing(), world.ours[1::-1], world.theirs[1::-1])
    _, standing = judge(Standing(), world.ours[:2], world.theirs[:2])
    with pytest.raises(ValueError, match="expected a bar after"):
        judge(standing, world.ours[:2], world.theirs[:2])
    with pytest.raises(ValueError, match="zip"):
        judge(Standing(), world.ours[:2], world.theirs[:1])


def test_nothing_is_judged_without_its_successor() -> None:
    """The newest bar waits; without any there is nothing to conclude."""
    world = make_world(9, LIVELY)
    assert judge(Standing(), [], []) == ((), Standing())
    assert conclude(Standing()) == ()
    findings, standing = judge(Standing(), world.ours[:1], world.theirs[:1])
    assert findings == ()
    findings, _ = judge(standing, world.ours[1:2], world.theirs[1:2])
    assert [each.open_time for each in findings] == [world.ours[0][OPEN_TIME]]


def test_agreements_add_up() -> None:
    """All verdicts together are what was compared."""
    world = make_world(10, LIVELY)
    findings = judge_all(world.ours, world.theirs)
    first, second = Agreement.of(findings[:15]), Agreement.of(findings[15:])
    assert first + second == Agreement.of(findings)
    assert first.compared == 15
    assert Agreement().compared == 0
