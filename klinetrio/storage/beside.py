"""How daemons and tools share a database: one daemon claims it, tools join it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from klinetrio.errors import ClaimError, StoreError


if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from klinetrio.engine.registry import SymbolPeriodRegistry
    from klinetrio.storage.protocol import KlineStore


@asynccontextmanager
async def claimed(database: KlineStore) -> AsyncIterator[None]:
    """Hold the claim of a database, which may be far away, for the length of the block.

    Raises:
        ClaimError: Another process has claimed it.
        StoreError: The claim cannot be had at all.
    """
    claim = database.claim()
    await trio.to_thread.run_sync(claim.__enter__)
    try:
        yield
    finally:
        # Bounded by the store's own waits.
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(claim.__exit__, None, None, None)


def join(database: KlineStore, registry: SymbolPeriodRegistry) -> None:
    """Let rows mean this registry; bars of symbols whose scales have grown are multiplied.

    Args:
        database: Open.
        registry: Its symbols have at least the scales that are stored.

    Raises:
        StoreError: It failed, or a scale has grown while a daemon runs; nothing has changed.
    """
    known = database.known_symbols()
    grown = [
        symbol
        for symbol in registry.symbols
        if symbol.name in known
        and (symbol.price_scale, symbol.quantity_scale)
        != (known[symbol.name].price_scale, known[symbol.name].quantity_scale)
    ]
    if grown:
        try:
            with database.claim():
                database.regrow(grown)
        except ClaimError as error:
            names = " ".join(symbol.name for symbol in grown)
            text = f"{names} have more decimals than the database: restart the daemon first"
            raise StoreError(f"{text} ({error})") from error
    database.enlist(registry)
