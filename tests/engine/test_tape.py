"""The newest trades in memory, against the plainest list of them."""

from __future__ import annotations

from itertools import pairwise

import attrs
from hypothesis import given
from hypothesis import strategies as st

from klinetrio.domain.interval import parse_intervals
from klinetrio.domain.symbol import Symbol
from klinetrio.domain.trade import AggTrade
from klinetrio.engine.ledger import Verdict
from klinetrio.engine.registry import SymbolPeriodRegistry
from klinetrio.engine.tape import KEPT, TradeTape


SYMBOLS = (Symbol("AUSDT", "A", "USDT", 1, 2, 3), Symbol("BUSDT", "B", "USDT", 2, 2, 3))
REGISTRY = SymbolPeriodRegistry.ranked(SYMBOLS, parse_intervals(["1m"]))
TAKEN = (Verdict.NEW, Verdict.FILLS)
DROPPED = (Verdict.DUPLICATE, Verdict.IMPLAUSIBLE, Verdict.CONTRADICTS, None)


def trade(symbol: int, agg_id: int) -> AggTrade:
    """Return a trade whose other fields follow from its id."""
    normal = None if agg_id % 3 == 0 else agg_id % 7
    name = REGISTRY.symbols[symbol].name
    times = 1_000 + agg_id, agg_id % 2 == 0
    return AggTrade(name, agg_id, 100 + agg_id, 7, agg_id * 2, agg_id * 2 + 1, *times, normal)


@attrs.define
class Model:
    """What a tape should say, by the plainest means."""

    seen: list[AggTrade] = attrs.Factory(list)
    since_take: list[AggTrade] = attrs.Factory(list)

    def put(self, new: AggTrade, verdict: Verdict | None) -> None:
        """Add a trade."""
        if verdict is Verdict.RESTARTS:
            self.seen = [each for each in self.seen if each.symbol != new.symbol]
        if verdict in (*TAKEN, Verdict.RESTARTS):
            self.seen.append(new)
            self.since_take.append(new)


puts = st.tuples(
    st.integers(0, 1),
    st.sampled_from([*TAKEN, *TAKEN, *TAKEN, *DROPPED, Verdict.RESTARTS]),
    st.booleans(),
)


@given(st.lists(puts, max_size=60), st.randoms(use_true_random=False))
def test_what_is_taken_is_told_once_and_kept(
    steps: list[tuple[int, Verdict | None, bool]], random: object
) -> None:
    """Trades come out as they came, and each symbol's own ones ascend; a restart forgets the others."""
    tape, model = TradeTape(REGISTRY), Model()
    ids = list(range(len(steps)))
    random.shuffle(ids)  # type: ignore[attr-defined]
    for (symbol, verdict, takes), agg_id in zip(steps, ids, strict=True):
        new = trade(symbol, agg_id)
        tape.put(new, verdict)
        model.put(new, verdict)
        if takes:
            assert tape.take() == model.since_take
            model.since_take.clear()
        for index, each in enumerate(REGISTRY.symbols):
            assert tape.recent(index) == sorted(t for t in model.seen if t.symbol == each.name)
    assert tape.take() == model.since_take


def test_only_the_newest_are_kept() -> None:
    """What is more than is kept pushes out what came first."""
    tape = TradeTape(REGISTRY)
    for agg_id in range(2 * KEPT + 5):
        tape.put(trade(0, agg_id), Verdict.NEW)
    kept = [each.agg_id for each in tape.recent(0)]
    assert kept == list(range(KEPT + 5, 2 * KEPT + 5))
    assert all(b == a + 1 for a, b in pairwise(kept))
    assert tape.recent(1) == []
