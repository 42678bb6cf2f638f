"""The keeper asks no more often than makes sense."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import trio

from klinetrio.errors import RESTRICTED_LOCATION, Refused
from klinetrio.exchange.clock import ExchangeClock
from klinetrio.insist import REFUSED_PAUSE_S
from klinetrio.recovery.keeper import HistoryKeeper


if TYPE_CHECKING:
    from trio.testing import MockClock

    from klinetrio.recovery.download import Progress


class RefusedDownload:
    """A download whose rounds all end like those of several workers who are refused."""

    def __init__(self) -> None:
        self.rounds = 0

    async def round(self, *_: object) -> Progress:
        """Be refused."""
        self.rounds += 1
        refusal = Refused(RESTRICTED_LOCATION, 0, "restricted location")
        raise ExceptionGroup("nursery", [refusal, refusal])


async def test_whoever_is_refused_by_his_place_waits(autojump_clock: MockClock) -> None:
    """As live repair does: no restart mends that, and the others go on."""
    engine = SimpleNamespace(registry=SimpleNamespace(symbols=()))
    download = RefusedDownload()
    keeper = HistoryKeeper(cast("Any", download), cast("Any", engine), ExchangeClock(), None)
    with trio.move_on_after(3.5 * REFUSED_PAUSE_S):
        await keeper.run()
    assert download.rounds == 4
    assert keeper.rounds == 0
