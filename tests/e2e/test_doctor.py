"""The doctor by its command line: exit status, and commands that mend what they say."""

from __future__ import annotations

import sqlite3
import subprocess
from contextlib import closing
from functools import partial
from shutil import which
from typing import TYPE_CHECKING

import psycopg
import pytest
import trio

from klinetrio.config import load_config
from klinetrio.domain.interval import HOUR, MINUTE
from klinetrio.exchange.clock import ExchangeClock
from klinetrio.sim.clock import SimClock
from klinetrio.sim.seeded import SeededMarket
from klinetrio.tools.backfill import run_backfill
from tests.e2e.processes import ROOT, environment_of
from tests.e2e.test_cli import run
from tests.e2e.world import LIMIT_S, World, open_world
from tests.tools.databases import filled


if TYPE_CHECKING:
    from pathlib import Path

RATE = 30
START = 1_786_172_370_000


def url_of(path: Path) -> str:
    """Return the URL of a file."""
    return f"sqlite:///{path}"


def test_what_is_not_there_is_status_2_and_not_made(tmp_path: Path, postgres_url: str) -> None:
    """No file, an empty one, a schema without tables; and arguments that mean nothing."""
    gone, empty = tmp_path / "gone.db", tmp_path / "empty.db"
    empty.touch()
    for url in (url_of(gone), url_of(empty), postgres_url):
        ended = run("doctor", "--storage", url)
        assert ended.returncode == 2
        assert "storage.url: expected a database with klinetrio's tables" in ended.stderr
    assert not gone.exists()
    assert empty.stat().st_size == 0
    with psycopg.connect(postgres_url) as connection:
        query = "SELECT count(*) FROM pg_tables WHERE schemaname = current_schema()"
        assert connection.execute(query).fetchone() == (0,)
    ended = run("doctor", "--since", "2026-02-01", "--until", "2026-01-01")
    assert ended.returncode == 2
    assert "--since before --until" in ended.stderr


def test_damage_of_the_file_is_status_1(tmp_path: Path) -> None:
    """With what to do; what can still be read is looked at."""
    path = tmp_path / "klines.db"
    filled(path, 3_000).close()
    whole = run("doctor", "--storage", url_of(path), "--intervals", "1m")
    # These bars are made up: their values cannot be, but their pages are whole.
    assert whole.returncode == 1
    assert "damaged" not in whole.stdout
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"\xff" * 8_192)
    ended = run("doctor", "--storage", url_of(path))
    assert ended.returncode == 1
    assert "damaged:" in ended.stdout
    assert f"sqlite3 {path} .recover | sqlite3" in ended.stdout
    assert "Traceback" not in ended.stderr


async def backfill(world: World, since: int) -> None:
    """Fill the database with the exchange's klines."""
    config = load_config(overrides={**world.settings, "exchange.symbols": ("BTCUSDT",)})
    clock = ExchangeClock(rate=world.exchange.market.clock.rate)
    await run_backfill(config, since, None, clock)


def damage(world: World, hour: int) -> None:
    """Do something of every kind to a database, around an hour."""
    with closing(sqlite3.connect(world.database, isolation_level=None)) as connection:
        connection.execute("DELETE FROM checked WHERE interval = '5m'")
        for statement, interval, open_time in (
            ("DELETE FROM klines WHERE {}", "5m", hour),
            ("DELETE FROM klines WHERE {}", "5m", hour + 5 * MINUTE),
            ("DELETE FROM klines WHERE {}", "1m", hour + MINUTE),
            ("UPDATE klines SET high = low - 1 WHERE {}", "1m", hour + 5 * MINUTE),
            ("UPDATE klines SET first_agg_id = 5 WHERE {}", "1m", hour + 9 * MINUTE),
            ("UPDATE klines SET open_time = open_time + 7 WHERE {}", "15m", hour + HOUR),
            ("UPDATE klines SET trade_count = trade_count + 1 WHERE {}", "1h", hour),
        ):
            here = f"interval = '{interval}' AND open_time = {open_time}"
            assert connection.execute(statement.format(here)).rowcount == 1
        connection.execute(
            "UPDATE klines SET open_time = 4102444800000 WHERE interval = '1h' AND open_time = ("
            "SELECT max(open_time) FROM klines WHERE interval = '1h')"
        )


@pytest.mark.skipif(not which("sqlite3"), reason="no program to run SQL")
async def test_the_commands_mend_what_they_say(tmp_path: Path) -> None:
    """Every printed command, run as it is, against the exchange; then all is well."""
    market = SeededMarket(
        seed=3,
        symbols=20,
        trades_per_second=4,
        history_minutes=1_440,
        clock=SimClock(START, rate=RATE),
    )
    with trio.fail_after(LIMIT_S):
        async with open_world(market, tmp_path) as world:
            hour = START // HOUR * HOUR - 10 * HOUR
            await backfill(world, hour - 5 * HOUR)
            call = partial(
                trio.run_process,
                capture_stdout=True,
                check=False,
                stderr=subprocess.DEVNULL,
                env=environment_of(world.settings),
                cwd=ROOT,
            )
            doctor = ["python", "-m", "klinetrio", "doctor"]
            assert (await call(doctor)).returncode == 0
            damage(world, hour)

            ended = await call(doctor)
            said = ended.stdout.decode()
            assert ended.returncode == 1
            for kind in ("missing", "misaligned", "future", "impossible", "reversed", "different"):
                assert f"\n{kind}: " in said
            # The minute that is gone from a span of which the exchange was asked for all it has.
            assert "\nabsent (for information): " in said
            commands = [line.removeprefix("  $ ") for line in said.splitlines() if "$" in line]
            assert len(commands) >= 7
            for command in commands:
                assert (await call(command, shell=True)).returncode == 0, command

            ended = await call(doctor)
            assert ended.returncode == 0, ended.stdout.decode()
            assert ended.stdout.startswith(b"healthy: ")
