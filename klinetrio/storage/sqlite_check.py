"""What can be wrong with a SQLite file as such, beside what its bars say."""

from __future__ import annotations

import shlex
import sqlite3
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from pathlib import Path

# The first ones tell as much as all.
_MOST_LISTED = 10

_KEY = ["symbol_id", "interval", "open_time"]

# By the index from one symbol to the next.
_STRAY = """
WITH RECURSIVE found (symbol_id) AS (
    SELECT min(symbol_id) FROM klines
    UNION ALL
    SELECT (SELECT min(symbol_id) FROM klines WHERE symbol_id > found.symbol_id) FROM found
    WHERE symbol_id IS NOT NULL
)
SELECT count(*) FROM found
WHERE symbol_id IS NOT NULL AND symbol_id NOT IN (SELECT symbol_id FROM symbols)
"""


def check(connection: sqlite3.Connection, path: Path) -> list[str]:
    """Return what is wrong with the file, and what helps, in words."""
    new = str(path.with_name(f"{path.stem}-recovered{path.suffix}"))
    recover = (
        f"with no daemon running: sqlite3 {shlex.quote(str(path))} .recover"
        f" | sqlite3 {shlex.quote(new)}, or restore a backup"
    )
    try:
        damage = _damage(connection)
        key = connection.execute("PRAGMA table_info(klines)").fetchall()
        if sorted((row[5], row[1]) for row in key if row[5]) != list(enumerate(_KEY, 1)):
            damage.append(f"klines: expected the primary key {', '.join(_KEY)}, was another")
        (stray,) = connection.execute(_STRAY).fetchone()
        if stray:
            damage.append(f"{stray} symbols have bars in klines and no row in symbols")
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise
        damage = [str(error)]
    return [*damage, recover] if damage else []


def condition(symbol: str, interval: str) -> str:
    """Return the SQL condition by which the bars of one series are found."""
    name = symbol.replace("'", "''")
    # The text is shown to a person, who may or may not run it.
    query = f"SELECT symbol_id FROM symbols WHERE name = '{name}'"  # noqa: S608
    return f"symbol_id = ({query}) AND interval = '{interval}'"


def _damage(connection: sqlite3.Connection) -> list[str]:
    answers = connection.execute(f"PRAGMA quick_check({_MOST_LISTED})").fetchall()
    return [line for (text,) in answers if text != "ok" for line in text.splitlines()]
