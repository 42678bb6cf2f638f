"""The list of all symbols, in a real browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

from selenium.webdriver.common.keys import Keys


if TYPE_CHECKING:
    from tests.page.browser import Page
    from tests.page.daemons import RunningDaemon

# Evaluated in the page: the texts of a column of the rows that are shown, from the top.
COLUMN = """[...document.querySelectorAll('#rows tr:not([hidden])')]
  .map(row => row.children[arguments[0]].textContent)"""
SYMBOL, TURNOVER = 0, 5


def show_list(page: Page, daemon: RunningDaemon) -> int:
    """Open the list and wait until it is whole; return the number of symbols."""
    page.open(f"{daemon.address}/#symbols")
    count = len(daemon.get("/api/v1/symbols"))
    page.until("document.querySelectorAll('#rows tr').length === arguments[0]", count)
    return count


def test_list_has_every_symbol_as_the_daemon_tells_it(page: Page, daemon: RunningDaemon) -> None:
    """Price, change, volume, freshness and state of each, and the mouse leads to the chart."""
    count = show_list(page, daemon)
    told = {each["symbol"]: each for each in daemon.get("/api/v1/tickers")["tickers"]}
    page.until(
        "[...document.querySelectorAll('#rows td:last-child')]"
        ".filter(each => each.textContent.startsWith('live')).length >= arguments[0]",
        sum(each["state"] == "live" for each in told.values()),
    )
    page.screenshot("list-light")

    assert set(told) == set(page.js(f"return {COLUMN}", SYMBOL))
    assert page.text("#counted") == f"{count} of {count} symbols"
    assert page.text("#rows tr[data-symbol=BTC_USDT] td:nth-child(7)").endswith("s")
    page.click("#rows tr[data-symbol=BTC_USDT] a")
    page.until_shown(2, "BTC_USDT/1m")


def test_list_is_live(page: Page, daemon: RunningDaemon) -> None:
    """A price that changes at the exchange changes in its cell, and nothing else is drawn anew."""
    show_list(page, daemon)
    page.js("window.before = [...document.querySelectorAll('#rows tr')]")
    price = "document.querySelector('#rows tr[data-symbol=BTC_USDT] td').textContent"
    first = page.until(price)
    page.until(f"{price} !== arguments[0]", first)

    rows = "[...document.querySelectorAll('#rows tr')]"
    assert page.js(f"return {rows}.every(row => before.includes(row))")


def test_list_is_sorted_by_click_and_by_key(page: Page, daemon: RunningDaemon) -> None:
    """A column's button sorts by it, once more the other way round, and says so."""
    show_list(page, daemon)
    by_symbol = "#columns th:nth-child(1)"
    page.click(f"{by_symbol} button")
    page.until(f"(names => names.join() === [...names].sort().join())({COLUMN})", SYMBOL)
    assert page.attribute(by_symbol, "aria-sort") == "ascending"

    page.press(Keys.ENTER)
    page.until(f"(names => names.join() === [...names].sort().reverse().join())({COLUMN})", SYMBOL)
    assert page.attribute(by_symbol, "aria-sort") == "descending"

    page.press(*[Keys.TAB] * TURNOVER, Keys.SPACE)
    page.until("document.querySelector('#columns th:nth-child(6)').ariaSort === 'descending'")
    assert page.attribute(by_symbol, "aria-sort") is None


def test_list_is_filtered_as_one_types(page: Page, daemon: RunningDaemon) -> None:
    """Only what contains the letters stays, and all comes back without them."""
    count = show_list(page, daemon)
    page.click("#filter")
    page.press("btc")
    page.until(f"{COLUMN}.every(name => name.includes('BTC'))", SYMBOL)
    assert page.js(f"return {COLUMN}.length", SYMBOL) > 0
    page.press(Keys.BACKSPACE * 3)
    page.until(f"{COLUMN}.length === arguments[1]", SYMBOL, count)


def test_list_fits_a_phone_and_is_dark(page: Page, daemon: RunningDaemon) -> None:
    """The table scrolls within itself; the page is not wider than the screen."""
    page.resize(390, 844)
    page.prefer("dark")
    show_list(page, daemon)
    page.screenshot("list-phone-dark")
    assert page.js("return document.documentElement.scrollWidth") <= 390
