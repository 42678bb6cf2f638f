"""The page lives longer than the daemon it came from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from klinetrio.domain.interval import MINUTE


if TYPE_CHECKING:
    from tests.page.browser import Page
    from tests.page.daemons import RunningDaemon

FIRST_BARS = 500


def test_page_survives_a_killed_daemon_and_says_so(page: Page, daemon: RunningDaemon) -> None:
    """It tells that the connection is lost, comes back by itself, and lacks no bar of the time."""
    before = page.until_shown(FIRST_BARS)
    page.until("document.getElementById('link').dataset.state === 'live'")

    daemon.kill()
    page.until("document.getElementById('link').textContent.includes('lost')")
    page.screenshot("lost")
    daemon.start()
    page.until("document.getElementById('link').dataset.state === 'live'")
    page.until("document.getElementById('notice').textContent.includes('Connected again')")
    page.until(
        "document.getElementById('chart').dataset.last > arguments[0]",
        int(before["last"]) + MINUTE,
    )
    page.screenshot("recovered")
    after = page.data()
    moved = page.until(
        "(({trades}) => trades !== arguments[0] && trades)"
        "(document.getElementById('chart').dataset)",
        after["trades"],
    )

    assert moved
    span = int(after["last"]) - int(after["first"])
    assert int(after["bars"]) == span // MINUTE + 1
    # Of a daemon that is not there the browser itself complains; nobody else may.
    assert {"network"} >= {each["source"] for each in page.complaints() if not _is_ws(each)}
    daemon.until_ready()


def _is_ws(complaint: dict[str, str]) -> bool:
    return "WebSocket connection to" in complaint["message"]


def test_page_opened_while_the_daemon_starts_waits_for_it(
    browser: Page, daemon: RunningDaemon
) -> None:
    """It is served by then, says what it waits for, and goes on by itself."""
    exchange = daemon.settings["exchange.rest_url"]
    daemon.kill()
    daemon.settings["exchange.rest_url"] = "http://127.0.0.1:9"  # nobody listens there
    try:
        daemon.start()
        browser.open(daemon.address)
        browser.until("document.getElementById('link').textContent.includes('starting')")
        browser.screenshot("starting")
    finally:
        daemon.kill()
        daemon.settings["exchange.rest_url"] = exchange
    daemon.start()
    browser.until_shown(2)
    browser.until("document.getElementById('link').dataset.state === 'live'")
    browser.complaints()
    daemon.until_ready()
