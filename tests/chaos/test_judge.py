"""The judge finds what is wrong, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from klinetrio.domain.interval import HOUR, INTERVALS, MINUTE
from klinetrio.domain.kline import FIELDS, FLAGS, NO_ID, Flag, make_flags
from klinetrio.sim.clock import SimClock
from klinetrio.sim.scripted import ScriptedMarket, plain_instrument
from tests.chaos.judge import Span, Tally, judge_series, judge_told
from tests.chaos.settle import is_calm
from tests.chaos.watcher import Records, RulesOfOneConnection
from tests.e2e.world import VALUE_FIELDS


if TYPE_CHECKING:
    from collections.abc import Sequence

START = 1_786_172_400_000
SPAN = Span(since=START + 1, until=START + 5 * MINUTE, now=START + 7 * MINUTE)
ONE_MINUTE = INTERVALS["1m"]
PROVED = Flag.FINAL | Flag.COMPLETE


def market() -> ScriptedMarket:
    """Return a market of two symbols with a trade in each of seven minutes, now over."""
    names = ("AUSDT", "BUSDT")
    listed = [plain_instrument(name, listing_time=START) for name in names]
    made = ScriptedMarket(listed, clock=SimClock(START + 8 * MINUTE, held=True))
    for name in names:
        for number in range(7):
            made.trade(name, f"10{number}.00", "1.000", T=START + number * MINUTE)
    return made


TRUTH = {row[0]: row for row in market().true_klines("AUSDT", ONE_MINUTE, START, START + HOUR)}


def stored() -> list[list[int]]:
    """Return the bars as a daemon should have stored them: the last two have no trade after them."""
    rows = [list(TRUTH[START + number * MINUTE]) for number in range(7)]
    for number, row in enumerate(rows):
        row[FLAGS] = PROVED if number < 5 else Flag.FINAL
    return rows


def judged(rows: Sequence[Sequence[int]]) -> Tally:
    """Return what the judge says of some rows."""
    return judge_series("AUSDT", ONE_MINUTE, rows=rows, truth=TRUTH, span=SPAN)


def test_the_truth_is_right() -> None:
    """All are checked; those at the tail need no proof yet."""
    assert Tally(checked=5, by_ids=5, tail=2) == judged(stored())
    assert judged(stored()).failures == 0


@pytest.mark.parametrize("field", [name for name in FIELDS if name not in {"open_time", "flags"}])
def test_any_wrong_field_is_found(field: str) -> None:
    """By a single unit, in any of them."""
    rows = stored()
    rows[2][FIELDS.index(field)] += 1
    tally = judged(rows)
    assert (1, 4, 1) == (tally.wrong, tally.checked, tally.failures)
    assert "in truth" in tally.examples[0]


def test_ids_count_only_where_they_are_known() -> None:
    """A bar from the exchange's klines has none."""
    rows = stored()
    rows[2][10:12] = [NO_ID, NO_ID]
    rows[2][FLAGS] |= Flag.BACKFILLED
    assert Tally(checked=5, by_ids=4, tail=2) == judged(rows)


def test_a_missing_bar_is_found() -> None:
    """One in the middle, one at either end of the span; not one that need not be there."""
    for number, missing in ((0, 1), (2, 1), (4, 1), (6, 0)):
        rows = stored()
        del rows[number]
        assert missing == judged(rows).missing == judged(rows).failures
    assert 5 == judged([]).missing


def test_a_doubled_bar_is_found() -> None:
    """Also if the second one is like the first."""
    rows = stored()
    tally = judged([*rows, rows[3]])
    assert (1, 5, 1) == (tally.doubled, tally.checked, tally.failures)


@pytest.mark.parametrize("open_time", [START + 30_000, START - MINUTE, START + 7 * MINUTE])
def test_a_bar_that_cannot_be_is_found(open_time: int) -> None:
    """Off the grid, before the listing, or not over yet."""
    row = [open_time, *stored()[0][1:]]
    tally = judged([*stored(), row])
    assert (1, 1) == (tally.wrong, tally.failures)


def test_an_open_bar_among_the_closed_is_found() -> None:
    """The table of closed bars holds nothing else."""
    rows = stored()
    rows[2][FLAGS] = Flag.COMPLETE
    assert 1 == judged(rows).wrong


def test_a_bar_that_was_never_proved_is_found() -> None:
    """Within the span even if it is right; before and after it not."""
    rows = stored()
    rows[2][FLAGS] = Flag.FINAL
    assert (1, 1) == (judged(rows).unproved, judged(rows).failures)
    later = Span(since=START + 3 * MINUTE, until=START + 5 * MINUTE, now=SPAN.now)
    tally = judge_series("AUSDT", ONE_MINUTE, rows=rows, truth=TRUTH, span=later)
    assert (0, 1, 2) == (tally.failures, tally.older, tally.tail)


def test_revisions_are_counted() -> None:
    """A correction is no failure."""
    rows = stored()
    rows[2][FLAGS] = make_flags(PROVED, 3)
    assert Tally(checked=5, by_ids=5, revised=1, tail=2) == judged(rows)


def test_tallies_add_up() -> None:
    """Numbers are summed, and of the examples some are kept."""
    one, other = judged([]), judged([])
    one.add(other)
    assert (10, 5) == (one.missing, len(one.examples))


def test_what_was_told_is_compared() -> None:
    """A right bar counts, a wrong value and a bar that never was are found."""
    right = tuple(TRUTH[START][1:10])
    wrong = (right[0] + 1, *right[1:])
    key = ("AUSDT", "1m", START)
    assert (1, []) == judge_told({key: {right}}, INTERVALS, market())
    for values in ({wrong}, {right, wrong}):
        number, failures = judge_told({key: values}, INTERVALS, market())
        assert (0, 1) == (number, len(failures))
    number, failures = judge_told({("AUSDT", "1m", START - MINUTE): {right}}, INTERVALS, market())
    assert (0, 1) == (number, len(failures))


def final(open_time: int, revision: int = 0, **changes: Any) -> dict[str, Any]:
    """Return a final bar as it is pushed."""
    bar = {"symbol": "A_USDT", "interval": "1m", "open_time": open_time, "revision": revision}
    rest = {"is_final": True, "is_complete": True}
    return {**bar, **dict.fromkeys(VALUE_FIELDS, "1.00"), **rest, **changes}


def open_bar(open_time: int) -> dict[str, Any]:
    """Return an open bar as it is pushed."""
    return final(open_time, is_final=False)


@pytest.mark.parametrize(
    ("bars", "broken"),
    [
        ([final(START), final(START + MINUTE)], 0),
        ([final(START), final(START + MINUTE), final(START, 1)], 0),
        ([final(START), final(START - MINUTE, 2)], 0),
        ([final(START), final(START)], 1),
        ([final(START, 2), final(START, 1)], 1),
        ([final(START), final(START + 2 * MINUTE)], 0),
        ([open_bar(START), final(START), open_bar(START + MINUTE)], 0),
        ([open_bar(START), open_bar(START)], 0),
        ([open_bar(START), open_bar(START + MINUTE)], 1),
        ([open_bar(START), final(START), open_bar(START + 3 * MINUTE)], 2),
        ([open_bar(START), open_bar(START - MINUTE)], 1),
    ],
)
def test_rules_of_the_push_are_kept(bars: list[dict[str, Any]], broken: int) -> None:
    """Each bar final once, corrected by a higher revision only, none left out."""
    records = Records()
    connection = RulesOfOneConnection(records)
    for bar in bars:
        connection.take(bar)
    assert broken == len(records.broken)
    assert sum(bar["is_final"] for bar in bars) == records.finals + records.corrections


def test_only_proved_bars_are_held_against_a_daemon() -> None:
    """One that claims nothing may be wrong."""
    records = Records()
    connection = RulesOfOneConnection(records)
    connection.take(final(START))
    connection.take(final(START + MINUTE, is_complete=False))
    assert {("AUSDT", "1m", START)} == set(records.pushed)


CALM: dict[str, Any] = {
    "connections": [{"state": "up"}, {"state": "up"}],
    "symbols": {name: {"count": 0} for name in ("seeding", "open_holes", "halted", "quiet")},
    "rest": {"repairs_under_way": 0},
}


@pytest.mark.parametrize(
    "change",
    [
        {"connections": [{"state": "up"}, {"state": "connecting"}]},
        {"symbols": {**CALM["symbols"], "open_holes": {"count": 1}}},
        {"symbols": {**CALM["symbols"], "seeding": {"count": 1}}},
        {"symbols": {**CALM["symbols"], "halted": {"count": 1}}},
        {"rest": {"repairs_under_way": 1}},
    ],
)
def test_a_daemon_that_is_not_done_is_waited_for(change: dict[str, Any]) -> None:
    """Whatever is left to do."""
    assert is_calm(CALM)
    assert not is_calm({**CALM, **change})
    assert not is_calm(None)
