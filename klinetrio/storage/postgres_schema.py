"""The PostgreSQL schema, its migrations and its statements.

Numbers are scaled integers; ``klines_decimal`` shows them with their decimals to people, exactly.

``klines`` is partitioned by months of the open time, so that its indexes stay small however long
the history grows, and old years can be moved or dropped as tables.  There is no default partition:
what it held would have to be searched whenever a month is added.
"""

from __future__ import annotations

from klinetrio.storage.schema import FACTORS, VALUES


VERSION = 1

_COLUMNS = ("series_id", "open_time", *VALUES, "flags", "revision")
_NAMES = ", ".join(_COLUMNS)

_VALUES = "\n    ".join(f"{name} bigint NOT NULL," for name in VALUES)

# Eight-byte columns first: no byte of a row is lost to alignment then.
_BAR = f"""
    open_time bigint NOT NULL,
    {_VALUES}
    series_id integer NOT NULL,
    revision integer NOT NULL,
    flags smallint NOT NULL
"""

# The texts of this module are put together from constants of this package only.
_CREATE = f"""
CREATE TABLE meta (
    key text PRIMARY KEY,
    value text NOT NULL
);

CREATE TABLE symbols (
    symbol_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    base text NOT NULL,
    quote text NOT NULL,
    listing_time bigint NOT NULL,
    price_scale smallint NOT NULL,
    quantity_scale smallint NOT NULL,
    symbol_index integer
);

CREATE TABLE series (
    series_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    symbol_id integer NOT NULL REFERENCES symbols,
    interval text NOT NULL,
    UNIQUE (symbol_id, interval)
);

CREATE TABLE klines ({_BAR},
    PRIMARY KEY (series_id, open_time)
) PARTITION BY RANGE (open_time);

CREATE TABLE live ({_BAR},
    PRIMARY KEY (series_id)
) WITH (fillfactor = 50);

CREATE TABLE checked (
    series_id integer PRIMARY KEY REFERENCES series,
    since bigint NOT NULL,
    until bigint NOT NULL
);

CREATE VIEW klines_decimal AS
SELECT
    name AS symbol,
    interval,
    open_time,
    to_char(to_timestamp(open_time / 1000) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS')
        AS open_time_utc,
    to_timestamp(open_time / 1000) AS open_timestamp,
    open * price_unit AS open,
    high * price_unit AS high,
    low * price_unit AS low,
    close * price_unit AS close,
    volume * quantity_unit AS volume,
    quote_volume * price_unit * quantity_unit AS quote_volume,
    trade_count,
    taker_buy_volume * quantity_unit AS taker_buy_volume,
    taker_buy_quote_volume * price_unit * quantity_unit AS taker_buy_quote_volume,
    (flags & 2) <> 0 AS is_complete,
    revision
FROM klines JOIN series USING (series_id) JOIN (
    SELECT
        *,
        ('1e-' || price_scale)::numeric AS price_unit,
        ('1e-' || quantity_scale)::numeric AS quantity_unit
    FROM symbols
) AS scaled USING (symbol_id);

INSERT INTO meta VALUES ('schema_version', '1');
"""  # noqa: S608

# MIGRATIONS[n] brings a database from version n to n + 1; version 0 is an empty schema.
MIGRATIONS = (_CREATE,)

# Bars on their way in, of the writing connection alone; each transaction leaves it empty.
CREATE_INCOMING = f"CREATE TEMPORARY TABLE incoming ({_BAR}) ON COMMIT DELETE ROWS"

# In the order of the index, so that of two writers none waits for a row that the other holds.
_MERGE = f"""
INSERT INTO klines ({_NAMES}) SELECT {_NAMES} FROM incoming ORDER BY series_id, open_time
ON CONFLICT (series_id, open_time) DO UPDATE SET
"""  # noqa: S608
_SET = ", ".join(f"{name} = excluded.{name}" for name in (*VALUES, "flags", "revision"))

MERGE_CLOSED = f"""{_MERGE} {_SET}
WHERE (excluded.flags & 8, excluded.flags & 2, excluded.revision, excluded.trade_count)
    > (klines.flags & 8, klines.flags & 2, klines.revision, klines.trade_count)
"""

_SAME = " AND ".join(f"excluded.{name} = klines.{name}" for name in VALUES[:-2])
_TAKE = f"""{_MERGE}
    {", ".join(f"{name} = excluded.{name}" for name in (*VALUES, "flags"))},
    revision = klines.revision + (NOT ({_SAME}))::integer
"""
MERGE_HISTORY = f"{_TAKE} WHERE (klines.flags & 2) = 0"
MERGE_SETTLED = f"{_TAKE} WHERE NOT ({_SAME}) OR (klines.flags & 2) = 0"

MERGE_LIVE = f"""
INSERT INTO live ({_NAMES}) SELECT {_NAMES} FROM incoming ORDER BY series_id
ON CONFLICT (series_id) DO UPDATE SET open_time = excluded.open_time, {_SET}
"""  # noqa: S608

UPSERT_CHECKED = """
INSERT INTO checked VALUES (%s, %s, %s)
ON CONFLICT (series_id) DO UPDATE SET since = excluded.since, until = excluded.until
"""
SELECT_CHECKED = "SELECT series_id, since, until FROM checked"

_BAR_COLUMNS = f"open_time, {', '.join(VALUES)}, flags | (revision::bigint << 8)"

SELECT_FIRST = f"""
SELECT {_BAR_COLUMNS} FROM klines
WHERE series_id = %s AND open_time BETWEEN %s AND %s
ORDER BY open_time LIMIT %s
"""  # noqa: S608

SELECT_LAST = SELECT_FIRST.replace("ORDER BY open_time", "ORDER BY open_time DESC")

SELECT_LIVE = f"SELECT series_id, {_BAR_COLUMNS} FROM live"  # noqa: S608

SELECT_OLDEST = "SELECT open_time FROM klines WHERE series_id = %s ORDER BY open_time LIMIT 1"

SELECT_PROVED = """
SELECT open_time FROM klines
WHERE series_id = %s AND open_time BETWEEN %s AND %s AND flags & 2 <> 0
ORDER BY open_time
"""

# A look into the index for each symbol: as a join it reads every row.
SELECT_SYMBOLS = """
SELECT name, base, quote, least(listing_time, (
    SELECT (
        SELECT open_time FROM klines WHERE klines.series_id = series.series_id
        ORDER BY open_time LIMIT 1
    ) FROM series WHERE series.symbol_id = symbols.symbol_id AND interval = '1d'
)), price_scale, quantity_scale FROM symbols
"""

UPSERT_SYMBOL = """
INSERT INTO symbols (
    name, base, quote, listing_time, price_scale, quantity_scale, symbol_index
) VALUES (%s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (name) DO UPDATE SET
    base = excluded.base, quote = excluded.quote, listing_time = excluded.listing_time,
    price_scale = excluded.price_scale, quantity_scale = excluded.quantity_scale,
    symbol_index = excluded.symbol_index
"""

UPDATE_SCALES = "UPDATE symbols SET price_scale = %s, quantity_scale = %s WHERE name = %s"

INSERT_SERIES = """
INSERT INTO series (symbol_id, interval) SELECT symbol_id, %s FROM symbols WHERE name = %s
ON CONFLICT DO NOTHING
"""
SELECT_SERIES = "SELECT name, interval, series_id FROM series JOIN symbols USING (symbol_id)"

# A look into the index for each series: as EXISTS it would be a join, which may read every row.
SELECT_STORED_SERIES = """
SELECT name, interval FROM series JOIN symbols USING (symbol_id)
WHERE (
    SELECT open_time FROM klines WHERE klines.series_id = series.series_id
    ORDER BY open_time LIMIT 1
) IS NOT NULL
    OR series_id IN (SELECT series_id FROM live)
    OR series_id IN (SELECT series_id FROM checked)
"""

# One server has many names; two never started in the same microsecond with such a schema.
SELECT_IDENTITY = """
SELECT extract(epoch FROM pg_postmaster_start_time())::text, pg_database.oid::bigint,
    (SELECT oid::bigint FROM pg_namespace WHERE nspname = current_schema())
FROM pg_database WHERE datname = current_database()
"""

SELECT_SIZE = """
SELECT coalesce(sum(pg_total_relation_size(relid)), 0)::bigint FROM (
    SELECT relid FROM pg_partition_tree('klines')
    UNION ALL SELECT unnest(ARRAY['live', 'symbols', 'series', 'checked', 'meta']::regclass[])
) AS tables
"""

SELECT_TABLES = """
SELECT relname FROM pg_class
WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p')
"""


def copy_statement(table: str) -> str:
    """Return the statement by which ``binary_copy.pack``'s bytes go into klines or incoming."""
    return f"COPY {table} ({_NAMES}) FROM STDIN (FORMAT BINARY)"


def rescale_statement(table: str) -> str:
    """Return the statement that multiplies a symbol's bars; ``table`` is klines or live.

    Its parameters are named: price, quantity, quote (factors) and name.
    """
    changes = [f"{name} = {name} * %({kind})s" for kind, names in FACTORS.items() for name in names]
    return f"""
UPDATE {table} SET {", ".join(changes)} WHERE series_id IN (
    SELECT series_id FROM series JOIN symbols USING (symbol_id) WHERE name = %(name)s
)
"""  # noqa: S608
