"""The monitor page under the hands of a person with mouse, keyboard, phone or screen reader, against a
mock of the gateway; and pictures of it for the eyes."""

import json
import os
import subprocess
import time
from pathlib import Path

import mock_cases
import pytest

ROOT = Path(__file__).resolve().parents[2]


def focused(page):
    return page.js("""const one = document.activeElement;
        return one === document.body ? '' : (one.id || one.getAttribute('aria-label')
            || one.closest('label')?.textContent || one.textContent).trim()""")


def test_keyboard_alone(page, gateway):
    from selenium.webdriver.common.keys import Keys

    def press(key):
        page.driver.switch_to.active_element.send_keys(key)

    gateway.set_case("dead-letters")
    page.open(gateway)
    for topic, payload, more in mock_cases.some_events():
        gateway.message(topic, payload, **more)
    page.wait_feed("María José Ruiz enabled Spin coater")
    page.wait_for("return document.querySelectorAll('#letters-list li').length === 4")
    stops = []
    for _ in range(60):
        press(Keys.TAB)
        stops.append(focused(page))
        assert page.js("return getComputedStyle(document.activeElement).outlineStyle") != "none"
        if stops[-1].startswith("Select:"):
            break
    for wanted in ("Skip to the status", "Wall view", "Colours: auto", "Deutsch", "feed-filter",
                   "Pause", "demo", "letters-all"):
        assert wanted in stops, (wanted, stops)
    assert len([stop for stop in stops if "enabled" in stop]) == 1  # the feed is one stop
    press(Keys.SPACE)
    page.wait_text("letters-actions", "Send again (1)")
    while focused(page) != "Send again (1)":
        press(Keys.SHIFT + Keys.TAB)
    press(Keys.ENTER)
    page.wait_for("return document.getElementById('confirm').open")
    press(Keys.ESCAPE)
    page.wait_for("return !document.getElementById('confirm').open")
    assert focused(page) == "Send again (1)" and gateway.state.posts == []
    page.js("document.querySelector('#feed-list summary').focus()")
    press(Keys.ARROW_DOWN)
    press(Keys.ARROW_DOWN)
    press(Keys.ENTER)
    page.wait_for("return document.querySelectorAll('#feed-list li')[2].firstChild.open")


def test_language_theme_and_wall_are_remembered(page, gateway):
    page.open(gateway, "")
    page.click_text("#controls", "Deutsch")
    page.wait_text("hero-text", "Alle 3 Standorte sind verbunden")
    page.click_text("#controls", "Farben: auto")
    page.click_text("#controls", "Farben: hell")
    assert page.js("return document.documentElement.dataset.theme") == "dark"
    page.click_text("#controls", "Wandansicht")
    page.open(gateway, "")
    page.wait_text("hero-text", "Alle 3 Standorte sind verbunden")
    assert page.js("return document.documentElement.dataset.theme") == "dark"
    assert page.js("return document.documentElement.classList.contains('wall')")
    page.js("localStorage.clear()")
    page.colours("dark")
    page.open(gateway, "")
    assert page.js("return document.documentElement.dataset.theme") == "dark"
    assert not page.js("return document.documentElement.classList.contains('wall')")
    page.size(1920, 1080)
    page.wait_for("return document.documentElement.classList.contains('wall')")
    page.size(1280, 800)
    page.open(gateway, "?wall")
    assert page.js("return document.documentElement.classList.contains('wall')")


def test_fits_on_a_phone(page, gateway):
    page.size(390, 844, mobile=True)
    for case in ("broker-down", "dead-letters", "many-sites"):
        gateway.set_case(case)
        for language in ("en", "de"):
            page.open(gateway, f"?lang={language}")
            page.wait_for("return document.querySelector('#picture svg')")
            assert page.js("return document.documentElement.scrollWidth") == 390, (case, language)


def axe_source():
    """axe-core of NEMOGATE_AXE, or from npm, kept in build/."""
    given = os.environ.get("NEMOGATE_AXE")
    if given:
        return Path(given).read_text(encoding="utf-8")
    folder = ROOT / "build" / "axe"
    file = folder / "node_modules" / "axe-core" / "axe.min.js"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        try:
            subprocess.run(["npm", "install", "--prefix", str(folder), "--no-audit", "--no-fund",
                            "axe-core"], capture_output=True, timeout=60, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            pytest.skip(f"axe-core cannot be had from npm here ({error.__class__.__name__}); "
                        "NEMOGATE_AXE may name an axe.min.js")
    return file.read_text(encoding="utf-8")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(page, gateway, scheme):
    source = axe_source()
    page.colours(scheme)
    for case in ("fine", "broker-down", "dead-letters", "certificate", "many-sites", "no-sites"):
        gateway.set_case(case)
        for width in (390, 1280, 1920):
            page.size(width, 1080)
            page.open(gateway)
            gateway.message(*mock_cases.tool_event("enabled", 0, "René Müller")[:2])
            page.wait_feed("René Müller enabled woollam")
            time.sleep(0.5)  # new events fade in: their colours are not final before
            page.js(source)
            found = page.driver.execute_async_script(
                "axe.run(document).then((found) => arguments[0](found.violations.map((one) =>"
                " [one.impact, one.id, one.nodes.map((node) => node.target.join(' ') + ': '"
                " + node.failureSummary)])))")
            assert found == [], (case, width, json.dumps(found, indent=1))


@pytest.mark.parametrize("size", [(390, 844), (1280, 800), (1920, 1080)],
                         ids=["phone", "desktop", "wall"])
def test_pictures_to_look_at(page, gateway, size):
    """Kept in build/page for the eyes of a person; here only that the page fits."""
    folder = ROOT / "build" / "page"
    folder.mkdir(parents=True, exist_ok=True)
    page.size(*size, mobile=size[0] < 500)
    for scheme, case, language in (
            ("light", "fine", "en"), ("dark", "fine", "de"), ("dark", "broker-down", "en"),
            ("light", "dead-letters", "en"), ("light", "certificate", "de"),
            ("dark", "certificate", "de")):
        page.colours(scheme)
        gateway.set_case(case)
        page.open(gateway, f"?lang={language}")
        for topic, payload, more in mock_cases.some_events():
            gateway.message(topic, payload, **more)
        page.wait_feed("María José Ruiz enabled Spin coater" if language == "en"
                       else "María José Ruiz hat Spin coater eingeschaltet")
        time.sleep(0.5)
        page.driver.save_screenshot(str(folder / f"{case}-{size[0]}-{scheme}.png"))
        assert page.js("return document.documentElement.scrollWidth") <= size[0]
