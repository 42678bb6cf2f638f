"""The daemon's own history download: holes filled every hour, and history from ``since`` on.

The youngest bars are the books' to prove and to repair; here it goes about older ones, whatever the
reason for which they are missing or not proved.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from klinetrio.domain.interval import HOUR, MINUTE
from klinetrio.errors import Refused
from klinetrio.insist import REFUSED_PAUSE_S
from klinetrio.logs import log_event
from klinetrio.recovery.past import CHEAP_ROWS
from klinetrio.supervise import describe


if TYPE_CHECKING:
    from klinetrio.engine.engine import Engine
    from klinetrio.exchange.clock import ExchangeClock
    from klinetrio.recovery.download import HistoryDownload, Progress

log = logging.getLogger("klinetrio.history")

ROUND_MS = HOUR

# Younger bars are the books' business.  Every seed reaches further back than this, and what of it the
# database did not take waits on the shelf, so that none is nobody's.  What both write is no harm: the better state of a bar stays (storage/schema.py).
YOUNGEST_MS = (CHEAP_ROWS - 10) * MINUTE

# Live service first: the past that every symbol needs at a start.
_LOOK_EVERY_S = 1.0


class HistoryKeeper:
    """Runs a round of the download at the start and then every hour.

    Args:
        download: Does the work.
        engine: Whose symbols must know their past first.
        clock: The exchange's clock.
        since: From when on history is wanted, UTC ms; None if only holes are to be filled.
    """

    def __init__(
        self,
        download: HistoryDownload,
        engine: Engine,
        clock: ExchangeClock,
        since: int | None,
    ) -> None:
        self.download = download
        self.since = since
        self.rounds = 0
        self._engine = engine
        self._clock = clock

    async def run(self) -> None:
        """Keep history whole, for ever."""
        while True:
            await self._until_seeded()
            done = await self._round()
            self.rounds += 1
            if done.written or done.absent:
                facts = {"written": done.written, "absent": done.absent, "series": done.series}
                log_event(log, logging.INFO, "history", **facts)
            await self._clock.sleep_until(self._clock.now_ms() + ROUND_MS)

    async def _round(self) -> Progress:
        """Run a round until it is done; whoever is refused by his place asks no more than he must."""
        symbols = self._engine.registry.symbols
        while True:
            until = self._clock.now_ms() - YOUNGEST_MS
            try:
                return await self.download.round(symbols, until, self.since)
            except* Refused as group:
                facts = {"cause": describe(group), "delay_s": REFUSED_PAUSE_S}
                log_event(log, logging.WARNING, "history_waits", **facts)
            await trio.sleep(REFUSED_PAUSE_S)

    async def _until_seeded(self) -> None:
        """Wait until nearly every symbol knows its past; the rest may have to wait for long."""
        count = len(self._engine.registry.symbols)
        while sum(self._engine.book(index).seeded for index in range(count)) < 0.95 * count:  # noqa: ASYNC110  (nobody tells, and it takes a minute)
            await trio.sleep(_LOOK_EVERY_S)
