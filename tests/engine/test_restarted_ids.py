"""A book whose ids turn out wrong claims nothing, and is right again after the next seed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st

from klinetrio.domain.interval import INTERVALS, MINUTE
from klinetrio.domain.kline import (
    FIRST_AGG_ID,
    LAST_AGG_ID,
    OPEN,
    is_complete,
)
from klinetrio.engine.ledger import CONTRADICTIONS, MAX_JUMP
from klinetrio.engine.seeding import Past, Seed
from tests.engine.reference import make_trade, reference_bars
from tests.engine.strategies import BASE_TIME, FIRST_ID, trade_lists
from tests.engine.test_book import Desk, anchored_desk, klines_before


if TYPE_CHECKING:
    import pytest

    from klinetrio.domain.trade import AggTrade

# As the repair desk waits after a boundary, in trade time.
SETTLED_MS = 2_000


@attrs.define
class Repair:
    """Seeds a book as the repair desk does: at a minute boundary to come, from true klines."""

    desk: Desk
    truth: list[AggTrade]
    seeds: int = 0

    def look(self, now: int) -> None:
        """Do what is due."""
        book = self.desk.book
        until = book.seeding_until
        if until is None:
            if not book.seeded or book.ledger.holes:
                soonest = max(now + SETTLED_MS, book.ledger.newest_time + 1)
                book.begin_seed(soonest - soonest % MINUTE + MINUTE)
        elif now >= until + SETTLED_MS:
            pairs = [klines_before(self.truth, until, each.name) for each in self.desk.intervals]
            self.seeds += book.seed(Seed(until, [Past(*pair) for pair in pairs]))


def assert_claims_are_true(desk: Desk, seen: list[AggTrade]) -> None:
    """Whatever says complete equals the truth so far."""
    for interval in desk.intervals:
        truth = reference_bars(seen, interval)
        for opened, row in desk.bars(interval.name).items():
            if is_complete(row):
                assert truth.get(opened) == list(row[OPEN:FIRST_AGG_ID])


def spaced(trades: list[AggTrade]) -> list[AggTrade]:
    """Return the trades with another 1.1 s between any two."""
    return [trade._replace(time=trade.time + 1_100 * number) for number, trade in enumerate(trades)]


@settings(max_examples=150)
@given(trade_lists(max_size=60, step_ms=20_000), st.integers(0, 40), st.integers(1, 10**7))
def test_no_claim_is_wrong_when_ids_start_over(
    trades: list[AggTrade], last_of_old: int, first_of_new: int
) -> None:
    """Wherever the new count starts; and all open bars are complete when the seed is there."""
    trades = spaced(trades)
    desk = anchored_desk()
    desk.book.seeded = True
    repair = Repair(desk, trades)
    for number, trade in enumerate(trades):
        is_old = number <= last_of_old
        agg_id = trade.agg_id if is_old else first_of_new + number - last_of_old
        desk.book.apply(trade._replace(agg_id=agg_id))
        repair.look(trade.time)
        desk.swap()
        assert_claims_are_true(desk, trades[: number + 1])
    finish(repair, trades, agg_id)


@settings(max_examples=150)
@given(
    trade_lists(max_size=60, step_ms=20_000),
    st.integers(0, 40),
    st.integers(1, 5) | st.integers(1, 3 * MAX_JUMP) | st.integers(-FIRST_ID, 0),
)
def test_no_claim_is_wrong_after_a_wrong_id(trades: list[AggTrade], place: int, ahead: int) -> None:
    """Of a trade that never was; ahead by little, by much, or taken from the past."""
    trades = spaced(trades)
    desk = anchored_desk()
    desk.book.seeded = True
    repair = Repair(desk, trades)
    for number, trade in enumerate(trades):
        desk.book.apply(trade)
        if number == place:
            # A little younger than the trade before it, and at a price that would show.
            wrong = make_trade(trade.agg_id + ahead, trade.time + 50, price=10**9)
            desk.book.apply(wrong)
        repair.look(trade.time)
        desk.swap()
        # The very moment of a wrong trade under the next id nobody can tell it from a right one.
        if number != place or not 0 < ahead <= MAX_JUMP:
            assert_claims_are_true(desk, trades[: number + 1])
    finish(repair, trades, trades[-1].agg_id)


@settings(max_examples=200)
@given(
    trade_lists(max_size=60, step_ms=300),
    st.integers(0, 40),
    st.integers(1, 10) | st.integers(-10, 10) | st.integers(1, MAX_JUMP),
    st.integers(0, 900) | st.integers(0, 9_900) | st.integers(-110 * MINUTE, 0),
)
def test_a_trade_that_never_was_is_gone_in_the_end(
    trades: list[AggTrade], place: int, ahead: int, offset_ms: int
) -> None:
    """Among dense trades, dated up to ten seconds ahead or hours ago: no bar keeps it."""
    desk = anchored_desk()
    desk.book.seeded = True
    repair = Repair(desk, trades)
    for number, trade in enumerate(trades):
        desk.book.apply(trade)
        if number == min(place, len(trades) - 1):
            wrong = make_trade(trade.agg_id + ahead, trade.time + offset_ms, price=10**9)
            desk.book.apply(wrong)
        repair.look(trade.time)
        desk.swap()
    finish(repair, trades, trades[-1].agg_id)


def finish(repair: Repair, trades: list[AggTrade], agg_id: int) -> None:
    """Go on with plain trades until every repair is done; all bars are right then."""
    desk, trades = repair.desk, list(trades)
    number = 0
    while number < 12 or desk.book.needs_repair:
        number += 1
        assert number < 40
        trade = make_trade(agg_id + number, trades[-1].time + 20_000, price=50 + number)
        trades.append(trade)
        repair.truth = [each._replace(agg_id=i) for i, each in enumerate(trades)]
        desk.book.apply(trade)
        repair.look(trade.time)
        desk.swap()
    for interval in desk.intervals:
        truth = reference_bars(repair.truth, interval)
        bars = desk.bars(interval.name)
        # What never was may have made a bar before the first trade.
        assert not any(is_complete(bars[each]) for each in bars if each not in truth)
        bars = {each: row for each, row in bars.items() if each in truth}
        assert all(truth[each] == list(bars[each][OPEN:FIRST_AGG_ID]) for each in bars)
        # The desk was anchored at the first trade: what began before it only a seed can prove.
        assert all(is_complete(bars[each]) for each in bars if each >= BASE_TIME or repair.seeds)


def test_a_restart_is_told_once_and_asks_for_a_new_past(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One line with both ids; what was missed is asked for from where ids were right last."""
    desk = anchored_desk()
    desk.book.seeded = True
    desk.book.apply(make_trade(FIRST_ID, BASE_TIME + 5))
    desk.swap()
    assert is_complete(desk.bars("1m")[BASE_TIME])
    assert not desk.book.needs_repair
    for number in range(1, 10):
        desk.book.apply(make_trade(number, BASE_TIME + 5 + number * 1_500, price=200))
        desk.swap()
        assert not is_complete(desk.bars("1m")[BASE_TIME])

    lines = [each.getMessage() for each in caplog.records]
    assert [f"ids_restarted symbol=BTCUSDT newest={FIRST_ID} new_id={CONTRADICTIONS}"] == lines
    assert desk.book.needs_repair
    assert not desk.book.seeded
    assert desk.book.known_until == BASE_TIME + 5
    assert desk.book.counts.refused == CONTRADICTIONS - 1
    assert desk.book.ledger.newest == 9


def test_a_restart_gives_up_a_seeding_under_way() -> None:
    """Its tail lacks the trades that were dropped, so its klines may not be joined with it."""
    desk = anchored_desk()
    desk.book.apply(make_trade(FIRST_ID, BASE_TIME + 5))
    desk.book.begin_seed(BASE_TIME + MINUTE)
    for number in range(1, 4):
        desk.book.apply(make_trade(number, BASE_TIME + MINUTE + number * 1_500))
    pasts = [Past(*klines_before([], BASE_TIME, each.name)) for each in desk.intervals]
    assert not desk.book.seed(Seed(BASE_TIME + MINUTE, pasts))
    assert not desk.book.seeded


def test_after_a_restart_a_smaller_id_is_a_later_one() -> None:
    """The close of a bar that spans the restart goes on with the new count, and is carried."""
    desk = anchored_desk()
    desk.book.apply(make_trade(FIRST_ID, BASE_TIME + 5, price=100))
    for number in range(1, 5):
        desk.book.apply(make_trade(number, BASE_TIME + 5 + number * 1_500, price=200 + number))
    desk.book.close_due(BASE_TIME + 2 * MINUTE)
    desk.swap()
    spanning, empty = desk.bars("1m")[BASE_TIME], desk.bars("1m")[BASE_TIME + MINUTE]
    assert list(spanning[OPEN : OPEN + 4]) == [100, 204, 100, 204]
    assert list(empty[OPEN : OPEN + 4]) == [204] * 4
    assert empty[LAST_AGG_ID] == 4
    assert not is_complete(spanning)


def test_a_doubt_ends_with_the_next_new_trade_or_the_exchange_s_word() -> None:
    """Not with a duplicate, which says nothing of what was missed."""
    desk = anchored_desk()
    desk.book.apply(make_trade(FIRST_ID, BASE_TIME + 5))
    desk.book.apply(make_trade(FIRST_ID + 10**9, BASE_TIME + 6))
    desk.book.apply(make_trade(FIRST_ID, BASE_TIME + 5))
    desk.swap()
    assert not is_complete(desk.bars("1m")[BASE_TIME])
    desk.book.confirm(FIRST_ID)
    desk.swap()
    assert is_complete(desk.bars("1m")[BASE_TIME])

    desk.book.apply(make_trade(1, BASE_TIME + 5_000))
    desk.swap()
    assert not is_complete(desk.bars("1m")[BASE_TIME])
    desk.book.apply(make_trade(FIRST_ID + 1, BASE_TIME + 6_000))
    desk.swap()
    assert is_complete(desk.bars("1m")[BASE_TIME])
    assert INTERVALS["1m"].open_of(BASE_TIME + 6_000) == BASE_TIME
