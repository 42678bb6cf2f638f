"""The daemon's hold on its database: claimed, open, and its rows meaning the run's series.

It is taken at the start.  A server that is away then is no reason not to start: trades do not wait
for it.  The run goes on from what the spool has, bars wait there, and the hold is taken as soon as
the server answers.

Invariants (tested in tests/storage/test_hold.py):
  I1  Before the hold is taken nothing is read from the database or written to it.
  I2  A database that answers and refuses ends the start, and another daemon's claim ends the run,
      however late it shows.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

import trio

from klinetrio.errors import StoreAway
from klinetrio.insist import insist
from klinetrio.logs import log_event
from klinetrio.storage.leftover import attach_both, attach_later, known_to
from klinetrio.storage.stored import StoredBars
from klinetrio.storage.stores import open_store


if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from klinetrio.domain.symbol import Symbol
    from klinetrio.engine.registry import SymbolPeriodRegistry
    from klinetrio.storage.protocol import KlineStore
    from klinetrio.storage.spool import Spool
    from klinetrio.storage.stored import BarReader

log = logging.getLogger("klinetrio.storage")


class Hold:
    """The hold on one database.

    Args:
        url: As ``storage.url`` names it.

    Attributes:
        database: Not to be used by others before ``is_attached``, when it refuses everything.
        is_attached: Whether rows mean the run's series.
    """

    def __init__(self, url: str) -> None:
        self.database: KlineStore = open_store(url)
        self.is_attached = False
        self._url = url
        self._claim: AbstractContextManager[None] | None = None

    async def claim(self) -> None:
        """Claim the database, if it can be reached.

        Raises:
            ClaimError: Another process has claimed it.
            StoreError: It answers, and refuses.
        """
        try:
            await trio.to_thread.run_sync(self._claim_once)
        except StoreAway as error:
            _tell_away(error)

    async def release(self) -> None:
        """Give the claim up, if there is one; takes as long as the store's own bounds."""
        claim, self._claim = self._claim, None
        if claim is not None:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(claim.__exit__, None, None, None)

    def known_symbols(self, spool: Spool) -> Mapping[str, Symbol]:
        """Open the database, and return the symbols of earlier runs as far as they can be known.

        Blocking.

        Raises:
            StoreError: It answers, and refuses.
        """
        self.is_attached = False
        if self._claim is not None:
            try:
                self.database.open()
                return known_to(self.database, spool)
            except StoreAway as error:
                self.close()
                _tell_away(error)
        return spool.known_symbols()

    async def attach(
        self, spool: Spool, registry: SymbolPeriodRegistry, known: Mapping[str, Symbol]
    ) -> BarReader:
        """Let rows mean a run's series, in the spool in any case.

        Args:
            spool: Open.
            registry: The series.
            known: What ``known_symbols`` returned.

        Returns:
            Where the bars of earlier runs can be read just now.
        """

        def attach() -> None:
            attach_both(self.database, spool, registry, known)
            self.is_attached = True

        if self._claim is not None:
            try:
                ask = partial(trio.to_thread.run_sync, attach)
                await insist("database", ask, final=(StoreAway,))
            except StoreAway as error:
                await trio.to_thread.run_sync(self.close)
                _tell_away(error)
        if self.is_attached:
            return StoredBars(self.database, spool)
        await trio.to_thread.run_sync(spool.attach, registry)
        return spool

    async def run(self, spool: Spool, registry: SymbolPeriodRegistry) -> None:
        """Take the hold of a database that was away at the start, as soon as it can be had.

        Raises:
            ClaimError: Another process has claimed it meanwhile.
            SchemaError: It is not one that this version can use.
            ScalesChanged: Its bars have more decimals than this run's, which has to start over.
        """

        def attach() -> None:
            self._claim_once()
            try:
                self.database.open()
                attach_later(self.database, partial(open_store, self._url), spool, registry)
            except BaseException:
                self.database.close()
                raise
            self.is_attached = True

        if not self.is_attached:
            await insist("database", partial(trio.to_thread.run_sync, attach))
            log_event(log, logging.INFO, "database_reached", database=self.database.name)

    def close(self) -> None:
        """Close the database; harmless when repeated."""
        self.is_attached = False
        self.database.close()

    def _claim_once(self) -> None:
        if self._claim is None:
            claim = self.database.claim()
            claim.__enter__()
            self._claim = claim


def _tell_away(error: StoreAway) -> None:
    facts = {"cause": error, "consequence": "closed bars wait in the spool"}
    log_event(log, logging.WARNING, "database_away", **facts)
