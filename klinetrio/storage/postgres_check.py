"""What can be wrong with a PostgreSQL database as such, beside what its bars say."""

from __future__ import annotations

from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from collections.abc import Callable

    from psycopg import Connection

# Left by a CREATE INDEX CONCURRENTLY that failed, or by somebody's hand.
_INVALID = """
SELECT indexrelid::regclass::text FROM pg_index
WHERE indrelid IN (SELECT relid FROM pg_partition_tree('klines')) AND NOT (indisvalid AND indisready)
ORDER BY 1
"""

# Tables of klines without one: the months, or all of it.
_KEYLESS = """
SELECT relid::regclass::text FROM pg_partition_tree('klines')
WHERE NOT EXISTS (SELECT FROM pg_index WHERE indrelid = relid AND indisprimary) ORDER BY relid
"""

# By the indexes from one series to the next.
_STRAY = """
WITH RECURSIVE found (series_id) AS (
    SELECT min(series_id) FROM klines
    UNION ALL
    SELECT (SELECT min(series_id) FROM klines WHERE klines.series_id > found.series_id) FROM found
    WHERE series_id IS NOT NULL
)
SELECT count(*) FROM found WHERE series_id IS NOT NULL AND NOT EXISTS (
    SELECT FROM series JOIN symbols USING (symbol_id) WHERE series.series_id = found.series_id
)
"""


def check(connection: Connection, prompt: Callable[[str], str]) -> list[str]:
    """Return what is wrong with tables and indexes, and what helps, in words.

    Args:
        connection: To the database.
        prompt: Makes a command of an SQL statement.
    """
    found = [
        f"the index {name} is not valid: {prompt(f'REINDEX INDEX {name}')}"
        for (name,) in connection.execute(_INVALID)
    ]
    keyless = [name for (name,) in connection.execute(_KEYLESS)]
    if keyless:
        # The parent comes first, and a key of its own gives one to every month.
        add = prompt(f"ALTER TABLE {keyless[0]} ADD PRIMARY KEY (series_id, open_time)")
        found.append(
            f"{keyless[0]} has no primary key: delete what is there twice, as is said below, then"
            f" {add}, and only then what else is said"
        )
    row = connection.execute(_STRAY).fetchone()
    if row is not None and row[0]:
        found.append(f"{row[0]} series have bars in klines and no row in series: restore a backup")
    return found


def condition(symbol: str, interval: str) -> str:
    """Return the SQL condition by which the bars of one series are found."""
    name = symbol.replace("'", "''")
    # The text is shown to a person, who may or may not run it.
    query = (
        "SELECT series_id FROM series JOIN symbols USING (symbol_id)"  # noqa: S608
        f" WHERE name = '{name}' AND interval = '{interval}'"
    )
    return f"series_id = ({query})"
