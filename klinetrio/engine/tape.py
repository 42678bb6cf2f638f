"""The newest trades of every symbol, for those who want trades and not bars.

Actors put the trades that their books have taken.  Each swap publishes them, and the last ``KEPT``
of each symbol stay here, as rows of integers: 64 bytes a trade instead of some 300.

Invariants (tested in tests/engine/test_tape.py):
  I1  ``take`` returns every trade that was put and taken once, in the order in which they came.
  I2  ``recent`` returns the last ``KEPT`` of them of one symbol, ascending by id, each id once.
  I3  After ids that started over it holds none of before: they would look like the newest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from klinetrio.domain.trade import AggTrade
from klinetrio.engine.ledger import Verdict


if TYPE_CHECKING:
    import numpy.typing as npt

    from klinetrio.engine.registry import SymbolPeriodRegistry

# As many as the exchange answers at most at once.  At 64 bytes each 64 MB for 1,000 symbols, of
# which a symbol takes what it has traded since the start: untouched pages cost nothing.
KEPT = 1_000

# agg_id, price, quantity, first_id, last_id, time, buyer_is_maker, normal_quantity
_COLUMNS = 8
_UNTOLD = -1

_TAKEN = frozenset({Verdict.NEW, Verdict.FILLS, Verdict.RESTARTS})


class TradeTape:
    """The trades of all symbols.

    Args:
        registry: The symbols.
    """

    def __init__(self, registry: SymbolPeriodRegistry) -> None:
        self._registry = registry
        # Bounded by time, not by count: the swapper empties it every 100 ms.
        self._fresh: list[AggTrade] = []
        shape = (len(registry.symbols), KEPT, _COLUMNS)
        self._rows: npt.NDArray[np.int64] = np.zeros(shape, np.int64)
        self._counts = [0] * len(registry.symbols)

    def put(self, trade: AggTrade, verdict: Verdict | None) -> None:
        """Add a trade if it was taken.

        Args:
            trade: The trade.
            verdict: What its ids say of it; None if its symbol is halted.
        """
        if verdict is None or verdict not in _TAKEN:
            return
        self._fresh.append(trade)
        index = self._registry.index_of(trade.symbol)
        if verdict is Verdict.RESTARTS:
            self._counts[index] = 0
        normal = _UNTOLD if trade.normal_quantity is None else trade.normal_quantity
        self._rows[index, self._counts[index] % KEPT] = (*trade[1:8], normal)
        self._counts[index] += 1

    def take(self) -> list[AggTrade]:
        """Return the trades taken since the last call, as they came."""
        fresh = self._fresh
        self._fresh = []
        return fresh

    def recent(self, symbol_index: int) -> list[AggTrade]:
        """Return the newest trades of a symbol, ascending by id."""
        name = self._registry.symbols[symbol_index].name
        rows = self._rows[symbol_index, : min(self._counts[symbol_index], KEPT)]
        return [_trade(name, row) for row in rows[rows[:, 0].argsort()].tolist()]


def _trade(name: str, row: list[int]) -> AggTrade:
    agg_id, price, quantity, first_id, last_id, time, is_maker, normal = row
    told = None if normal == _UNTOLD else normal
    return AggTrade(name, agg_id, price, quantity, first_id, last_id, time, bool(is_maker), told)
