"""A database has one daemon at a time; the second is refused before it does anything."""

from __future__ import annotations

import signal
import sqlite3
import sys
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

from klinetrio.app import Daemon
from klinetrio.config import load_config
from klinetrio.errors import ClaimError, ConfigError
from klinetrio.sim.clock import SimClock
from klinetrio.sim.scripted import ScriptedMarket
from klinetrio.storage.claim import claim
from tests.e2e.processes import ROOT, daemon_process, environment_of
from tests.e2e.world import LIMIT_S, open_world


if TYPE_CHECKING:
    from collections.abc import Mapping

RATE = 30
START = 1_786_172_370_000
FAST = (str(Path(__file__).with_name("fast_daemon.py")), str(RATE))


async def refused(settings: Mapping[str, Any]) -> str:
    """Run a daemon that ends by itself with status 1; return its log."""
    run = partial(
        trio.run_process,
        [sys.executable, "-m", "klinetrio"],
        env=environment_of(settings),
        cwd=ROOT,
        stdin=b"",
        capture_stderr=True,
        check=False,
    )
    with trio.fail_after(LIMIT_S):
        ended = await run()
    log: str = ended.stderr.decode()
    assert ended.returncode == 1, log
    return log


def files_in(folder: Path) -> list[str]:
    """Return the names of what is in a folder."""
    return sorted(each.name for each in folder.iterdir())


def names_of(database: Path) -> set[str]:
    """Return the symbols in a database."""
    with closing(sqlite3.connect(database)) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM symbols")}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_the_second_daemon_is_refused_until_the_first_is_gone(
    number: signal.Signals, tmp_path: Path
) -> None:
    """By file and process, with status 1; however the first ends, the next one starts at once."""
    market = ScriptedMarket(["BTCUSDT", "ETHUSDT"], clock=SimClock(START, rate=RATE))
    with trio.fail_after(LIMIT_S):
        async with open_world(market, tmp_path) as world:
            settings = {**world.settings, "exchange.symbols": "BTCUSDT"}
            second = {**world.settings, "exchange.symbols": "ETHUSDT"}
            async with daemon_process(settings, *FAST) as daemon:
                await daemon.logged(" universe ")
                log = await refused(second)
                # The first goes on as if nothing had happened.
                assert (await daemon.get("/api/v1/status"))["universe"]["symbols"] == 1
                pid = daemon.process.pid
                await daemon.end(number)
            assert f"{world.database} to be free, was in use by the daemon of process {pid}" in log
            assert log.count("\n") == 1
            assert "traceback" not in log
            assert " serving " not in log
            assert names_of(world.database) == {"BTCUSDT"}
            assert world.exchange.statistics().rest_calls["exchangeInfo"] == 1
            async with daemon_process(second, *FAST) as daemon:
                await daemon.logged(" universe ")
            assert names_of(world.database) == {"BTCUSDT", "ETHUSDT"}


async def test_a_refused_daemon_leaves_nothing_but_the_lock(tmp_path: Path) -> None:
    """Not even an empty database; and it takes no port."""
    database = tmp_path / "klines.db"
    config = load_config(
        overrides={"storage.url": f"sqlite:///{database}", "api.bind": "127.0.0.1:0"}
    )
    daemon = Daemon(config)
    with trio.fail_after(LIMIT_S), claim(database):
        with pytest.raises(ClaimError):
            await daemon.run()
        assert files_in(tmp_path) == ["klines.db.lock"]
    assert daemon.address == ""


async def test_a_database_in_memory_is_refused_as_a_configuration() -> None:
    """Each connection would see another one."""
    config = load_config(overrides={"storage.url": "sqlite:///:memory:", "api.bind": "127.0.0.1:0"})
    with (
        trio.fail_after(LIMIT_S),
        pytest.raises(ConfigError, match=r"storage\.url: .*path of a file, was"),
    ):
        await Daemon(config).run()
