"""Why one bar of ours may differ from the exchange's: every explanation that holds.

The theory is in ``judging``, which chooses between the explanations of neighbouring bars.

Pure functions over plain integers.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

import attrs

from klinetrio.domain.kline import (
    CLOSE,
    FIRST_AGG_ID,
    FLAGS,
    HIGH,
    LAST_AGG_ID,
    LOW,
    NO_ID,
    OPEN,
    TRADE_COUNT,
    VOLUME,
    Flag,
)


if TYPE_CHECKING:
    from collections.abc import Iterator

    Row = tuple[int, ...]


class Verdict(Enum):
    """How our bar stands to the exchange's."""

    EQUAL = "equal"
    """All nine values are the same."""

    STRADDLE = "straddle"
    """An aggregate straddles its start or its end; the bar on the other side agrees."""

    SEAM = "seam"
    """Likewise, but the bar on the other side cannot tell: it is the exchange's own, unexplained,
    or not there."""

    COUNT = "count"
    """Only our trade count is higher: ids that are no fills."""

    FORCED = "forced"
    """The exchange has fills that are in no aggregate; a straddle may be there besides."""

    UNEXPLAINED = "unexplained"
    """None of these."""


# Of two stories the one with the smaller sum is told.  Only the order matters: a straddle that
# both sides show before one that only one side shows, any of them before forced fills, two bars
# with forced fills before anything unexplained.
COST = {
    Verdict.EQUAL: 0,
    Verdict.COUNT: 1,
    Verdict.STRADDLE: 1,
    Verdict.SEAM: 2,
    Verdict.FORCED: 4,
    Verdict.UNEXPLAINED: 100,
}


def worse(one: Verdict, other: Verdict) -> Verdict:
    """Return the one that costs more."""
    return max(one, other, key=lambda each: COST[each])


# Of a bar's fill ids a few per mille were seen to be no fills: at most one in fifty is believed, and
# a few in any bar.
HOLES_SHARE = 50
FEW_HOLES = 8


@attrs.frozen(slots=True)
class Amount:
    """The five sums of some fills, at the symbol's scales."""

    volume: int = 0
    quote_volume: int = 0
    trade_count: int = 0
    taker_buy_volume: int = 0
    taker_buy_quote_volume: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(
            self.volume + other.volume,
            self.quote_volume + other.quote_volume,
            self.trade_count + other.trade_count,
            self.taker_buy_volume + other.taker_buy_volume,
            self.taker_buy_quote_volume + other.taker_buy_quote_volume,
        )

    def __neg__(self) -> Amount:
        return Amount(
            -self.volume,
            -self.quote_volume,
            -self.trade_count,
            -self.taker_buy_volume,
            -self.taker_buy_quote_volume,
        )

    def __sub__(self, other: Amount) -> Amount:
        return self + -other

    def __bool__(self) -> bool:
        """Whether anything but the count is there."""
        return bool(
            self.volume or self.quote_volume or self.taker_buy_volume or self.taker_buy_quote_volume
        )

    def is_within(self, other: Amount) -> bool:
        """Tell whether it can be a part of ``other``, on either taker side."""
        return (
            self.taker_buy_volume <= other.taker_buy_volume
            and self.volume - self.taker_buy_volume <= other.volume - other.taker_buy_volume
        )


NOTHING = Amount()


class Bar:
    """Both views of one bar, and what follows from them alone."""

    def __init__(self, ours: Row, theirs: Row, closes: tuple[int, int] | None) -> None:
        self.ours = ours
        self.theirs = theirs
        self.closes = closes
        self.is_equal = ours[OPEN:FIRST_AGG_ID] == theirs[OPEN:FIRST_AGG_ID]
        self.is_own = bool(ours[FLAGS] & (Flag.BACKFILLED | Flag.SETTLED))
        self.our_sums = Amount(*ours[VOLUME:FIRST_AGG_ID])
        self.their_sums = Amount(*theirs[VOLUME:FIRST_AGG_ID])
        self.difference = self.our_sums - self.their_sums

    @property
    def spare_count(self) -> int:
        """How many of our counted fills may not have been in this bar.

        Each aggregate has at least its first fill here.
        """
        first, last = self.ours[FIRST_AGG_ID], self.ours[LAST_AGG_ID]
        return self.ours[TRADE_COUNT] - (1 if last == NO_ID else last - first + 1)

    @property
    def has_drifted(self) -> bool:
        """Whether both are without trades, and differ only in the close that they carry on."""
        return (
            self.closes is not None
            and self.ours[OPEN:FIRST_AGG_ID] == (*[self.closes[0]] * 4, *[0] * 5)
            and self.theirs[OPEN:FIRST_AGG_ID] == (*[self.closes[1]] * 4, *[0] * 5)
        )


@attrs.frozen(slots=True)
class Story:
    """One explanation of a bar that holds."""

    verdict: Verdict
    entered: Amount = NOTHING
    left: Amount = NOTHING
    forced: Amount = NOTHING
    overcount: int = 0

    @property
    def cost(self) -> int:
        """What telling it costs."""
        # A straddle beside forced fills costs too, or any would do.
        extra = self.verdict is Verdict.FORCED and bool(self.left)
        return COST[self.verdict] + extra


def stories(
    bar: Bar, entered: Amount | None, after: Bar | None, *, is_last: bool = True
) -> Iterator[Story]:
    """Return every story of a bar that holds.

    Args:
        bar: The bar.
        entered: What straddles into it; ``None`` if not known.
        after: The next bar, if known.
        is_last: Whether an unknown next bar will stay unknown.
    """
    if bar.is_equal or bar.is_own:
        # Nothing enters an equal bar: that just as much leaves it again is hardly ever true.
        if bar.is_equal and (bar.is_own or not entered):
            yield Story(Verdict.EQUAL)
        return
    cannot_tell = after.is_own if after is not None else is_last
    for left in _candidates(bar, entered, after):
        for came in [entered] if entered is not None else _entries(bar, left):
            if came and not bar.difference and entered is None:
                # As much in as out shows in the prices alone: nothing to guess from.
                continue
            story = _explain(bar, came, left)
            if story is None:
                continue
            if (left and cannot_tell) or (came and entered is None):
                story = attrs.evolve(story, verdict=worse(story.verdict, Verdict.SEAM))
            yield story


def _candidates(bar: Bar, entered: Amount | None, after: Bar | None) -> Iterator[Amount]:
    """Return what may have left the bar: nothing, what it has too much, what the next lacks."""
    yield NOTHING
    for each in dict.fromkeys(_guesses(bar, entered, after)):
        if not _is_straddle(each, bar.ours[CLOSE]) or not each.is_within(bar.our_sums):
            continue
        if after is not None and after.is_own and after.theirs[OPEN] != bar.ours[CLOSE]:
            continue
        yield each


def _guesses(bar: Bar, entered: Amount | None, after: Bar | None) -> Iterator[Amount]:
    ours, theirs, close = bar.ours, bar.theirs, bar.ours[CLOSE]
    surplus = bar.difference + (entered or NOTHING)
    yield surplus
    volumes = [*_by_side(surplus)]
    fills = 1
    if after is not None and not after.is_own:
        lacking = -after.difference
        volumes += [lacking.volume, *_by_side(lacking)]
        volumes += [_split(-lacking, close, after.ours[CLOSE])[0]]
        # Its overcount may hide how many fills it lacks, but not that there are some.
        fills = max(1, lacking.trade_count)
    # A price that only the exchange has is that of fills which are not ours.
    foreign = {theirs[OPEN]} if entered is None else set()
    foreign |= {each for each in theirs[HIGH : LOW + 1] if not ours[LOW] <= each <= ours[HIGH]}
    volumes += [_split(surplus, price, close)[1] for price in sorted(foreign)]
    # As many fills as the next bar lacks; if something leaves that one too, it may be more.  Too
    # many are borne by the next bar, too few are not; but the fewer, the more were forced.
    counts = (bar.spare_count, fills) if entered is None else (fills, bar.spare_count)
    for count in counts:
        for volume in volumes:
            quote = volume * close
            yield Amount(volume, quote, count)
            yield Amount(volume, quote, count, volume, quote)


def _by_side(amount: Amount) -> tuple[int, int]:
    """Return the volume that takers bought and the one that they sold."""
    return amount.taker_buy_volume, amount.volume - amount.taker_buy_volume


def _split(difference: Amount, minus_price: int, plus_price: int) -> tuple[int, int]:
    """Return the volumes at two prices whose difference this is; zeros if there are none."""
    if minus_price == plus_price:
        return 0, 0
    worth = difference.quote_volume - difference.volume * minus_price
    plus, rest = divmod(worth, plus_price - minus_price)
    minus = plus - difference.volume
    return (minus, plus) if plus > 0 < minus and not rest else (0, 0)


def _entries(bar: Bar, left: Amount) -> Iterator[Amount]:
    """Return what may have entered a bar whose predecessor cannot tell."""
    yield NOTHING
    lacking = left - bar.difference
    lacking = attrs.evolve(lacking, trade_count=max(1, lacking.trade_count))
    if _is_straddle(lacking, bar.theirs[OPEN]):
        yield lacking


def _is_straddle(amount: Amount, price: int) -> bool:
    """Tell whether the amount can be a part of one aggregate at that price."""
    volume, quote = amount.volume, amount.quote_volume
    return (
        0 < amount.trade_count <= volume
        and quote == volume * price
        and (amount.taker_buy_volume, amount.taker_buy_quote_volume) in {(0, 0), (volume, quote)}
    )


def _explain(bar: Bar, came: Amount, left: Amount) -> Story | None:
    """Return the story of a bar into which ``came`` straddles and out of which ``left`` does.

    Returns:
        ``None`` if it does not hold.
    """
    if came and not ((bar.difference or came == left) and came.is_within(bar.their_sums)):
        return None
    rest = bar.difference + came - left
    forced = -rest if rest else NOTHING
    if forced:
        forced = attrs.evolve(forced, trade_count=max(1, forced.trade_count))
    overcount = rest.trade_count + forced.trade_count
    # The count that came may already have held overcount of the bar before.
    earlier = max(0, came.trade_count - 1)
    spare = bar.spare_count + earlier - left.trade_count - overcount
    if spare < 0 or not 0 <= overcount <= _most_holes(bar, forced) + earlier:
        return None
    if forced and not _may_be_forced(forced, bar, forced.trade_count + spare):
        return None
    if not _prices_agree(bar, came, forced):
        return None
    if forced or bar.has_drifted:
        verdict = Verdict.FORCED
    elif came or left:
        verdict = Verdict.STRADDLE
    else:
        verdict = Verdict.COUNT
    return Story(verdict, came, left, forced, max(0, overcount - earlier))


def _most_holes(bar: Bar, forced: Amount) -> int:
    """Return how far a trade count may be too high for ids that are no fills."""
    # Forced fills whose count such ids hide are rare twice over; else any small bar that lacks
    # something would be explained.
    share = bar.ours[TRADE_COUNT] // HOLES_SHARE
    return share if forced else share + FEW_HOLES


def _may_be_forced(forced: Amount, bar: Bar, most: int) -> bool:
    """Tell whether the exchange's bar can hold so much more than our aggregates.

    Args:
        forced: What it holds more; its count is the smallest possible.
        bar: The bar; all prices are within the exchange's extremes.
        most: How many fills it may be at most.
    """
    volume, quote = forced.volume, forced.quote_volume
    taken, taken_quote = forced.taker_buy_volume, forced.taker_buy_quote_volume
    low, high = bar.theirs[LOW], bar.theirs[HIGH]
    if not (forced.trade_count <= volume and forced.is_within(bar.their_sums)):
        return False
    sides = ((taken, taken_quote), (volume - taken, quote - taken_quote))
    if not all(low * part <= worth <= high * part for part, worth in sides):
        return False
    # One fill has one price and one side.
    return most > 1 or (taken in {0, volume} and quote % volume == 0)


def _prices_agree(bar: Bar, came: Amount, forced: Amount) -> bool:
    """Tell whether the exchange's prices are ours, but for what came and what was forced."""
    ours, theirs = bar.ours[OPEN:VOLUME], bar.theirs[OPEN:VOLUME]
    expected = ours
    if came:
        price = came.quote_volume // came.volume
        if ours != (price,) * 4 and not bar.ours[TRADE_COUNT]:
            # Nothing of ours is here, so ours is the close before: the price of what straddles.
            return False
        expected = (price, max(ours[1], price), min(ours[2], price), ours[3])
    if theirs == expected or bar.has_drifted:
        return True
    if not forced:
        return False
    if came or bar.ours[TRADE_COUNT]:
        if theirs[1] < expected[1] or theirs[2] > expected[2]:
            return False
        foreign = {got for got, known in zip(theirs, expected, strict=True) if got != known}
    else:
        foreign = set(theirs)
    return _can_have_traded_at(foreign, bar, forced)


def _can_have_traded_at(prices: set[int], bar: Bar, forced: Amount) -> bool:
    """Tell whether forced fills can have had each of the prices at least once."""
    rest = forced.volume - len(prices)
    low = sum(prices) + rest * bar.theirs[LOW]
    high = sum(prices) + rest * bar.theirs[HIGH]
    return rest >= 0 and low <= forced.quote_volume <= high
