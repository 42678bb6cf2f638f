"""A look at the newest bars: from the daemon that runs, else from the database."""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING, Any

import pytest
import trio
from click.testing import CliRunner

from klinetrio.cli import main
from klinetrio.config import load_config
from klinetrio.errors import ConfigError, QueryError
from klinetrio.sim.clock import SimClock
from klinetrio.sim.seeded import SeededMarket
from klinetrio.tools.query import find_bars, table
from tests.e2e.world import open_world
from tests.tools.databases import filled


if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from klinetrio.config import Config

RATE = 30
START = 1_786_172_370_000


@pytest.fixture(autouse=True)
def quiet_logging() -> Iterator[None]:
    """Leave the logging of other tests as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("klinetrio").setLevel(logging.NOTSET)


@pytest.fixture
def nobody() -> str:
    """Return an address where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture
def config(tmp_path: Path, nobody: str) -> Config:
    """Return a configuration with a database and without a daemon."""
    filled(tmp_path / "klines.db").close()
    url = f"sqlite:///{tmp_path / 'klines.db'}"
    return load_config(overrides={"storage.url": url, "api.bind": nobody})


def test_the_table_from_the_database(config: Config) -> None:
    """The newest bars, ascending, the open one last, numbers under each other."""
    result = CliRunner().invoke(
        main,
        [
            *("query", "btc_usdt", "1m", "--limit", "3"),
            *("--storage", config.storage.url, "--bind", config.api.bind),
        ],
    )
    *notes, heading, first, second, last = result.output.splitlines()
    assert result.exit_code == 0, result.output
    assert len(notes) == 1
    assert " from_database because=" in notes[0]
    assert heading == (
        "open time (UTC)      open  high   low  close  volume  quote volume  trades  taker buy"
    )
    assert first == (
        "2026-08-08 00:48:00  0.48  0.49  0.50   0.51   0.052       0.00053       3      0.001"
        "  complete"
    )
    assert second.startswith("2026-08-08 00:49:00  0.49")
    assert last.startswith("2026-08-08 00:50:00  0.50")
    assert last.endswith("  open, incomplete")


def test_a_narrow_terminal_gets_fewer_columns(config: Config) -> None:
    """And no heading without its numbers."""
    bars = find_bars(config, "BTCUSDT", "1m", limit=2)
    heading, *rows = table(bars, wide=False)
    assert " ".join(heading.split()) == "open time (UTC) open high low close volume trades"
    assert all(len(row) < 80 for row in rows)


def test_marks_tell_what_a_bar_is() -> None:
    """In words, and only what is worth one."""
    plain: dict[str, Any] = dict.fromkeys(
        ("open", "high", "low", "close", "volume", "quote_volume", "taker_buy_volume"), "1"
    )
    plain |= {"open_time": START, "trade_count": 1, "is_final": True, "is_complete": True}
    changes = (
        {"origin": "live", "revision": 0},
        {"origin": "settled", "revision": 2},
        {"origin": "backfilled", "revision": 0, "is_complete": False, "is_final": False},
    )
    _, *lines = table([plain | each for each in changes], wide=True)
    assert [line.split("1  ")[-1].strip() for line in lines] == [
        "complete",
        "complete settled revision 2",
        "open, incomplete backfilled",
    ]


def test_no_bars_are_a_heading(config: Config) -> None:
    """A symbol that is known and has never been written."""
    assert find_bars(config, "QUIETUSDT", "1m", limit=5) == []
    assert len(list(table([], wide=True))) == 1


def test_what_cannot_be_answered_is_said(config: Config, tmp_path: Path) -> None:
    """No daemon where one is asked for; no database; no such symbol."""
    with pytest.raises(QueryError, match=r"no daemon answers at http://127[.]0[.]0[.]1:"):
        find_bars(config, "BTCUSDT", "1m", limit=1, source="daemon")
    with pytest.raises(ConfigError, match="a symbol in the database"):
        find_bars(config, "NOPEUSDT", "1m", limit=1)
    gone = {"storage.url": f"sqlite:///{tmp_path / 'gone.db'}", "api.bind": config.api.bind}
    with pytest.raises(ConfigError, match="a database with klinetrio's tables"):
        find_bars(load_config(overrides=gone), "BTCUSDT", "1m", limit=1)
    assert not (tmp_path / "gone.db").exists()


async def test_a_running_daemon_is_asked(tmp_path: Path) -> None:
    """It knows the open bar as it is now; what it refuses is told in its own words."""
    clock = SimClock(START, rate=RATE)
    market = SeededMarket(
        seed=5, symbols=3, trades_per_second=10, history_minutes=3_000, clock=clock
    )
    with trio.fail_after(60):
        async with open_world(market, tmp_path) as world, world.daemon() as daemon:
            await daemon.until_ready()
            bind = str(daemon.client.base_url).removeprefix("http://").rstrip("/")
            config = load_config(overrides={"api.bind": bind, "storage.url": "sqlite:///no.db"})

            def ask(symbol: str) -> list[dict[str, Any]]:
                return find_bars(config, symbol, "1m", limit=3)

            bars = await trio.to_thread.run_sync(ask, "BTC_USDT")
            assert [bar["is_final"] for bar in bars] == [True, True, False]
            assert len(list(table(bars, wide=True))) == 4
            with pytest.raises(QueryError, match="NOPE"):
                await trio.to_thread.run_sync(ask, "NOPE")
