"""The chart, in a real browser, on a daemon that follows a simulated exchange."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from selenium.webdriver.common.keys import Keys

from klinetrio.domain.interval import MINUTE
from tests.page.browser import LIMIT_S


if TYPE_CHECKING:
    from tests.page.browser import Page
    from tests.page.daemons import RunningDaemon

FIRST_BARS = 500

# Evaluated in the page: all values of the legend at one moment.
LEGEND = """
return Object.fromEntries([...document.querySelectorAll("#values dd")]
  .map(each => [each.dataset.value, each.textContent]));
"""

# Bars that went up and down, as of the light theme.
UP, DOWN = 0x0B8A62, 0xC9304B


def bars_of(daemon: RunningDaemon, **params: int) -> list[dict[str, Any]]:
    """Return bars as REST serves them."""
    bars: list[dict[str, Any]] = daemon.get(
        "/api/v1/klines", symbol="BTC_USDT", interval="1m", **params
    )
    return bars


def test_chart_draws_the_bars_of_the_daemon(page: Page, daemon: RunningDaemon) -> None:
    """Without an address of its own the page shows a series, drawn, and its exact numbers."""
    shown = page.until_shown(FIRST_BARS)
    first = int(shown["first"])
    (bar,) = bars_of(daemon, end_time=first, limit=1)

    assert ("BTC_USDT", "1m", first) == (shown["symbol"], shown["interval"], bar["open_time"])
    assert {UP, DOWN} <= page.colours()
    assert "BTC_USDT 1m" in page.js("return document.title")
    page.until("document.querySelector('#shown').textContent.includes('proved complete')")
    page.screenshot("chart-light")


def test_chart_moves_as_trades_come_in(page: Page, daemon: RunningDaemon) -> None:
    """The open bar changes by itself, and when its time is up the next one follows."""
    shown = page.until_shown(FIRST_BARS)
    page.until("document.getElementById('chart').dataset.trades !== arguments[0]", shown["trades"])
    last = page.until(
        "(({last}) => last > arguments[0] && last)(document.getElementById('chart').dataset)",
        int(shown["last"]) + MINUTE,
    )
    times = page.js("return document.getElementById('chart').dataset")

    assert (int(last) - int(shown["first"])) // MINUTE + 1 <= int(times["bars"])


def test_scrolling_back_loads_history(page: Page, daemon: RunningDaemon) -> None:
    """At the oldest bar older ones come in, until there are none, without a hole between them."""
    first = page.until_shown(FIRST_BARS)["first"]
    page.js("document.getElementById('chart').focus()")
    page.press(Keys.HOME)
    page.until("document.getElementById('chart').dataset.first < arguments[0]", int(first))
    page.screenshot("chart-history")
    shown = page.data()

    assert int(shown["bars"]) > FIRST_BARS
    span = int(shown["last"]) - int(shown["first"])
    assert int(shown["bars"]) == span // MINUTE + 1


def test_intervals_are_switched_by_click_and_by_key(page: Page, daemon: RunningDaemon) -> None:
    """All intervals of the daemon are offered; the address follows, and back leads back."""
    page.until_shown(FIRST_BARS)
    offered = page.js(
        "return [...document.querySelectorAll('#intervals input')].map(each => each.value)"
    )
    assert [each["interval"] for each in daemon.get("/api/v1/intervals")] == offered

    page.click("#intervals input[value='1h']")
    page.until_shown(2, "BTC_USDT/1h")
    assert page.js("return location.hash") == "#BTC_USDT/1h"

    page.press(Keys.ARROW_RIGHT)
    page.until_shown(1, "BTC_USDT/4h")

    page.driver.back()
    page.until_shown(2, "BTC_USDT/1h")
    assert page.js("return document.querySelector('#intervals input:checked').value") == "1h"


def test_symbol_is_found_by_keyboard_alone(page: Page, daemon: RunningDaemon) -> None:
    """Slash, some letters, Enter; the combobox tells assistive programs what it does."""
    page.until_shown(FIRST_BARS)
    page.press("/")
    page.press("eth")
    page.until("document.querySelector('#found [aria-selected=true]')")
    page.screenshot("search")

    assert page.attribute("#search", "aria-expanded") == "true"
    assert page.attribute("#search", "aria-activedescendant") == "found-0"
    page.press(Keys.ENTER)
    page.until_shown(FIRST_BARS, "ETH_USDT/1m")
    assert page.attribute("#search", "aria-expanded") == "false"
    assert page.js("return location.hash") == "#ETH_USDT/1m"


def test_symbol_beyond_ascii_is_found_and_linked(page: Page, daemon: RunningDaemon) -> None:
    """Names of the exchange in other scripts work in the search and in the address."""
    (name,) = (
        each["symbol"]
        for each in daemon.get("/api/v1/symbols")
        if not each["symbol"].isascii() and each["symbol"].startswith("币")
    )
    page.until_shown(FIRST_BARS)
    page.click("#search")
    page.press("币安")
    page.until("document.querySelector('#found [aria-selected=true]')")
    page.press(Keys.ENTER)
    page.until_shown(2, name)
    page.driver.refresh()
    page.until_shown(2, name)


def test_legend_tells_the_exact_texts_of_a_bar(page: Page, daemon: RunningDaemon) -> None:
    """The bar that is pointed at by key is shown digit by digit as REST serves it."""
    page.until_shown(FIRST_BARS)
    page.js("document.getElementById('chart').focus()")
    for _ in range(20):
        page.press(Keys.ARROW_LEFT)
    page.until("document.querySelector('#bar-state').textContent.startsWith('final')")
    # A bar may be corrected between the two looks at it; then both are taken again.
    end = time.monotonic() + LIMIT_S
    while True:
        shown = page.js(LEGEND)
        moment = datetime.strptime(shown.pop("open time"), "%Y-%m-%d %H:%M UTC").replace(tzinfo=UTC)
        start = int(moment.timestamp() * 1000)
        (bar,) = bars_of(daemon, start_time=start, end_time=start)
        served = {name: bar[name] for name in ("open", "high", "low", "close", "volume")}
        if served.items() <= shown.items() or time.monotonic() > end:
            break
    assert served.items() <= shown.items()
    assert f"{moment:%Y-%m-%d %H:%M}" in page.text("#spoken")
    page.screenshot("legend")


def test_times_are_local_by_choice_and_stay_so(page: Page, daemon: RunningDaemon) -> None:
    """The zone of the viewer is used when asked for, and after a reload still."""
    page.driver.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": "Asia/Tokyo"})
    try:
        page.until_shown(FIRST_BARS)
        page.js("zone.value = 'local'; zone.dispatchEvent(new Event('change'));")
        shown = page.until(
            "(text => text.endsWith('local') && text)"
            "(document.querySelector('#values [data-value=\"open time\"]').textContent)"
        )
        hour = int(shown[11:13])
        assert page.js("return new Date(Number(chart.dataset.last)).getUTCHours()") in {
            (hour - 9) % 24,
            (hour - 8) % 24,  # an hour began meanwhile
        }
        page.driver.refresh()
        page.until_shown(FIRST_BARS)
        assert page.js("return zone.value") == "local"
    finally:
        page.driver.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": ""})


def test_theme_follows_the_system_unless_chosen(page: Page, daemon: RunningDaemon) -> None:
    """Dark where the system is dark, light where that is chosen; the chart is painted with it."""
    page.until_shown(FIRST_BARS)
    assert 0xFFFFFF in page.colours()

    page.prefer("dark")
    page.until("getComputedStyle(document.body).backgroundColor === 'rgb(14, 20, 27)'")
    page.until("getComputedStyle(document.getElementById('chart')).backgroundColor")
    page.driver.refresh()
    page.until_shown(FIRST_BARS)
    assert 0x151D27 in page.colours()
    page.screenshot("chart-dark")

    page.js("theme.value = 'light'; theme.dispatchEvent(new Event('change'))")
    page.until("getComputedStyle(document.body).backgroundColor === 'rgb(243, 245, 248)'")


def test_phone_scrolls_in_no_wrong_direction(page: Page, daemon: RunningDaemon) -> None:
    """At 390 pixels all fits: nothing is wider than the screen."""
    page.resize(390, 844)
    page.until_shown(FIRST_BARS)
    page.screenshot("chart-phone")
    assert page.js("return document.documentElement.scrollWidth") <= 390


def test_everything_that_can_be_used_has_a_name(page: Page, daemon: RunningDaemon) -> None:
    """Assistive programs find a name for each control, as the browser computes it."""
    page.until_shown(FIRST_BARS)
    page.driver.execute_cdp_cmd("Accessibility.enable", {})
    nodes = page.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    controls = {"textbox", "combobox", "radio", "link", "button", "searchbox", "application"}
    found = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if not node.get("ignored") and node["role"]["value"] in controls
    ]
    assert {"combobox", "radio", "link", "application"} <= {role for role, _ in found}
    assert [] == [role for role, name in found if not name]
    live = page.js("return [...document.querySelectorAll('[aria-live=polite]')].map(e => e.id)")
    assert {"link", "notice", "spoken"} == set(live)
