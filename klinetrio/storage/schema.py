"""The SQLite schema and its migrations.

Numbers are scaled integers; ``klines_decimal`` shows them with their decimals to people.  Tables
are STRICT, so a value that is not an integer is an error and never a silent real.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from klinetrio.domain.kline import FIELDS


if TYPE_CHECKING:
    from collections.abc import Iterator


VERSION = 2

# Stored fields: all but ``flags``, whose bits and revision are columns of their own.
VALUES = FIELDS[1:-1]

_BAR = "\n    ".join(f"{name} INTEGER NOT NULL," for name in VALUES)

# The texts of this module are put together from constants of this package only.
_CREATE = f"""
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE symbols (
    symbol_id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    base TEXT NOT NULL,
    quote TEXT NOT NULL,
    listing_time INTEGER NOT NULL,
    price_scale INTEGER NOT NULL,
    quantity_scale INTEGER NOT NULL,
    symbol_index INTEGER
) STRICT;

CREATE TABLE klines (
    symbol_id INTEGER NOT NULL REFERENCES symbols,
    interval TEXT NOT NULL,
    open_time INTEGER NOT NULL,
    {_BAR}
    flags INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    PRIMARY KEY (symbol_id, interval, open_time)
) STRICT, WITHOUT ROWID;

CREATE TABLE live (
    symbol_id INTEGER NOT NULL REFERENCES symbols,
    interval TEXT NOT NULL,
    open_time INTEGER NOT NULL,
    {_BAR}
    flags INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    PRIMARY KEY (symbol_id, interval)
) STRICT, WITHOUT ROWID;

CREATE VIEW klines_decimal AS
SELECT
    name AS symbol,
    interval,
    open_time,
    strftime('%Y-%m-%d %H:%M:%S', open_time / 1000, 'unixepoch') AS open_time_utc,
    open / price_unit AS open,
    high / price_unit AS high,
    low / price_unit AS low,
    close / price_unit AS close,
    volume / quantity_unit AS volume,
    quote_volume / (price_unit * quantity_unit) AS quote_volume,
    trade_count,
    taker_buy_volume / quantity_unit AS taker_buy_volume,
    taker_buy_quote_volume / (price_unit * quantity_unit) AS taker_buy_quote_volume,
    (flags & 2) / 2 AS is_complete,
    revision
FROM klines JOIN (
    SELECT
        *,
        CAST('1e' || price_scale AS REAL) AS price_unit,
        CAST('1e' || quantity_scale AS REAL) AS quantity_unit
    FROM symbols
) USING (symbol_id);

INSERT INTO meta VALUES ('schema_version', '1');
"""  # noqa: S608

# Of each series the span in which nothing is missing that the exchange has: so that what years hold
# need not be looked through again and again, and a download goes on where it stopped.
_CHECKED = """
CREATE TABLE checked (
    symbol_id INTEGER NOT NULL REFERENCES symbols,
    interval TEXT NOT NULL,
    since INTEGER NOT NULL,
    until INTEGER NOT NULL,
    PRIMARY KEY (symbol_id, interval)
) STRICT, WITHOUT ROWID;

UPDATE meta SET value = '2' WHERE key = 'schema_version';
"""

# MIGRATIONS[n] brings a database from version n to n + 1; version 0 is an empty file.
MIGRATIONS = (_CREATE, _CHECKED)


def statements(script: str) -> Iterator[str]:
    """Yield the statements of a script, each of which ends at the end of a line.

    ``executescript`` would commit the transaction that they all belong in.
    """
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


_COLUMNS = ("symbol_id", "interval", "open_time", *VALUES, "flags", "revision")
_MARKS = ", ".join("?" * len(_COLUMNS))
_SET = ", ".join(f"{name} = excluded.{name}" for name in (*VALUES, "flags", "revision"))

UPSERT_CLOSED = f"""
INSERT INTO klines ({", ".join(_COLUMNS)}) VALUES ({_MARKS})
ON CONFLICT (symbol_id, interval, open_time) DO UPDATE SET {_SET}
WHERE (excluded.flags & 8, excluded.flags & 2, excluded.revision, excluded.trade_count)
    > (klines.flags & 8, klines.flags & 2, klines.revision, klines.trade_count)
"""  # noqa: S608

_SAME = " AND ".join(f"excluded.{name} = klines.{name}" for name in VALUES[:-2])
_TAKE = f"""
INSERT INTO klines ({", ".join(_COLUMNS)}) VALUES ({_MARKS})
ON CONFLICT (symbol_id, interval, open_time) DO UPDATE SET
    {", ".join(f"{name} = excluded.{name}" for name in (*VALUES, "flags"))},
    revision = klines.revision + NOT ({_SAME})
"""  # noqa: S608
UPSERT_HISTORY = f"{_TAKE} WHERE (klines.flags & 2) = 0"
UPSERT_SETTLED = f"{_TAKE} WHERE NOT ({_SAME}) OR (klines.flags & 2) = 0"

UPSERT_CHECKED = "INSERT OR REPLACE INTO checked VALUES (?, ?, ?, ?)"
SELECT_CHECKED = "SELECT symbol_id, interval, since, until FROM checked"

UPSERT_LIVE = f"INSERT OR REPLACE INTO live ({', '.join(_COLUMNS)}) VALUES ({_MARKS})"  # noqa: S608

_BAR_COLUMNS = f"open_time, {', '.join(VALUES)}, flags | (revision << 8)"

SELECT_FIRST = f"""
SELECT {_BAR_COLUMNS} FROM klines
WHERE symbol_id = ? AND interval = ? AND open_time BETWEEN ? AND ?
ORDER BY open_time LIMIT ?
"""  # noqa: S608

SELECT_LAST = SELECT_FIRST.replace("ORDER BY open_time", "ORDER BY open_time DESC")

SELECT_LIVE = f"SELECT symbol_id, interval, {_BAR_COLUMNS} FROM live"  # noqa: S608

SELECT_OLDEST = """
SELECT open_time FROM klines WHERE symbol_id = ? AND interval = ? ORDER BY open_time LIMIT 1
"""

SELECT_PROVED = """
SELECT open_time FROM klines
WHERE symbol_id = ? AND interval = ? AND open_time BETWEEN ? AND ? AND flags & 2
ORDER BY open_time
"""

# SQLite would read every row for a DISTINCT: this steps from series to series in the index.
SELECT_CLOSED_SERIES = """
WITH RECURSIVE found (symbol_id, interval) AS (
    SELECT symbol_id, (
        SELECT min(interval) FROM klines WHERE klines.symbol_id = symbols.symbol_id
    ) FROM symbols
    UNION ALL
    SELECT symbol_id, (
        SELECT min(klines.interval) FROM klines
        WHERE klines.symbol_id = found.symbol_id AND klines.interval > found.interval
    ) FROM found WHERE interval IS NOT NULL
)
SELECT name, interval FROM found JOIN symbols USING (symbol_id) WHERE interval IS NOT NULL
"""
SELECT_SERIES = f"""{SELECT_CLOSED_SERIES}
UNION SELECT name, interval FROM live JOIN symbols USING (symbol_id)
UNION SELECT name, interval FROM checked JOIN symbols USING (symbol_id)
"""  # noqa: S608

SELECT_SYMBOLS = """
SELECT name, base, quote, price_scale, quantity_scale, min(listing_time, coalesce((
    SELECT open_time FROM klines
    WHERE klines.symbol_id = symbols.symbol_id AND interval = '1d'
    ORDER BY open_time LIMIT 1
), listing_time)) FROM symbols
"""

UPSERT_SYMBOL = """
INSERT INTO symbols (
    name, base, quote, listing_time, price_scale, quantity_scale, symbol_index
) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (name) DO UPDATE SET
    base = excluded.base, quote = excluded.quote, listing_time = excluded.listing_time,
    price_scale = excluded.price_scale, quantity_scale = excluded.quantity_scale,
    symbol_index = excluded.symbol_index
"""

UPDATE_SCALES = "UPDATE symbols SET price_scale = ?, quantity_scale = ? WHERE name = ?"

# By what the columns are multiplied when a symbol gets more decimals.
FACTORS = {
    "price": ("open", "high", "low", "close"),
    "quantity": ("volume", "taker_buy_volume"),
    "quote": ("quote_volume", "taker_buy_quote_volume"),
}


def rescale_statement(table: str) -> str:
    """Return the statement that multiplies a symbol's bars; ``table`` is klines or live.

    Its parameters are named: price, quantity, quote (factors) and symbol_id.
    """
    changes = [f"{name} = {name} * :{kind}" for kind, names in FACTORS.items() for name in names]
    return f"UPDATE {table} SET {', '.join(changes)} WHERE symbol_id = :symbol_id"  # noqa: S608
