"""What PostgreSQL is asked for in vain, and with which rights it can be asked."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import psycopg
import pytest
from click.testing import CliRunner
from psycopg.conninfo import conninfo_to_dict

from klinetrio.cli import main
from klinetrio.domain.interval import INTERVALS
from klinetrio.errors import ConfigError, SchemaError, StoreAway, StoreError
from klinetrio.storage import postgres_schema as schema
from klinetrio.storage.postgres import PostgresStore
from klinetrio.storage.postgres_months import start_of
from klinetrio.storage.postgres_server import CLAIM
from klinetrio.tools.stored import open_stored
from tests.postgres import PostgresServer, new_database, new_schema, url_of
from tests.storage.backends import PostgresBackend, rows_of
from tests.storage.bars import BASE, MINUTE, NOTHING, bar, batch
from tests.storage.on_postgres import backend, opened, server, store


if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["backend", "server", "store"]

DAY = 86_400_000


def test_a_url_that_libpq_cannot_read_is_told_without_its_password() -> None:
    """What libpq says of it holds the whole of it."""
    with pytest.raises(ConfigError, match=r"storage\.url: expected a URL that libpq") as refused:
        PostgresStore("postgresql://user:secret@[host/database")
    assert "secret" not in str(refused.value)
    assert refused.value.__cause__ is None


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (
            "postgresql://h/d?sslmod=require",
            r'libpq can read \(invalid URI query parameter: "sslmod"',
        ),
        ("postgresql://h:abc/d", "a port from 1 to 65535"),
        ("postgresql://h:99999/d", "a port from 1 to 65535"),
    ],
)
def test_a_url_that_can_never_work_is_no_server_that_is_away(url: str, words: str) -> None:
    """It says which part is wrong."""
    with pytest.raises(ConfigError, match=words):
        PostgresStore(url)


@pytest.mark.parametrize("password", ["sek/ret", "sek@ret", "123/sekret", "sek@re/t"])
def test_a_password_that_is_not_encoded_is_not_shown(password: str) -> None:
    """Libpq takes its parts for port, host and database."""
    with pytest.raises(ConfigError, match="write %") as refused:
        PostgresStore(f"postgresql://somebody:{password}@127.0.0.1:5432/klines")
    assert not {"sek", "ret", "sekret"} & set(re.split(r"\W", str(refused.value)))


def test_tables_that_others_attached_or_detached(
    backend: PostgresBackend, store: PostgresStore
) -> None:
    """The first are nobody's business, the second are told of by name."""
    first, after = start_of(0), start_of(12)
    backend.query(f"CREATE TABLE old PARTITION OF klines FOR VALUES FROM ({first}) TO ({after})")
    store.write(batch((0, bar(BASE))), NOTHING)
    assert len(rows_of(store)) == 1
    backend.query("ALTER TABLE klines DETACH PARTITION klines_2026_08")
    late = opened(backend.url)
    with pytest.raises(SchemaError, match="klines_2026_08: expected it to be a partition"):
        late.write(batch((0, bar(BASE))), NOTHING)
    late.close()


def test_what_repetition_cannot_change_is_a_schema_error(
    backend: PostgresBackend, store: PostgresStore
) -> None:
    """So that nobody asks for ever."""
    store.write(batch((0, bar(BASE))), NOTHING)
    backend.query("ALTER TABLE klines DROP CONSTRAINT klines_pkey CASCADE")
    with pytest.raises(SchemaError, match="no unique or exclusion constraint"):
        store.write(batch((0, bar(BASE, 8, revision=1))), NOTHING)
    ((command,),) = [[each] for each in store.damage()]
    assert "psql " in command
    backend.query(re.findall(r"ALTER TABLE [^;']+\)", command)[0])
    assert store.damage() == []
    store.write(batch((0, bar(BASE, 8, revision=1))), NOTHING)


def test_a_schema_that_only_looks_like_ours_is_anothers(backend: PostgresBackend) -> None:
    """Its columns tell."""
    for name in ("meta", "symbols", "klines"):
        backend.query(f"CREATE TABLE {name} (key text)")
    with pytest.raises(SchemaError, match="was another's"):
        PostgresStore(backend.url).open()


def test_a_server_without_the_encryption_that_is_asked_for_refuses(server: PostgresServer) -> None:
    """It is there, so there is nothing to wait for."""
    with pytest.raises(StoreError, match="SSL") as refused:
        PostgresStore(f"{server.url}?sslmode=require").open()
    assert not isinstance(refused.value, StoreAway)


def test_a_server_that_is_slow_does_not_refuse(backend: PostgresBackend) -> None:
    """Whoever cannot wait any longer may come again: a start goes on without it."""
    with psycopg.connect(backend.url) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s, hashtext(current_schema()))", (CLAIM + 1,))
        impatient = PostgresStore(f"{backend.url}%20-clock_timeout%3D50")
        with pytest.raises(StoreAway, match="lock timeout"):
            impatient.open()
    impatient.open()
    impatient.close()


def test_symbols_are_learnt_without_reading_their_bars(
    backend: PostgresBackend, store: PostgresStore
) -> None:
    """Of a series that holds nearly all rows, over many months, too."""
    store.write(batch(*[(0, bar(BASE - n * 30 * DAY)) for n in range(6)]), NOTHING)
    backend.query(
        """
        INSERT INTO klines SELECT (jsonb_populate_record(klines, jsonb_build_object(
            'open_time', open_time - minute * 60000))).*
        FROM klines, generate_series(1, 4000) AS minutes (minute) RETURNING 1
        """
    )
    backend.query("ANALYZE; SELECT 1")
    plan = "\n".join(str(row) for (row,) in backend.query(f"EXPLAIN {schema.SELECT_SYMBOLS}"))
    assert "Index" in plan
    assert "Seq Scan on klines" not in plan
    assert "Join" not in plan


def test_a_reader_needs_no_more_than_select(postgres_server: str, tmp_path: Path) -> None:
    """Neither to ask, nor to export, nor to have it examined; an empty database stays empty."""
    with new_database(postgres_server) as url:
        store = opened(url)
        store.write(batch((0, bar(BASE)), (0, bar(BASE + MINUTE))), NOTHING)
        store.close()
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("DROP ROLE IF EXISTS reader")
            connection.execute("CREATE ROLE reader LOGIN PASSWORD 'secret'")
            connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
        readers = url_of(url, str(conninfo_to_dict(url)["dbname"]), "reader", "secret")
        readers += "?options=-cdefault_transaction_read_only%3Don"
        stored = open_stored(readers, ["BTC_USDT"], INTERVALS["1m"])
        assert len(stored.newest(0, 5)) == 2
        stored.close()
        ended = CliRunner().invoke(main, ["doctor", "--storage", readers])
        assert "healthy: 2 bars of 1 series" in ended.output, ended.output
        out = str(tmp_path / "bars.csv")
        what = ["BTCUSDT", "--interval", "1m", "--since", "2026-01-01", "--format", "csv"]
        ended = CliRunner().invoke(main, ["export", *what, "-o", out, "--storage", readers])
        assert ended.exit_code == 0, ended.output
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("DROP OWNED BY reader")
            connection.execute("DROP ROLE reader")
    with new_schema(postgres_server) as empty:
        with pytest.raises(ConfigError, match="a database with klinetrio's tables"):
            open_stored(empty, ["BTC_USDT"], INTERVALS["1m"])
        assert PostgresBackend(empty).query(schema.SELECT_TABLES) == []
