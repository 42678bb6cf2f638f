"""A process ends in order, whenever it is told to."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import trio

from klinetrio import cli
from klinetrio.app import Daemon
from klinetrio.config import Config


if TYPE_CHECKING:
    import pytest


async def test_a_signal_is_heard_from_the_very_first_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also by a daemon that has only just begun to run."""
    heard = []

    class JustBegun(Daemon):
        async def run(self, **_: Any) -> None:
            signal.raise_signal(signal.SIGINT)
            await self.stop.wait()
            self.started.set()
            heard.append(signal.SIGINT)

    monkeypatch.setattr(cli, "Daemon", JustBegun)
    with trio.fail_after(10):
        await cli.run_daemon(Config())
    assert heard == [signal.SIGINT]
