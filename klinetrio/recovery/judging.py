"""Whether our minute bars and the exchange's own klines say the same, and if not, why.

The exchange folds single fills by their time; we fold aggregate trades by theirs, which is that of
their first fill.  So the two differ for reasons that are known, and each leaves a shape of its own
in the five sums of a bar (volume, quote volume, trade count, and the taker's two):

    ours[k] - theirs[k] = left[k] - left[k-1] + overcount[k] - forced[k]

``left[k]``: what the one aggregate that straddles the end of bar ``k`` has beyond it.  One price,
which is our close of ``k`` and the exchange's open of ``k + 1``; one taker side; so its quote volume
is its volume times that price, and its taker part is all or nothing.
``overcount[k]``: ids in an aggregate's ``[f, l]`` that are no fills; the count alone.
``forced[k]``: fills of the exchange that are in no aggregate (insurance fund, ADL).

A bar ``k`` is explained by ``left[k-1]``, known from the bar before, and a candidate for ``left[k]``
that the bar after must confirm.  Of all stories of two bars the cheapest one is told.  That is why
the newest bar is never judged at once: it waits in ``Standing`` for its successor.

Invariants (tests/recovery/test_judging.py):
  I1  a bar is EQUAL if and only if all its nine values are.
  I2  prices are as strict as sums: without forced fills they follow exactly from ``left[k-1]``.
  I3  judging a run in pieces gives what judging it at once gives.

What no reading of two bars can tell apart, and what therefore passes as explained:
  - a trade that we lost looks like fills that are in no aggregate (FORCED), or, at a seam and at
    the price of the exchange's open, like a straddle (SEAM);
  - a trade that we put into the bar before its own looks like a straddle, if its price is that
    bar's close and the exchange's open of its own, and the count leaves room for holes;
  - a count that is too high looks like holes in the ids (COUNT), as far as our aggregates can have
    any, each having one fill at least, and as far as ``explaining`` believes;
  - in a bar of many fills, a quantity that is too small looks like a forced fill whose count such
    holes hide;
  - a surplus at the close's price and on one side looks like a straddle (SEAM) if the bar after
    cannot tell;
  - our open of a bar that a straddle enters, and an extreme of ours short of the straddle's price:
    the exchange's bar says nothing of them.

What has a reason and may stay unexplained: forced fills in a bar that straddles enter and leave, or
in two neighbours; a bar between two seams that straddles of one price and side enter and leave.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

import attrs

from klinetrio.domain.interval import MINUTE
from klinetrio.domain.kline import CLOSE, OPEN_TIME
from klinetrio.recovery.explaining import (
    COST,
    NOTHING,
    Amount,
    Bar,
    Story,
    Verdict,
    stories,
    worse,
)


if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    Row = Sequence[int]

__all__ = ["Agreement", "Amount", "Finding", "Standing", "Verdict", "conclude", "judge"]

# A straddle into a bar that stays unexplained: rather is the bar that claims it at fault.
_UNCONFIRMED = 2

# A straddle out of a bar with forced fills is a guess; it is not confirmed by a bar that only passes
# it on to the next: rather had that bar forced fills, too.
_PASSED_ON = 4


@attrs.frozen(slots=True)
class Finding:
    """What was found of one bar.

    Attributes:
        open_time: Of the bar.
        verdict: How ours stands to the exchange's.
        difference: Ours minus theirs.
        entered: What the exchange has in this bar and we in the one before.
        left: What we have in this bar and the exchange in the next.  Its count is the largest
            possible: overcount of this bar cannot be told apart.
        forced: What only the exchange has.
        overcount: By how much at least our trade count is too high.
    """

    open_time: int
    verdict: Verdict
    difference: Amount
    entered: Amount = NOTHING
    left: Amount = NOTHING
    forced: Amount = NOTHING
    overcount: int = 0


@attrs.frozen(slots=True)
class Agreement:
    """How many bars were found to be what; ``compared`` is the sum of all others."""

    equal: int = 0
    straddle: int = 0
    seam: int = 0
    count: int = 0
    forced: int = 0
    unexplained: int = 0

    @classmethod
    def of(cls, findings: Iterable[Finding]) -> Agreement:
        """Count the findings."""
        return cls(**Counter(each.verdict.value for each in findings))

    @property
    def compared(self) -> int:
        """How many bars were judged."""
        return sum(attrs.astuple(self))

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(*map(sum, zip(attrs.astuple(self), attrs.astuple(other), strict=True)))


@attrs.frozen(slots=True)
class Standing:
    """Where the judging of one symbol stands between two calls.

    Attributes:
        newest: The newest bar, ours and theirs: it is judged when the one after it is known.
        entered: What straddles into it; ``None`` if the bar before cannot tell.
        closes: The closes before it, ours and theirs; ``None`` if not known.
    """

    newest: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    entered: Amount | None = None
    closes: tuple[int, int] | None = None


def judge(
    standing: Standing, ours: Iterable[Row], theirs: Iterable[Row]
) -> tuple[tuple[Finding, ...], Standing]:
    """Judge consecutive closed minute bars of one symbol.

    Args:
        standing: What the previous call returned; ``Standing()`` to begin.
        ours: Rows of ``domain.kline``, ascending.  Bars with the flag ``BACKFILLED`` or
            ``SETTLED`` are the exchange's own: they must be equal, and end what is known of
            straddles.
        theirs: The exchange's rows of the same minutes; ids and flags are not looked at.

    Returns:
        A finding for the bar that waited and for all bars but the newest, and the new standing.
        Where minutes are missing between two bars, the one before is judged without its successor
        and the one after without its predecessor.

    Raises:
        ValueError: The open times of the two do not match or do not ascend.
    """
    pairs = [(_plain(our), _plain(their)) for our, their in zip(ours, theirs, strict=True)]
    if standing.newest is not None:
        pairs.insert(0, standing.newest)
    _check_order(pairs)
    findings = []
    entered, closes = standing.entered, standing.closes
    for pair, following in pairwise(pairs):
        if joins := following[0][OPEN_TIME] == pair[0][OPEN_TIME] + MINUTE:
            after = Bar(*following, (pair[0][CLOSE], pair[1][CLOSE]))
            finding, entered = _judge_bar(Bar(*pair, closes), entered, after)
        else:
            finding, entered = _judge_bar(Bar(*pair, closes), entered, None)
        closes = (pair[0][CLOSE], pair[1][CLOSE]) if joins else None
        findings.append(finding)
    return tuple(findings), Standing(pairs[-1] if pairs else None, entered, closes)


def conclude(standing: Standing) -> tuple[Finding, ...]:
    """Judge the bar that waits, if any, without its successor."""
    if standing.newest is None:
        return ()
    finding, _ = _judge_bar(Bar(*standing.newest, standing.closes), standing.entered, None)
    return (finding,)


def _plain(row: Row) -> tuple[int, ...]:
    # Python's integers: the products below may leave 64 bits, where numpy wraps around silently.
    return tuple(map(int, row))


def _check_order(pairs: list[tuple[tuple[int, ...], tuple[int, ...]]]) -> None:
    for our, their in pairs:
        if our[OPEN_TIME] != their[OPEN_TIME]:
            raise ValueError(f"expected their bar of {our[OPEN_TIME]}, was {their[OPEN_TIME]}")
    for (before, _), (after, _) in pairwise(pairs):
        if after[OPEN_TIME] <= before[OPEN_TIME]:
            raise ValueError(f"expected a bar after {before[OPEN_TIME]}, was {after[OPEN_TIME]}")


_MYSTERY = Story(Verdict.UNEXPLAINED)


def _judge_bar(
    bar: Bar, entered: Amount | None, after: Bar | None
) -> tuple[Finding, Amount | None]:
    """Return the finding, and what straddles into the next bar if that is known."""
    if bar.is_equal:
        equal = Finding(bar.ours[OPEN_TIME], Verdict.EQUAL, NOTHING)
        return equal, None if bar.is_own or after is None else NOTHING
    story, best = _MYSTERY, COST[Verdict.UNEXPLAINED]
    if after is not None:
        best += _cheapest(after, None)
    for each in stories(bar, entered, after):
        told, cost = each, each.cost
        if after is not None:
            is_guess = bool(each.left and each.forced)
            further = _cheapest(after, each.left, for_passing_on=_PASSED_ON * is_guess)
            cost += further
            if each.left and further >= COST[Verdict.UNEXPLAINED]:
                cost += _UNCONFIRMED
                told = attrs.evolve(each, verdict=worse(each.verdict, Verdict.SEAM))
        if cost < best:
            story, best = told, cost
    finding = Finding(
        bar.ours[OPEN_TIME],
        story.verdict,
        bar.difference,
        story.entered,
        story.left,
        story.forced,
        story.overcount,
    )
    is_known = not bar.is_own and story is not _MYSTERY
    return finding, story.left if is_known and after is not None else None


def _cheapest(bar: Bar, entered: Amount | None, *, for_passing_on: int = 0) -> int:
    """Return what the best story of a bar costs as long as nothing is known of the next one."""
    costs = (
        each.cost + for_passing_on * bool(each.left)
        for each in stories(bar, entered, None, is_last=False)
    )
    return min(costs, default=COST[Verdict.UNEXPLAINED])
