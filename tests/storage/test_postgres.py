"""What is PostgreSQL's own: connections, refusals, months, roles, and a server that goes away."""

from __future__ import annotations

import os
import socket
import threading
from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import psycopg
import pytest

from klinetrio.domain.kline import FLAGS, Flag
from klinetrio.errors import ClaimError, SchemaError, StoreAway, StoreError
from klinetrio.storage import postgres_schema as schema
from klinetrio.storage.postgres import PostgresStore
from klinetrio.storage.postgres_months import AHEAD, months_of, start_of
from tests.postgres import PostgresServer, new_database, new_schema, url_of
from tests.storage.backends import PostgresBackend, rows_of
from tests.storage.bars import BASE, MINUTE, NOTHING, bar, batch, symbol
from tests.storage.on_postgres import backend, opened, server, store


__all__ = ["backend", "server", "store"]

DAY = 86_400_000


def months_in(backend: PostgresBackend) -> list[str]:
    """Return the names of the months' tables."""
    rows = backend.query("SELECT relid::regclass::text FROM pg_partition_tree('klines')")
    return sorted(str(name) for (name,) in rows)[1:]


def test_each_month_has_a_table_of_its_own(backend: PostgresBackend, store: PostgresStore) -> None:
    """Made when a bar of it comes, the next ones ahead of time; edges belong to the month."""
    first = start_of(months_of(np.array([BASE]))[0])
    bars = [bar(first - 1), bar(first), bar(first + MINUTE), bar(start_of(0))]
    store.write(batch(*[(0, each) for each in bars]), NOTHING)
    assert rows_of(store) == sorted(bars)
    names = months_in(backend)
    assert {"klines_1970_01", "klines_2026_07", "klines_2026_08"} <= set(names)
    assert len(names) == 3 + AHEAD + 1
    assert backend.query("SELECT count(*) FROM klines_2026_08") == [(2,)]


def test_a_schema_is_known_by_every_url(
    backend: PostgresBackend, store: PostgresStore, postgres_server: str
) -> None:
    """The server by another address, in another time zone; another schema is another database."""
    named = backend.url.replace("127.0.0.1", "localhost") + "%20-ctimezone%3DAsia/Tokyo"
    with new_schema(postgres_server) as elsewhere:
        same, different = opened(named), opened(elsewhere)
        assert store.identity() == same.identity()
        assert store.identity() != different.identity()
        same.close()
        different.close()


def test_months_of_a_failed_transaction_are_made_again(
    backend: PostgresBackend, store: PostgresStore
) -> None:
    """They went away with it."""
    bad = batch((0, bar(BASE)), (99, bar(BASE)))
    with pytest.raises(IndexError):
        store.write(bad, NOTHING)
    assert months_in(backend) == []
    store.write(batch((0, bar(BASE))), NOTHING)
    assert rows_of(store) == [bar(BASE)]


def test_readers_do_not_wait_for_a_new_month(
    backend: PostgresBackend, store: PostgresStore
) -> None:
    """Nor a new month for them, however long a report takes."""
    store.write(batch((0, bar(BASE))), NOTHING)
    with psycopg.connect(backend.url) as person:
        person.execute("SELECT count(*) FROM klines_decimal")
        store.write(batch((0, bar(BASE - 90 * DAY))), NOTHING)
        assert person.execute("SELECT count(*) FROM klines_2026_08").fetchall() == [(1,)]
    assert len(rows_of(store)) == 2


def test_people_see_exact_decimals(backend: PostgresBackend, store: PostgresStore) -> None:
    """Also beyond what a float holds, each with its symbol's decimals."""
    values = [8313790, 8315570, 8308290, 8308490, 2**62 + 1, 851429261220, 4409, 49832, 2**62 - 1]
    row = [1_791_382_920_000, *values, 5, 9, bar(0, revision=4)[FLAGS]]
    store.write(batch((0, row)), NOTHING)
    ((*found,),) = backend.query("SELECT * FROM klines_decimal")
    assert found[:4] == ["BTCUSDT", "1m", 1_791_382_920_000, "2026-10-07 14:22:00"]
    assert found[4] == datetime(2026, 10, 7, 14, 22, tzinfo=UTC)
    assert [str(each) for each in found[5:]] == [
        "83137.90",
        "83155.70",
        "83082.90",
        "83084.90",
        str(Decimal(2**62 + 1).scaleb(-3)),
        "8514292.61220",
        "4409",
        "49.832",
        str(Decimal(2**62 - 1).scaleb(-5)),
        "True",
        "4",
    ]


def test_whoever_may_only_read_can_use_the_view(postgres_server: str) -> None:
    """And nothing else."""
    with new_database(postgres_server) as url:
        store = opened(url)
        store.write(batch((0, bar(BASE))), NOTHING)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("DROP ROLE IF EXISTS analyst")
            connection.execute("CREATE ROLE analyst LOGIN PASSWORD 'secret'")
            connection.execute("GRANT SELECT ON klines_decimal TO analyst")
            try:
                database = url.rpartition("/")[2]
                with psycopg.connect(url_of(url, database, "analyst", "secret")) as person:
                    query = "SELECT symbol, open FROM klines_decimal"
                    assert person.execute(query).fetchall() == [("BTCUSDT", Decimal("0.07"))]
                    with pytest.raises(psycopg.errors.InsufficientPrivilege):
                        person.execute("DELETE FROM klines")
                with pytest.raises(StoreError, match="permission denied") as caught:
                    PostgresStore(url_of(url, database, "analyst", "secret")).open()
                assert "secret" not in str(caught.value)
            finally:
                connection.execute("REVOKE ALL ON klines_decimal FROM analyst")
                connection.execute("DROP ROLE analyst")
        store.close()


def test_a_newer_schema_is_refused_and_left_alone(
    backend: PostgresBackend, store: PostgresStore
) -> None:
    """An older klinetrio must not touch it."""
    store.close()
    newer = str(schema.VERSION + 1)
    backend.query(f"UPDATE meta SET value = '{newer}' WHERE key = 'schema_version'")  # noqa: S608
    with pytest.raises(SchemaError, match=f"expected schema version .* or older, was {newer}"):
        PostgresStore(backend.url).open()
    assert backend.query("SELECT value FROM meta") == [(newer,)]


def test_an_older_schema_is_migrated_once(
    backend: PostgresBackend, store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all that it holds."""
    store.write(batch((0, bar(BASE))), NOTHING)
    store.close()
    step = "CREATE TABLE extra (x integer); UPDATE meta SET value = '2'"
    monkeypatch.setattr(schema, "VERSION", 2)
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, step))
    for _ in range(2):
        again = opened(backend.url)
        assert rows_of(again) == [bar(BASE)]
        again.close()
    assert backend.query("SELECT value FROM meta") == [("2",)]


def test_a_migration_that_fails_changes_nothing(
    backend: PostgresBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The schema is made whole or not at all."""
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, "SELECT 1 / 0"))
    with pytest.raises(StoreError, match="division by zero"):
        PostgresStore(backend.url).open()
    assert backend.query(schema.SELECT_TABLES) == []


@pytest.mark.parametrize(
    "script",
    [
        "CREATE TABLE customers (name text)",
        "CREATE TABLE meta (key text, value text); CREATE TABLE symbols (x int)",
        "CREATE TABLE meta (key text, value text); CREATE TABLE symbols (); CREATE TABLE klines ()",
    ],
)
def test_a_schema_of_somebody_else_is_refused_and_left_alone(
    backend: PostgresBackend, script: str
) -> None:
    """Nobody's tables are touched."""
    backend.query(script)
    tables = backend.query(schema.SELECT_TABLES)
    with pytest.raises(SchemaError, match="expected an empty schema or klinetrio's"):
        PostgresStore(backend.url).open()
    assert tables == backend.query(schema.SELECT_TABLES)


def test_one_daemon_at_a_time(backend: PostgresBackend, store: PostgresStore) -> None:
    """The other learns which process it is; tools write beside it."""
    other = PostgresStore(backend.url)
    assert not store.is_claimed()
    with store.claim():
        assert store.is_claimed()
        text = r"was in use by the daemon of process \d+ on "
        with pytest.raises(ClaimError, match=text), other.claim():
            pass
        tool = opened(backend.url)
        tool.write_history(batch((0, bar(BASE))))
        tool.close()
        store.write(batch((0, bar(BASE + MINUTE))), NOTHING)
    assert not store.is_claimed()
    with other.claim():
        assert store.is_claimed()
    assert len(rows_of(store)) == 2


def test_a_daemon_that_is_just_ending_is_waited_for(
    backend: PostgresBackend, store: PostgresStore
) -> None:
    """As one that was killed while the server had a batch of it."""
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    ended = threading.Event()
    claim = PostgresStore(backend.url).claim()
    claim.__enter__()

    def end() -> None:
        while backend.query(waiting) == [(0,)] and not ended.is_set():
            pass
        claim.__exit__(None, None, None)

    thread = threading.Thread(target=end)
    thread.start()
    try:
        with store.claim():
            assert store.is_claimed()
    finally:
        ended.set()
        thread.join()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"database": "nowhere"}, 'database "nowhere" does not exist'),
        ({"user": "nobody_here"}, 'role "nobody_here" does not exist'),
    ],
)
def test_a_refusal_says_what_is_wrong(
    server: PostgresServer, change: dict[str, str], text: str
) -> None:
    """In the server's own words, without the password."""
    url = url_of(server.url, **{"database": "postgres", "password": "hidden", **change})
    with pytest.raises(StoreError, match=text) as caught:
        PostgresStore(url).open()
    assert "hidden" not in str(caught.value)


def test_a_wrong_password_is_told_and_not_shown(server: PostgresServer) -> None:
    """Where passwords are asked for at all."""
    server.ask_for_passwords("postgres", "right")
    PostgresStore(url_of(server.url, "postgres", password="right")).open()
    with pytest.raises(StoreError, match="password authentication failed") as caught:
        PostgresStore(url_of(server.url, "postgres", password="hidden")).open()
    assert "hidden" not in str(caught.value)


def test_a_server_that_is_not_there_is_a_store_error() -> None:
    """Named by its address."""
    with pytest.raises(StoreError, match=r"cannot reach postgresql://me@127.0.0.1:1/db: .*refused"):
        PostgresStore("postgresql://me:hidden@127.0.0.1:1/db").open()


def test_a_server_that_was_killed_is_used_again(server: PostgresServer) -> None:
    """Reads and writes fail while it is away; the claim comes back with the next write."""
    store = opened(server.url)
    with store.claim():
        for turn in range(2):
            store.write(batch((0, bar(BASE + turn * MINUTE))), NOTHING)
            server.kill()
            with pytest.raises(StoreError, match="cannot write"):
                store.write(batch((0, bar(BASE + 99 * MINUTE))), NOTHING)
            for _ in range(3):
                with pytest.raises(StoreAway, match="cannot reach"):
                    rows_of(store)
            server.start()
            # However long the pool has waited for it: at the first try.
            assert len(rows_of(store)) == turn + 1
            assert not store.is_claimed()
        store.write(batch((0, bar(BASE + 2 * MINUTE))), NOTHING)
        assert store.is_claimed()
        assert len(rows_of(store)) == 3
    store.close()


def test_who_lost_the_claim_does_not_write(server: PostgresServer) -> None:
    """Another daemon was quicker after the server's restart."""
    store, other = opened(server.url), PostgresStore(server.url)
    with store.claim():
        server.stop()
        server.start()
        with other.claim():
            for _ in range(3):
                with pytest.raises(StoreError):
                    store.write(batch((0, bar(BASE))), NOTHING)
            assert rows_of(store) == []
        store.write(batch((0, bar(BASE))), NOTHING)
    store.close()


def test_a_cut_that_the_server_has_not_noticed_locks_nobody_out(
    server: PostgresServer,
) -> None:
    """The claim is still held on the old connection: by ourselves, so it is ended."""
    store, other = opened(server.url), PostgresStore(server.url)
    with store.claim():
        writer = store._database._writer
        assert writer is not None
        near, far = socket.socketpair()
        far.close()
        kept = os.dup(writer.fileno())
        os.dup2(near.fileno(), writer.fileno())
        near.close()
        with pytest.raises(StoreAway):
            store.write(batch((0, bar(BASE))), NOTHING)
        assert store.is_claimed()
        store.write(batch((0, bar(BASE))), NOTHING)
        assert store.is_claimed()
        with pytest.raises(ClaimError), other.claim():
            pass
        os.close(kept)
    assert rows_of(store) == [bar(BASE)]
    store.close()


def test_the_server_looks_for_peers_that_vanished_as_we_do(server: PostgresServer) -> None:
    """By its own defaults a host that died would hold the claim for two hours."""
    store = opened(server.url)
    names = ("keepalives_idle", "keepalives_interval", "keepalives_count", "user_timeout")
    with store._database.reading() as connection:
        rows = [connection.execute(f"SHOW tcp_{name}").fetchone() for name in names]
    assert rows == [("10",), ("5",), ("3",), ("20000",)]
    store.close()


def test_another_schema_of_the_search_path_is_left_alone(postgres_server: str) -> None:
    """Its months are none of ours, though they have the same names."""
    with new_database(postgres_server) as url:
        first = opened(url)
        first.write(batch((0, bar(BASE))), NOTHING)
        first.close()
        PostgresBackend(url).query("CREATE SCHEMA bars")
        second = opened(f"{url}?options=-csearch_path%3Dbars%2Cpublic")
        second.write(batch((0, bar(BASE, 5)), (0, bar(BASE + MINUTE))), NOTHING)
        assert rows_of(second) == [bar(BASE, 5), bar(BASE + MINUTE)]
        second.close()
        first = opened(url)
        assert rows_of(first) == [bar(BASE)]
        first.close()


def test_waits_for_a_lock_end(backend: PostgresBackend) -> None:
    """Somebody holds a row; the batch can be written later."""
    store = opened(f"{backend.url}%20-clock_timeout%3D100")
    store.write(batch((0, bar(BASE))), NOTHING)
    with psycopg.connect(backend.url) as person:
        person.execute("SELECT * FROM klines FOR UPDATE")
        with pytest.raises(StoreError, match="lock timeout"):
            store.write(batch((0, bar(BASE, 8, revision=1))), NOTHING)
    store.write(batch((0, bar(BASE, 8, revision=1))), NOTHING)
    assert rows_of(store) == [bar(BASE, 8, revision=1)]
    store.close()


def test_a_revision_that_does_not_fit_is_refused(store: PostgresStore) -> None:
    """Never cut off."""
    with pytest.raises(StoreError, match="revision"):
        store.write(batch((0, bar(BASE, bits=Flag.FINAL, revision=2**31))), NOTHING)


def test_scales_that_somebody_changed_are_noticed(
    backend: PostgresBackend, store: PostgresStore
) -> None:
    """As beside a daemon that is to be restarted."""
    tool = PostgresStore(backend.url)
    tool.open()
    tool.regrow([symbol("BTCUSDT", 1, 3, 3)])
    tool.close()
    with pytest.raises(StoreError, match="expected 2 decimals"):
        store.write(batch((0, bar(BASE))), NOTHING)


def test_an_index_that_is_not_valid_is_a_damage(
    backend: PostgresBackend, store: PostgresStore
) -> None:
    """With the command that helps."""
    store.write(batch((0, bar(BASE))), NOTHING)
    (month,) = {name for name in months_in(backend) if name.endswith("2026_08")}
    backend.query(f"UPDATE pg_index SET indisvalid = false WHERE indrelid = '{month}'::regclass")  # noqa: S608
    (said,) = store.damage()
    assert said.startswith(f"the index {month}_pkey is not valid: psql ")
    assert f"REINDEX INDEX {month}_pkey" in said


def test_the_url_can_be_typed_again_and_has_no_password(
    backend: PostgresBackend, postgres_url: str
) -> None:
    """What stands behind the question mark stays."""
    store = PostgresStore(f"{postgres_url}&password=hidden&sslmode=prefer")
    assert "hidden" not in store.url
    assert "sslmode=prefer" in store.url
    assert PostgresStore(store.url).url == store.url
    backend.opened().close()
    again = PostgresStore(store.url)
    assert again.exists()
