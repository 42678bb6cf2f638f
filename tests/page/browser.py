"""A real Chromium without a screen, and one page in it."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By


if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Nothing is judged by time: what is waited for comes at once on a quiet machine.
LIMIT_S = 180.0
PERIOD_S = 0.1

# Evaluated in the page: the colours of all canvases of the chart, as numbers.
COLOURS = """
const seen = new Set();
for (const canvas of document.querySelectorAll("#chart canvas")) {
  const { width, height } = canvas;
  if (width * height === 0) continue;
  const pixels = canvas.getContext("2d").getImageData(0, 0, width, height).data;
  for (let i = 0; i < pixels.length; i += 4) {
    if (pixels[i + 3] === 255) seen.add((pixels[i] << 16) | (pixels[i + 1] << 8) | pixels[i + 2]);
  }
}
return [...seen];
"""


@attrs.frozen
class Page:
    """The one tab of a browser.

    Attributes:
        driver: Of the browser.
        output: Where screenshots go.
    """

    driver: Chrome
    output: Path

    def open(self, address: str) -> None:
        """Load a page anew, even where only what is behind its # differs."""
        self.driver.get("about:blank")
        self.driver.get(address)

    def js(self, body: str, *args: Any) -> Any:
        """Return what a function's body returns in the page."""
        return self.driver.execute_script(body, *args)

    def until(self, condition: str, *args: Any) -> Any:
        """Wait until an expression is true in the page and return its value."""
        end = time.monotonic() + LIMIT_S
        while not (value := self.js(f"return {condition}", *args)):
            if time.monotonic() > end:
                self.screenshot("late")
                pytest.fail(f"expected {condition} of {args} within {LIMIT_S:g} s")
            time.sleep(PERIOD_S)
        return value

    def until_shown(self, least: int, series: str = "/") -> dict[str, str]:
        """Wait until the chart has so many bars of a series like ``BTC_USDT/1m``.

        Returns:
            What the chart says of itself.
        """
        self.until(
            "(({symbol, interval, bars}) => bars >= arguments[0]"
            " && `${symbol}/${interval}`.includes(arguments[1]))"
            "(document.getElementById('chart').dataset)",
            least,
            series,
        )
        return self.data()

    def data(self) -> dict[str, str]:
        """Return what the chart says of itself."""
        found: dict[str, str] = self.js("return {...document.getElementById('chart').dataset}")
        return found

    def text(self, selector: str) -> str:
        """Return the text of an element."""
        return str(self.js("return document.querySelector(arguments[0]).textContent", selector))

    def attribute(self, selector: str, name: str) -> str | None:
        """Return an attribute of an element, None if it has it not."""
        found: str | None = self.js(
            "return document.querySelector(arguments[0]).getAttribute(arguments[1])", selector, name
        )
        return found

    def click(self, selector: str) -> None:
        """Click on an element."""
        self.driver.find_element(By.CSS_SELECTOR, selector).click()

    def press(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        ActionChains(self.driver).send_keys(*keys).perform()

    def resize(self, width: int, height: int) -> None:
        """Give the page the size of another screen."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def prefer(self, scheme: str) -> None:
        """Have the system ask for light or dark pages."""
        feature = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", feature)

    def colours(self) -> set[int]:
        """Return the colours that the chart is painted in."""
        return set(self.js(COLOURS))

    def screenshot(self, name: str) -> None:
        """Keep what is to be seen."""
        self.driver.save_screenshot(str(self.output / f"{name}.png"))

    def complaints(self) -> list[dict[str, Any]]:
        """Return what came to the browser's console since it was last asked."""
        found: list[dict[str, Any]] = self.driver.get_log("browser")  # type: ignore[no-untyped-call]  # in selenium
        return found


def _programs() -> tuple[str, str]:
    """Return browser and driver; without them tests are skipped, but in CI they fail."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if browser and driver:
        return browser, driver
    reason = "needs chromium and chromedriver (Debian: apt-get install chromium chromium-driver)"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def open_browser(profile: Path, output: Path) -> Iterator[Page]:
    """Run a browser for the length of the block.

    Args:
        profile: An empty folder for it.
        output: For screenshots.
    """
    browser, driver = _programs()
    options = ChromeOptions()
    options.binary_location = browser
    for argument in (
        "--headless=new",
        "--no-sandbox",  # in containers the tests are root
        "--disable-dev-shm-usage",  # and their /dev/shm is small
        "--window-size=1280,800",
        f"--user-data-dir={profile}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = Chrome(options=options, service=Service(driver))
    try:
        yield Page(chrome, output)
    finally:
        chrome.quit()
