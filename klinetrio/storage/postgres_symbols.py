"""The symbols of a PostgreSQL database, their series, and the scales of their bars.

Functions on a connection that is in a transaction; the store calls them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import attrs
from psycopg import sql

from klinetrio.domain.symbol import Symbol
from klinetrio.storage import postgres_schema as schema
from klinetrio.storage.enrolment import expect_scales, growth


if TYPE_CHECKING:
    from collections.abc import Iterable

    from psycopg import Connection

    from klinetrio.engine.registry import SymbolPeriodRegistry


def lock_symbols(connection: Connection, mode: Literal["SHARE", "EXCLUSIVE"]) -> None:
    """Keep symbols as they are until the transaction ends: for oneself alone, or with others."""
    connection.execute(sql.SQL("LOCK TABLE symbols IN {} MODE").format(sql.SQL(mode)))


def read_symbols(connection: Connection) -> dict[str, Symbol]:
    """Return the stored symbols by name."""
    return {row[0]: Symbol(*row) for row in connection.execute(schema.SELECT_SYMBOLS)}


def upsert(connection: Connection, symbol: Symbol, index: int | None) -> None:
    """Store a symbol as it is now."""
    connection.execute(schema.UPSERT_SYMBOL, (*attrs.astuple(symbol), index))


def rescale(connection: Connection, stored: Symbol, symbol: Symbol) -> None:
    """Multiply a symbol's bars whose scales have grown; what does not fit 64 bits is an error."""
    price, quantity = growth(stored, symbol)
    if price == quantity == 1:
        return
    factors = {"price": price, "quantity": quantity, "quote": price * quantity}
    # As long as it takes: all that is stored of the symbol changes at once, or not at all.
    connection.execute("SET LOCAL statement_timeout = 0")
    for table in ("klines", "live"):
        connection.execute(schema.rescale_statement(table), {**factors, "name": symbol.name})


def check_scales(connection: Connection, symbols: Iterable[Symbol]) -> None:
    """Make sure that stored bars have the scales that these symbols have.

    Raises:
        ScalesChanged: Another process has rescaled a symbol since.
    """
    rows = connection.execute("SELECT name, price_scale, quantity_scale FROM symbols").fetchall()
    expect_scales({name: (price, quantity) for name, price, quantity in rows}, symbols)


def series_of(connection: Connection, registry: SymbolPeriodRegistry) -> dict[tuple[str, str], int]:
    """Return the ids of series by symbol and interval; those of a registry are made if need be."""
    pairs = [
        (interval.name, symbol.name)
        for symbol in registry.symbols
        for interval in registry.intervals
    ]
    connection.cursor().executemany(schema.INSERT_SERIES, pairs)
    return stored_ids(connection)


def stored_ids(connection: Connection) -> dict[tuple[str, str], int]:
    """Return the ids of all series by symbol and interval."""
    rows = connection.execute(schema.SELECT_SERIES).fetchall()
    return {(name, interval): series_id for name, interval, series_id in rows}
