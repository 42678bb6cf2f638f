"""What came of a chaos run, and how it is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from klinetrio.exchange.budget import LIMIT, SHARE
from tests.chaos.judge import Tally


if TYPE_CHECKING:
    from collections import Counter

    from klinetrio.sim.exchange import ExchangeStatistics
    from tests.chaos.watcher import Records

_BUDGET = int(LIMIT * SHARE)

_COLUMNS = ("checked", "by_ids", "revised", "wrong", "doubled", "missing", "unproved")
_ALLOWED = ("older", "tail")

_MOST_TOLD = 100


@attrs.define(kw_only=True)
class Verdict:
    """What came of a run.

    Attributes:
        trades: Aggregate trades that happened.
        faults: What went wrong, by kind.
        tallies: What was found of the stored bars, by interval.
        records: What was pushed and served.
        exchange: What the exchange counted.
        troubles: Whatever else is not as it has to be, in words.
        pushed_right: Bars pushed as final and complete that were right.
        served_right: Bars served as such that were right.
        repair_s: How long the daemon took after the last fault until all was repaired.
    """

    trades: int
    faults: Counter[str]
    tallies: dict[str, Tally]
    records: Records
    exchange: ExchangeStatistics
    troubles: list[str]
    pushed_right: int
    served_right: int
    repair_s: float

    @property
    def total(self) -> Tally:
        """The tallies of all intervals together."""
        total = Tally()
        for each in self.tallies.values():
            total.add(each)
        return total

    @property
    def failures(self) -> list[str]:
        """All that is wrong, in words; empty if the promise was kept."""
        failures = list(self.troubles)
        for name, tally in self.tallies.items():
            if tally.failures:
                failures += [f"{name}: {tally.failures} stored bars", *tally.examples]
        failures += [f"broken rule: {each}" for each in self.records.broken]
        used, refused = self.exchange.weight_highest, self.exchange.weight_refused
        if used > LIMIT or refused:
            failures.append(f"weight {used} of {LIMIT}, {refused} calls refused")
        if self.records.highest_weight > _BUDGET:
            failures.append(f"a daemon granted weight {self.records.highest_weight} of {_BUDGET}")
        return failures


def table(verdict: Verdict) -> str:
    """Return a verdict as text."""
    exchange, records = verdict.exchange, verdict.records
    weights = f"{exchange.weight_highest} of {LIMIT}"
    facts = {
        "trades made": verdict.trades,
        "frames sent": f"{exchange.frames_sent} on {exchange.connections_accepted} connections",
        "faults": ", ".join(f"{kind} {count}" for kind, count in sorted(verdict.faults.items())),
        "REST calls": ", ".join(f"{kind} {count}" for kind, count in exchange.rest_calls.items()),
        "pushed finals": f"{records.finals}, corrected {records.corrections}",
        "proved, pushed": f"{verdict.pushed_right} bars right",
        "served bars": f"{records.answers}",
        "proved, served": f"{verdict.served_right} bars right",
        "highest weight": f"{weights} counted by the exchange, {records.highest_weight} of "
        f"{_BUDGET} granted by a daemon",
        "refused": f"{exchange.weight_refused} calls for their weight, {exchange.bans} bans",
        "repaired after": f"{verdict.repair_s:.0f} s",
        "verdict": "WRONG" if verdict.failures else "right",
    }
    rows = [*verdict.tallies.items(), ("all", verdict.total)]
    names = (*_COLUMNS, *_ALLOWED)
    lines = [f"{'stored bars':15}" + "".join(f"{name:>10}" for name in names)]
    for title, tally in rows:
        lines.append(f"{title:15}" + "".join(f"{getattr(tally, name):>10}" for name in names))
    lines += [f"{name:15} {fact}" for name, fact in facts.items()]
    failures = verdict.failures
    more = [f"and {len(failures) - _MOST_TOLD} more"] if len(failures) > _MOST_TOLD else []
    return "\n".join([*lines, *failures[:_MOST_TOLD], *more])
