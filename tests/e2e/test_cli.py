"""The command line: demo, exit statuses, messages."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import trio

from tests.e2e.processes import ROOT, daemon_process
from tests.e2e.world import LIMIT_S


if TYPE_CHECKING:
    from pathlib import Path


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``python -m klinetrio`` to its end."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("KLINETRIO_")}
    return subprocess.run(
        [sys.executable, "-m", "klinetrio", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=ROOT,
        env={**ours, **environment},
    )


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (("run", "--bind", "nonsense"), {}, "api.bind: expected host:port"),
        (("run", "--config", "no-such-file.toml"), {}, "--config: expected a readable file"),
        ((), {"KLINETRIO_ENGINE_INTERVALS": "1m,7m"}, "engine.intervals: expected a list of"),
        ((), {"KLINETRIO_ENGINE_SPEED": "1"}, "engine.speed: expected one of the keys"),
        ((), {"KLINETRIO_STATS_INTERVAL_S": "often"}, "stats.interval_s: expected a number"),
        (("run", "--proxy", "http://u:secret@p"), {}, "proxy.url: expected socks5h://"),
    ],
)
def test_a_configuration_error_is_one_clear_line_and_status_2(
    arguments: tuple[str, ...], environment: dict[str, str], message: str
) -> None:
    """It names the key, the value and what was expected, and shows no secret."""
    ended = run(*arguments, **environment)

    assert ended.returncode == 2
    assert ended.stderr.startswith("klinetrio: configuration error: ")
    assert message in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert "secret" not in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("backfill", "--since", "yesterday"), "'--since': expected a UTC date or time as 2026-01"),
        (("backfill", "--since", "2026-02-01", "--until", "2026-01-01"), "--since before --until"),
        (("audit",), "Missing option '--since'"),
        (("audit", "--since", "2026-02-01", "--until", "2026-01-01"), "--since before --until"),
    ],
)
def test_a_tool_says_what_it_expected(arguments: tuple[str, ...], message: str) -> None:
    """And nothing has been done."""
    ended = run(*arguments)

    assert ended.returncode == 2
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr


def test_an_audit_needs_minutes() -> None:
    """They are what is compared."""
    ended = run("audit", "--since", "2026-02-01", KLINETRIO_ENGINE_INTERVALS="1h")

    assert ended.returncode == 2
    assert "engine.intervals: expected a list with 1m" in ended.stderr


def test_the_default_configuration_can_be_printed() -> None:
    """The shipped file, with its comments."""
    ended = run("config")

    assert (0, (ROOT / "conf" / "klinetrio.toml").read_text()) == (ended.returncode, ended.stdout)


def test_a_database_that_is_none_is_status_1(tmp_path: Path) -> None:
    """A file that is not a database is named and left alone."""
    path = tmp_path / "diary.txt"
    path.write_text("Dear diary, today nothing happened. " * 100)
    before = path.read_bytes()

    ended = run("run", "--storage", f"sqlite:///{path}", "--bind", "127.0.0.1:0")

    assert ended.returncode == 1
    assert f"cannot open {path}" in ended.stderr
    assert "not a database" in ended.stderr
    # It is nobody's bug, and the words say it all.
    assert "traceback" not in ended.stderr
    assert before == path.read_bytes()


async def test_the_demo_serves_klines_and_stops_in_order() -> None:
    """Without any network: 20 symbols, klines that grow, and status 0 at SIGINT."""
    with trio.fail_after(LIMIT_S):
        async with daemon_process({}, "-m", "klinetrio", "demo", "--bind", "127.0.0.1:0") as daemon:
            while not (status := await daemon.client.get("/api/v1/status")).is_success:
                await trio.sleep(0.05)
            assert status.json()["universe"]["symbols"] == 20
            while not (
                bars := await daemon.get("/api/v1/klines", symbol="BTC_USDT", interval="1m")
            ):
                await trio.sleep(0.05)
            assert bars[-1]["symbol"] == "BTC_USDT"
            assert await daemon.end(signal.SIGINT) == 0
