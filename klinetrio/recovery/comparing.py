"""One symbol's minutes beside the exchange's: which are judged, and what is counted.

Two kinds of bars are no merit and no fault.  One that is the exchange's own is equal, of course, but
it is a witness for its neighbours.  One that was not proved has claimed nothing: where it is not
explained like a proved one, it is known what is wrong with it, a trade has not come.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from klinetrio.domain.kline import FIRST_AGG_ID, FLAGS, OPEN, OPEN_TIME, Flag
from klinetrio.recovery.judging import Agreement, Standing, Verdict, conclude, judge


if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from klinetrio.recovery.judging import Finding

    Pair = tuple[list[int], list[int]]

_OWN = Flag.BACKFILLED | Flag.SETTLED


# What a trade that did not come may look like.
_LOSSES = {Verdict.FORCED, Verdict.UNEXPLAINED}


@attrs.define(slots=True)
class Comparison:
    """What has been found of one symbol.

    Attributes:
        agreement: How its minutes stood to the exchange's.
        own: Minutes that were the exchange's own.
        unproved: Minutes that were not proved, and say less than the exchange's or something else.
        standing: Where the judging stands.
        unexplained: The newest findings that nobody can explain; the caller takes them out.
    """

    agreement: Agreement = attrs.field(factory=Agreement)
    own: int = 0
    unproved: int = 0
    standing: Standing = attrs.field(factory=Standing)
    unexplained: list[Finding] = attrs.field(factory=list)

    def take(self, pairs: Sequence[Pair]) -> list[int]:
        """Judge further minutes, ours and theirs, ascending.

        Returns:
            The open times of those that are not as the exchange has them, or not proved.
        """
        flags = self._waiting() | {ours[OPEN_TIME]: ours[FLAGS] for ours, _ in pairs}
        ours, theirs = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        findings, self.standing = judge(self.standing, ours, theirs)
        self._count(findings, flags)
        return [
            our[OPEN_TIME]
            for our, their in pairs
            if our[OPEN:FIRST_AGG_ID] != their[OPEN:FIRST_AGG_ID] or not our[FLAGS] & Flag.COMPLETE
        ]

    def end(self) -> None:
        """Judge the minute that waits for its successor, which does not come."""
        self._count(conclude(self.standing), self._waiting())
        self.standing = Standing()

    def _waiting(self) -> dict[int, int]:
        """Return the flags of the bar that waits to be judged, by open time."""
        newest = self.standing.newest
        return {} if newest is None else {newest[0][OPEN_TIME]: newest[0][FLAGS]}

    def _count(self, findings: Iterable[Finding], flags: Mapping[int, int]) -> None:
        merits = []
        for each in findings:
            bits = flags[each.open_time]
            if bits & _OWN:
                self.own += 1
            elif each.verdict in _LOSSES and not bits & Flag.COMPLETE:
                self.unproved += 1
            else:
                merits.append(each)
        self.agreement += Agreement.of(merits)
        self.unexplained += [each for each in merits if each.verdict is Verdict.UNEXPLAINED]
