"""The symbols of a database, and the scales at which their bars are stored.

Functions on a connection that is in a transaction; the store calls them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from klinetrio.domain.symbol import Symbol
from klinetrio.errors import ScalesChanged
from klinetrio.storage import schema


if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping


def read_symbols(connection: sqlite3.Connection) -> dict[str, Symbol]:
    """Return the stored symbols by name."""
    rows = connection.execute(schema.SELECT_SYMBOLS).fetchall()
    return {
        name: Symbol(name, base, quote, listing_time, price_scale, quantity_scale)
        for name, base, quote, price_scale, quantity_scale, listing_time in rows
    }


def ids_of(connection: sqlite3.Connection) -> dict[str, int]:
    """Return the id of every stored symbol by name."""
    return dict(connection.execute("SELECT name, symbol_id FROM symbols").fetchall())


def upsert(connection: sqlite3.Connection, symbol: Symbol, index: int | None) -> None:
    """Store a symbol as it is now."""
    connection.execute(schema.UPSERT_SYMBOL, (*attrs.astuple(symbol), index))


def rescale(connection: sqlite3.Connection, stored: Symbol, symbol: Symbol) -> None:
    """Multiply a symbol's bars whose scales have grown; an overflow is an error in STRICT tables."""
    price, quantity = growth(stored, symbol)
    if price == quantity == 1:
        return
    factors = {"price": price, "quantity": quantity, "quote": price * quantity}
    factors["symbol_id"] = ids_of(connection)[symbol.name]
    for table in ("klines", "live"):
        connection.execute(schema.rescale_statement(table), factors)


def check_scales(connection: sqlite3.Connection, symbols: Iterable[Symbol]) -> None:
    """Make sure that stored bars have the scales that these symbols have.

    Raises:
        ScalesChanged: Another process has rescaled a symbol since.
    """
    rows = connection.execute("SELECT name, price_scale, quantity_scale FROM symbols").fetchall()
    expect_scales({name: (price, quantity) for name, price, quantity in rows}, symbols)


def growth(stored: Symbol, symbol: Symbol) -> tuple[int, int]:
    """Return what stored prices and quantities have to be multiplied by."""
    price = 10 ** (symbol.price_scale - stored.price_scale)
    quantity = 10 ** (symbol.quantity_scale - stored.quantity_scale)
    return price, quantity


def expect_scales(stored: Mapping[str, tuple[int, int]], symbols: Iterable[Symbol]) -> None:
    """Make sure that symbols have the decimals of prices and quantities that are stored.

    Raises:
        ScalesChanged: Another process has rescaled a symbol since.
    """
    for symbol in symbols:
        ours = (symbol.price_scale, symbol.quantity_scale)
        if stored.get(symbol.name, ours) != ours:
            decimals = "{} decimals of prices and {} of quantities".format
            raise ScalesChanged(
                f"expected {decimals(*ours)} of {symbol.name}, were"
                f" {decimals(*stored[symbol.name])}: start again"
            )


def merge_scales(symbol: Symbol, stored: Symbol | None) -> Symbol:
    """Return the exchange's symbol with the larger of its and the stored scales.

    Scales never shrink, because stored bars could not be shown exactly.  The listing time is the
    earlier one: ``onboardDate`` describes the symbol's current life only.
    """
    if stored is None:
        return symbol
    return attrs.evolve(
        symbol,
        listing_time=min(symbol.listing_time, stored.listing_time),
        price_scale=max(symbol.price_scale, stored.price_scale),
        quantity_scale=max(symbol.quantity_scale, stored.quantity_scale),
    )
