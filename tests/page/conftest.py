"""One exchange, one daemon and one browser for all tests of the page; each opens it anew.

They end with the last of these tests and not with the session: they keep a core busy.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.page.browser import open_browser
from tests.page.daemons import RunningDaemon, running_exchange


if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.page.browser import Page


@pytest.fixture(scope="package")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """Return the browser's page; screenshots go where ``KLINETRIO_TEST_OUTPUT`` says."""
    folder = tmp_path_factory.mktemp("browser")
    output = Path(os.environ.get("KLINETRIO_TEST_OUTPUT") or folder)
    output.mkdir(parents=True, exist_ok=True)
    with open_browser(folder / "profile", output) as page:
        yield page


@pytest.fixture(scope="package")
def daemon(browser: Page, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    """Return a daemon that is ready; asks for the browser first, as nothing runs without it."""
    folder = tmp_path_factory.mktemp("daemon")
    with running_exchange() as settings:
        running = RunningDaemon(
            {
                **settings,
                "storage.url": f"sqlite:///{folder / 'klines.db'}",
                "storage.flush_interval_s": 0.3,
                "engine.swap_interval_ms": 1_000,
                "api.bind": "127.0.0.1:0",
            },
            folder / "log",
        )
        try:
            running.start()
            running.until_ready()
            yield running
        finally:
            running.kill()


@pytest.fixture
def page(browser: Page, daemon: RunningDaemon) -> Iterator[Page]:
    """Return the page of a daemon that is ready; at the end its console must hold nothing."""
    if daemon.process is None:
        daemon.start()
        daemon.until_ready()
    browser.resize(1280, 800)
    browser.prefer("light")
    browser.open(daemon.address)
    browser.js("localStorage.clear()")
    browser.open(daemon.address)
    browser.complaints()
    yield browser
    assert [] == browser.complaints()
