"""What one swap makes known to everybody downstream."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import attrs


if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from klinetrio.domain.trade import AggTrade


class ClosedBar(NamedTuple):
    """A bar that was closed, or a closed bar that was corrected (a higher revision).

    Attributes:
        row: Index of its series in the store: symbol index * period count + period index.
        values: The thirteen fields of ``domain.kline``.
    """

    row: int
    values: tuple[int, ...]


@attrs.frozen(slots=True)
class Publication:
    """The outcome of one swap.

    Attributes:
        generation: Number of the swap; rises by one.
        changed: Indexes of the rows whose open bar changed since the last swap, shape ``(n,)``.
        closed: Bars closed or corrected since the last swap, oldest first.
        proved: Closed bars whose values are as published and which have only been proved
            complete since: no news to a follower, but the database keeps the proof.
        trades: Taken since the last swap, of all symbols, as they came; trades that had been missed
            come late, and are older than others before them.
    """

    generation: int
    changed: npt.NDArray[np.int64]
    closed: Sequence[ClosedBar]
    proved: Sequence[ClosedBar] = ()
    trades: Sequence[AggTrade] = ()
