"""How daemons and tools share a database: one daemon claims it, tools join it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from klinetrio.errors import ClaimError, StoreError


if TYPE_CHECKING:
    from klinetrio.engine.registry import SymbolPeriodRegistry
    from klinetrio.storage.protocol import KlineStore


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
