"""One exchange and one daemon for all clients, in processes of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.clients.truth import Exchange
from tests.page.daemons import RunningDaemon, running_exchange


if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@pytest.fixture(scope="package")
def settings() -> Iterator[Mapping[str, str]]:
    """Return the settings of a daemon that follows a running exchange."""
    with running_exchange() as settings:
        yield settings


@pytest.fixture(scope="package")
def exchange(settings: Mapping[str, str]) -> Exchange:
    """Return the exchange, which knows what is right."""
    return Exchange(settings["exchange.rest_url"])


@pytest.fixture(scope="package")
def daemon(
    settings: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningDaemon]:
    """Return a daemon that is ready and has its history."""
    folder = tmp_path_factory.mktemp("daemon")
    running = RunningDaemon(
        {
            **settings,
            "storage.url": f"sqlite:///{folder / 'klines.db'}",
            "storage.flush_interval_s": 0.3,
            # The clock is ten times as fast: that is a real second, in which trades arrive.
            "engine.close_grace_ms": 10_000,
            "api.bind": "127.0.0.1:0",
        },
        folder / "log",
    )
    try:
        running.start()
        running.until_ready()
        running.until(lambda: running.get("/api/v1/status")["history"]["rounds"] > 0)
        yield running
    finally:
        running.kill()
