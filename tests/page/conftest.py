"""Fixtures of the monitor page's tests: a headless Chromium, driven by Selenium, and a page in it.

gateway   a mock gateway (mock_gateway.py), started
labs      makes real servers with a gateway between them (real_lab.py): labs(admin={...}, ...)
page      what a test does with the browser: open(gateway), text(id), click(id), wait_for(...)

After each test the browser's console must be without errors; a test that makes the gateway fail on
purpose names what it expects: page.expected.append("401").
Needs the Debian packages of deploy/install-deps.sh page; without them all is skipped, and says why.
"""

import os
import shutil
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "integration")]

PATIENCE = 15.0


def why_not():
    if not shutil.which("chromium") or not shutil.which("chromedriver"):
        return "no chromium with chromedriver here: deploy/install-deps.sh page"
    try:
        import selenium  # noqa: F401
    except ImportError:
        return "no python3-selenium here: deploy/install-deps.sh page"
    return None


class Page:
    def __init__(self, driver):
        self.driver = driver
        self.expected = []

    def size(self, width, height, mobile=False):
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile})

    def colours(self, scheme):
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {
            "features": [{"name": "prefers-color-scheme", "value": scheme}]})

    def open(self, gateway, query="?lang=en", ready=True):
        self.driver.get(gateway.url + query)
        if ready:
            self.wait_for("return !document.getElementById('content').hidden")

    def js(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def wait_for(self, script, *arguments, patience=PATIENCE):
        """Until the script returns something true; returns it."""
        end = time.monotonic() + patience
        while True:
            found = self.js(script, *arguments)
            if found:
                return found
            if time.monotonic() > end:
                raise AssertionError(f"did not come: {script} {arguments}; the page says "
                                     f"{self.text('hero-text')!r}")
            time.sleep(0.05)

    def text(self, id):
        return self.js("return document.getElementById(arguments[0]).textContent", id)

    def wait_text(self, id, part, patience=PATIENCE):
        self.wait_for("return document.getElementById(arguments[0]).textContent"
                      ".replaceAll('\u00a0', ' ').includes(arguments[1])", id, part,
                      patience=patience)

    def visible(self, id):
        return self.js("return document.getElementById(arguments[0]).checkVisibility()", id)

    def find(self, selector):
        return self.driver.find_element("css selector", selector)

    def click(self, selector):
        self.find(selector).click()

    def click_text(self, selector, text):
        """The button below selector with this text."""
        self.wait_for("""return [...document.querySelectorAll(arguments[0] + ' button')]
            .some((one) => one.textContent.startsWith(arguments[1]) && !one.disabled)""",
                      selector, text)
        next(one for one in self.driver.find_elements("css selector", f"{selector} button")
             if one.text.startswith(text)).click()

    def feed(self):
        return self.js("""return [...document.querySelectorAll('#feed-list > li')]
            .filter((row) => !row.hidden)
            .map((row) => row.querySelector('.said').textContent)""")

    def wait_feed(self, sentence):
        self.wait_for("""return [...document.querySelectorAll('#feed-list .said')]
            .some((one) => one.textContent === arguments[0])""", sentence)

    def complaints(self):
        return [entry["message"] for entry in self.driver.get_log("browser")
                if entry["level"] == "SEVERE"
                and not any(part in entry["message"] for part in self.expected)]


@pytest.fixture(scope="session")
def browser():
    reason = why_not()
    if reason:
        pytest.skip(reason)
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    arguments = ["--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--lang=en",
                 "--disable-background-networking", "--disable-component-update", "--no-first-run"]
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")  # Chromium has none for root
    for argument in arguments:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    driver.set_script_timeout(60)
    yield driver
    driver.quit()


@pytest.fixture
def page(browser):
    page = Page(browser)
    page.size(1280, 800)
    page.colours("light")
    yield page
    complaints = page.complaints()
    browser.get("about:blank")
    assert complaints == []


@pytest.fixture
def gateway():
    from mock_gateway import MockGateway

    gateway = MockGateway("fine").start()
    yield gateway
    gateway.stop()


@pytest.fixture
def labs(tmp_path, browser):
    from real_lab import Lab

    made = []

    def make(**options):
        made.append(Lab(str(tmp_path), **options))
        return made[-1]

    yield make
    browser.get("about:blank")  # or the page would complain of a gateway that is gone
    for lab in made:
        lab.close()
