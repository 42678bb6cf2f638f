"""The months by which PostgreSQL keeps klines apart.

A month's table is made beside ``klines`` and then attached: that takes no lock that a reader or a
writer of other months would wait for, as ``CREATE TABLE ... PARTITION OF`` does.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
from psycopg import sql

from klinetrio.errors import SchemaError


if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt
    from psycopg import Connection

# Made while there is time, so that the first bar of a month finds its table.
AHEAD = 2

_MONTH = re.compile(r"klines_(\d{4})_(\d\d)")

# One maker of months at a time; "klmo".
_LOCK = 0x6B6C6D6F

# In the schema in which it would be made, whatever others the search path has.
_FIND = "SELECT to_regclass(format('%%I.%%I', current_schema(), %s::text))"


def months_of(times: npt.NDArray[np.int64]) -> list[int]:
    """Return the months, counted from January 1970, in which times (UTC ms) are."""
    months = times.astype("datetime64[ms]").astype("datetime64[M]")
    return [int(each) for each in np.unique(months.astype(np.int64))]


def start_of(month: int) -> int:
    """Return the first millisecond of a month."""
    return int(np.datetime64(month, "M").astype("datetime64[ms]").astype(np.int64))


def existing_months(connection: Connection) -> set[int]:
    """Return the months that have a table."""
    rows = connection.execute("SELECT relid::regclass::text FROM pg_partition_tree('klines')")
    names = (_MONTH.fullmatch(name.rpartition(".")[2].strip('"')) for (name,) in rows)
    # Others that somebody has attached are his, and no months.
    return {int(np.datetime64("-".join(each.groups()), "M").astype(int)) for each in names if each}


def add_months(connection: Connection, months: Iterable[int]) -> None:
    """Make the tables of months that have none; in a transaction of the caller's."""
    connection.execute("SELECT pg_advisory_xact_lock(%s, hashtext(current_schema()))", (_LOCK,))
    for month in sorted(set(months) - existing_months(connection)):
        table = f"klines_{np.datetime64(month, 'M')}".replace("-", "_")
        if connection.execute(_FIND, (table,)).fetchone() != (None,):
            expected = "expected it to be a partition of klines, was detached: attach or rename it"
            raise SchemaError(f"table {table}: {expected}")
        name = sql.Identifier(table)
        connection.execute(sql.SQL("CREATE TABLE {} (LIKE klines INCLUDING ALL)").format(name))
        connection.execute(
            sql.SQL("ALTER TABLE klines ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(
                name, sql.Literal(start_of(month)), sql.Literal(start_of(month + 1))
            )
        )
