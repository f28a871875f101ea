"""The monitor page in a real browser, against a mock of the gateway: its files, its parts, and how it
goes on when the gateway does not."""

import re

import mock_cases
from mock_gateway import PAGE
from page_steps import NETWORK, SOURCES, feed_delays, tool_cards

MOST_BYTES = 112 * 1024


# ---- the files ------------------------------------------------------------------------------------

def test_files_are_listed_and_small():
    listed = [line.split(maxsplit=1)[0] for line in (PAGE / "FILES").read_text().splitlines()]
    assert sorted(listed) == [path.name for path in SOURCES]
    assert sum(path.stat().st_size for path in SOURCES) <= MOST_BYTES


def test_sources_have_no_way_in_for_markup():
    """The policy forbids inline script and style, and data never goes through a parser of HTML."""
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(",
                     "new Function", " style=", "://"):
            allowed = word == "://" and "www.w3.org" in text and text.count("://") == text.count(
                "://www.w3.org")
            assert word not in text or allowed, f"{path.name}: {word}"
        assert not re.search(r"<[^>]*\son[a-z]+=", text), path.name


# ---- tools and sites ------------------------------------------------------------------------------

def test_tools_of_a_site(page, gateway):
    page.open(gateway)
    page.wait_for("return document.querySelectorAll('.tool').length === 12")
    cards = tool_cards(page)
    assert cards[0] == ["Mask aligner MA6", "down", "out of order · for 1 hour",
                        "2 problems reported"]
    assert ["woollam", "in_use", "in use · René Müller · for 23 min", ""] in cards
    assert page.text("tools-title") == "Tools of lab"
    assert "Cleanroom5 of 12 people" in page.text("areas-list")
    assert "21.4 degrees, calm" in page.text("others-list")
    gateway.message("nemo/lab/tools/0/state", mock_cases.tool_state("lab", 0, "idle", ago=0))
    page.wait_for("""return [...document.querySelectorAll('.tool')].some((one) =>
        one.textContent.includes('woollam') && one.dataset.state === 'idle')""")
    gateway.message("nemo/lab/tools/0/state", "")
    page.wait_for("return document.querySelectorAll('.tool').length === 11")


def test_thousand_sites(page, gateway):
    gateway.set_case("many-sites")
    page.open(gateway)
    names = "return [...document.querySelectorAll('#sites-rows th')].map((one) => one.textContent)"
    assert page.js(names)[:4] == ["lab-0700", "lab-0701", "lab-0702", "lab-0000"]
    assert len(page.js(names)) == 12 and page.text("sites-count") == "1 to 12 of 1,000"
    page.click_text("#sites-pages", "Next")
    page.wait_text("sites-count", "13 to 24 of 1,000")
    page.find("#sites-search").send_keys("lab-07")
    page.wait_text("sites-count", "1 to 12 of 100")
    page.click_text("#sites-rows", "lab-0702")
    page.wait_text("tools-title", "Tools of lab-0702")
    page.wait_for("return document.querySelectorAll('.tool').length === 12")
    page.find("#sites-search").send_keys("nowhere")
    page.wait_text("sites-empty", "No site matches.")
    assert "4 brokers" in page.text("picture")


def test_no_sites_yet(page, gateway):
    gateway.set_case("no-sites")
    page.open(gateway)
    page.wait_text("hero-text", "No site has written an event yet")
    assert "as soon as a site writes" in page.text("tools-empty")
    assert page.text("sites-empty") == "No site yet."
    assert page.text("latency-text") == "No figures yet."
    assert page.text("rate-text") == "No event in the last hour."


def test_charts_say_their_figures(page, gateway):
    page.open(gateway)
    rate = gateway.state.history["rate"]
    largest = max(rate) * 60
    page.wait_text("rate-text", f"at most {largest:.0f} at ")
    label = page.js("return document.querySelector('#rate-chart svg').getAttribute('aria-label')")
    assert label == f"Events per minute. {page.text('rate-text')}"
    assert "Half of the events: " in page.text("latency-text")
    assert page.js("return document.querySelectorAll('#rate-chart rect').length") == 60


# ---- the feed -------------------------------------------------------------------------------------

def test_feed_is_readable(page, gateway):
    page.open(gateway)
    for topic, payload, more in mock_cases.some_events():
        gateway.message(topic, payload, **more)
    for sentence in ("René Müller enabled woollam", "woollam is in use by René Müller",
                     "Cleanroom: 6 of 12 people", "Li Wei disabled Wet bench left",
                     "Mask aligner MA6 is out of order", "Mask aligner MA6: 2 problems reported",
                     "Humidity: 41.2 %", "nemo/lab/weather", "Mask aligner MA6 works again"):
        page.wait_feed(sentence)
    assert page.feed()[0] == "María José Ruiz enabled Spin coater"
    page.click_text("#controls", "Deutsch")
    page.wait_feed("René Müller hat woollam eingeschaltet")


def test_feed_shows_an_event_within_a_second(page, gateway):
    page.open(gateway)
    delays = feed_delays(page, lambda i: gateway.message(
        *mock_cases.tool_event("enabled", i, "Ada Osei")[:2]))
    assert min(delays) < 1000, delays


def test_filter_pause_and_details(page, gateway):
    page.open(gateway)
    gateway.message(*mock_cases.tool_event("enabled", 0, "René Müller")[:2])
    gateway.message(*mock_cases.tool_event("enabled", 1, "Ada Osei")[:2])
    page.wait_feed("Ada Osei enabled Sputter 2")
    page.find("#feed-filter").send_keys("müller")
    page.wait_for("return [...document.querySelectorAll('#feed-list > li')]"
                  ".filter((row) => !row.hidden).length === 1")
    assert page.feed() == ["René Müller enabled woollam"]
    page.find("#feed-filter").send_keys("xyz")
    page.wait_text("feed-empty", "None of the last 2 events matches.")
    page.find("#feed-filter").clear()
    page.find("#feed-filter").send_keys(" ")
    page.click_text("#feed-pause", "Pause")
    gateway.message(*mock_cases.tool_event("down", 2, None)[:2])
    page.wait_text("feed-pause", "Go on (1 new)")
    assert len(page.feed()) == 2
    page.click_text("#feed-pause", "Go on")
    page.wait_feed("SEM Zeiss Ultra 55 is out of order")
    page.click("#feed-list li:first-child summary")
    page.wait_text("feed-list", "nemo/lab/tools/2/event")
    assert '"event": "down"' in page.text("feed-list")


def test_feed_is_bounded(page, gateway):
    page.open(gateway)
    for i in range(700):
        gateway.message(f"nemo/lab/counter/{i}", str(i), dropped=1 if i == 699 else 0)
    page.wait_feed("nemo/lab/counter/699")
    assert page.js("return document.querySelectorAll('#feed-list > li').length") == 500
    assert page.feed()[-1] == "nemo/lab/counter/200"
    page.wait_text("feed-dropped", "One event was left out of this list")


# ---- the connection -------------------------------------------------------------------------------

def test_survives_a_restart_of_the_gateway(page, gateway):
    page.expected += NETWORK
    page.open(gateway)
    page.wait_for("return document.querySelectorAll('.tool').length === 12")
    gateway.stop()
    page.wait_text("hero-text", "Connection to nemogate lost, trying again")
    assert page.js("return document.getElementById('content').classList.contains('stale')")
    page.wait_for("return / [2-9]\\d*\\u00a0s old/.test("
                  "document.getElementById('hero-advice').textContent)")
    assert len(tool_cards(page)) == 12  # the last that was known stays
    gateway.start()
    page.wait_text("hero-text", "All 3 sites are connected", patience=30)
    assert not page.js("return document.getElementById('content').classList.contains('stale')")
    gateway.message(*mock_cases.tool_event("enabled", 0, "René Müller")[:2])
    page.wait_feed("René Müller enabled woollam")


def test_opened_while_the_gateway_hangs_up(page, gateway):
    page.expected += NETWORK + ["404", "500"]
    gateway.state.most_listeners = 0
    page.expected.append("503")
    page.open(gateway)
    page.wait_text("hero-text", "All 3 sites are connected")
    page.wait_text("hero-advice", "without the live feed")
    gateway.state.most_listeners = 16
    page.wait_for("return document.getElementById('hero-advice').textContent === ''", patience=30)


def test_token_is_asked_for(page, gateway):
    page.expected.append("401")
    gateway.state.token = "open-sesame"
    page.open(gateway, ready=False)
    page.wait_for("return document.getElementById('token').open")
    page.wait_text("hero-text", "nemogate asks for an access token")
    page.find("#token-input").send_keys("wrong\n")
    page.wait_text("token-wrong", "That was not the right one.")
    page.find("#token-input").send_keys("open-sesame\n")
    page.wait_text("hero-text", "All 3 sites are connected")
    assert not page.js("return document.getElementById('token').open")
    page.wait_for("return document.querySelectorAll('.tool').length === 12")
    page.open(gateway)  # remembered by the tab
    page.wait_text("hero-text", "All 3 sites are connected")
    page.js("sessionStorage.clear()")


def test_another_version_brings_its_own_page(page, gateway):
    page.open(gateway)
    page.js("window.old = true")
    gateway.state.status["version"] = "0.2.0"
    gateway.publish()
    page.wait_for("return !window.old")
    page.wait_text("instance", "0.2.0")


# ---- dead letters ---------------------------------------------------------------------------------

def test_dead_letters_are_explained(page, gateway):
    gateway.set_case("dead-letters")
    gateway.state.status["write"] = False
    page.open(gateway)
    for words in ("The broker does not allow nemogate to write there", "It is too large",
                  "It does not say where it should go", "Each attempt to send it broke"):
        page.wait_text("letters-list", words)
    assert not page.visible("letters-bar") and page.visible("letters-readonly")
    page.click("#letters-list li:first-child summary")
    page.wait_text("letters-list", "the broker refused it: Not authorized")


def test_replay_and_drop_ask_first(page, gateway):
    gateway.set_case("dead-letters")
    ids = [letter["id"] for letter in gateway.state.letters]
    gateway.state.refuse = {ids[1]: "a newer entry of its topic exists"}
    page.open(gateway)
    page.wait_for("return document.querySelectorAll('#letters-list li').length === 4")
    boxes = page.driver.find_elements("css selector", "#letters-list input")
    boxes[0].click()
    boxes[1].click()
    page.click_text("#letters-actions", "Send again (2)")
    page.wait_text("confirm-title", "Send these 2 events again?")
    page.click_text("#confirm-buttons", "Cancel")
    assert gateway.state.posts == []
    page.click_text("#letters-actions", "Send again (2)")
    page.click_text("#confirm-buttons", "Send again")
    page.wait_text("letters-result", "One event done.")
    page.wait_text("letters-result", "a newer entry of its topic exists")
    assert gateway.state.posts == [
        ("replay", {"site": "lab", "ids": ids[:2], "force": False})]
    page.wait_for("return document.querySelectorAll('#letters-list li').length === 3")
    page.click("#letters-list input")
    page.click_text("#letters-actions", "Send again (1)")
    page.click("#confirm-force")
    page.click_text("#confirm-buttons", "Send again")
    page.wait_for("return document.querySelectorAll('#letters-list li').length === 2")
    assert gateway.state.posts[-1] == ("replay", {"site": "lab", "ids": [ids[1]], "force": True})
    page.click("#letters-all")
    page.click_text("#letters-actions", "Discard (2)")
    page.wait_text("confirm-text", "will never be delivered")
    assert not page.visible("confirm-force")
    page.click_text("#confirm-buttons", "Discard")
    page.wait_text("letters-empty", "None. Every event could be delivered.")
    assert gateway.state.posts[-1] == ("drop", {"site": "lab", "ids": ids[2:], "force": False})
