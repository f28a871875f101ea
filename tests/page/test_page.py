"""The monitor page in a real browser, against a mock of the gateway: what it says in each case, and
how it behaves under the hands of a person with mouse, keyboard or screen reader."""

import json
import os
import re
import subprocess
import time
from pathlib import Path

import mock_cases
import pytest
from mock_gateway import PAGE, MockGateway

SOURCES = sorted(path for path in PAGE.iterdir() if path.suffix in (".js", ".css", ".html"))
ROOT = Path(__file__).resolve().parents[2]
MOST_BYTES = 112 * 1024
EVIL = "<img src=x onerror=\"window.pwned=1\">'\"</td><script>window.pwned=1</script>"

SENTENCES = {
    "redis-down": ("Redis has been unreachable for 2 min", "Redis ist seit 2 min nicht erreichbar"),
    "broker-down": (
        "Broker lab-b has been unreachable for 2 min; 318 events wait in Redis, none is lost",
        "Broker lab-b ist seit 2 min nicht erreichbar; 318 Ereignisse warten in Redis, keines ist "
        "verloren"),
    "broker-refused": ("Broker lab-b refuses nemogate's user name or password",
                       "Broker lab-b lehnt Benutzername oder Passwort von nemogate ab"),
    "broker-stalled": ("Broker lab-b takes events but has confirmed none for 2 min",
                       "Broker lab-b nimmt Ereignisse an, bestätigt aber seit 2 min keines"),
    "certificate-expires": ("The certificate of broker lab-b expires in 5 days",
                            "Das Zertifikat des Brokers lab-b läuft in 5 Tagen ab"),
    "slot-without-owner": ("Part 3 of the work has had no gateway for 2 min",
                           "Teil 3 der Arbeit hat seit 2 min kein Gateway"),
    "dead-letters": ("4 events could not be delivered; they are kept as dead letters",
                     "4 Ereignisse ließen sich nicht zustellen"),
    "stalled": ("Nothing has been delivered for 2 min; 318 events wait",
                "Seit 2 min wurde nichts zugestellt; 318 Ereignisse warten"),
    "legacy-bridge-eats": ("The old Python bridge of site lab is still running",
                           "Die alte Python-Brücke des Standorts lab läuft noch"),
    "reload-failed": ("The changed configuration has an error",
                      "Die geänderte Konfiguration hat einen Fehler"),
    "stream-unreadable": ("The events of site lab cannot be read",
                          "Die Ereignisse des Standorts lab lassen sich nicht"),
    "no-streams": ("No site has written an event yet",
                   "Noch kein Standort hat ein Ereignis geschrieben"),
    "lag-growing": ("Events come in faster than they go out: 318 wait",
                    "Ereignisse kommen schneller, als sie weitergehen: 318 warten"),
    "slots-not-running": ("2 parts of the work are not running yet",
                          "2 Teile der Arbeit laufen noch nicht"),
    "starting": ("nemogate is starting", "nemogate startet gerade"),
    "draining": ("nemogate is being stopped", "nemogate wird gerade beendet"),
    "shard-dead": ("A part of nemogate has not moved for 2 min",
                   "Ein Teil von nemogate rührt sich seit 2 min nicht"),
    "trim-blocked": ("Delivered events of site lab cannot be cleared away",
                     "Zugestellte Ereignisse des Standorts lab lassen sich nicht aufräumen"),
}


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


def test_texts_are_whole(page, gateway):
    page.open(gateway)
    texts = page.driver.execute_async_script(
        "import('/page-texts.js').then((module) => arguments[0](module.TEXTS))")
    assert set(SENTENCES) == set(mock_cases.CODES)
    for key, pair in texts.items():
        assert len(pair) == 2 and all(pair), key
        names = [sorted(set(re.findall(r"\{(\w+)", text))) for text in pair]
        assert names[0] == names[1], key
    for code in SENTENCES:
        assert f"reason.{code}" in texts and f"todo.{code}" in texts
    used = set()
    for path in SOURCES:
        used.update(re.findall(r"\"([a-z0-9_]+(?:[.-][a-z0-9_-]+)*)\"", path.read_text()))
    dynamic = ("reason.", "todo.", "dead.", "level.", "theme.", "state.", "tool.", "event.",
               "site.", "confirm.", "hero.", "feed.")
    unused = [key for key in texts if key not in used and not key.startswith(dynamic)]
    assert unused == []


# ---- the sentence ---------------------------------------------------------------------------------

@pytest.mark.parametrize("language", ["en", "de"])
def test_sentence_of_each_reason(page, gateway, language):
    page.open(gateway, f"?lang={language}")
    assert page.js("return document.documentElement.lang") == language
    for code, sentences in SENTENCES.items():
        gateway.state.status = mock_cases.one_reason(code)
        gateway.publish()
        page.wait_text("hero-text", sentences[language == "de"])
        assert page.visible("hero-advice") and page.text("hero-advice")
        assert page.text("hero-level") == ("Fault" if language == "en" else "Störung")


def test_sentence_when_all_is_well(page, gateway):
    page.open(gateway)
    page.wait_text("hero-text", "All 3 sites are connected; the last event arrived ")
    first = page.text("hero-text")
    assert re.search(r"arrived \d+\xa0s ago$", first)
    page.wait_for("return document.getElementById('hero-text').textContent !== arguments[0]", first)
    gateway.set_case("one-site")
    page.wait_text("hero-text", "The site is connected; the last event arrived ")
    gateway.state.status["sites"][0]["last_event"] = None
    gateway.publish()
    page.wait_text("hero-text", "no event has arrived since the start")
    assert page.find("#hero .light.ok")


def test_variants_of_sentences(page, gateway):
    page.open(gateway)
    state = mock_cases.one_reason("certificate-expires")
    state["reasons"][0]["expires"] = mock_cases.now() - 3 * 86_400_000 - 5000
    gateway.state.status = state
    gateway.publish()
    page.wait_text("hero-text", "The certificate of broker lab-b expired 3 days ago")
    state = mock_cases.one_reason("broker-down")
    for site in state["sites"]:
        site.update(lag=0, pending=0)
    gateway.state.status = state
    gateway.publish()
    page.wait_text("hero-text", "no event waits")
    gateway.state.status = mock_cases.status([], [], [mock_cases.reason("brand-new", text="fan off")])
    gateway.publish()
    page.wait_text("hero-text", "nemogate reports: fan off")


def test_further_reasons_and_picture(page, gateway):
    gateway.set_case("redis-down")
    page.open(gateway)
    page.wait_text("hero-text", "Redis has been unreachable")
    page.wait_text("hero-reasons", "The changed configuration has an error")
    label = page.js("return document.querySelector('#picture svg').getAttribute('aria-label')")
    assert "Redis: unreachable" in label and "main: connected" in label
    gateway.state.status["reasons"] += [
        mock_cases.reason("dead-letters", "warning", site=f"s{i}", count=1) for i in range(6)]
    gateway.publish()
    page.wait_text("hero-reasons", "and 2 more")
    gateway.set_case("broker-down")
    page.wait_text("picture", "unreachable")
    label = page.js("return document.querySelector('#picture svg').getAttribute('aria-label')")
    assert "Redis: connected, 318 waiting" in label and "lab-b: unreachable" in label


def test_announcer_does_not_chatter(page, gateway):
    """A screen reader hears of a new case, not of each second of its age."""
    page.open(gateway)
    page.js("""window.said = [];
        new MutationObserver(() => window.said.push(document.getElementById('announcer').textContent))
            .observe(document.getElementById('announcer'), {childList: true, subtree: true,
                                                            characterData: true});""")
    page.wait_for("return window.said.length > 0")
    time.sleep(5)  # ages and statuses go on meanwhile
    assert len(page.js("return window.said")) == 1
    gateway.set_case("broker-down")
    page.wait_for("return window.said.length > 1")
    said = page.js("return window.said")
    assert len(said) == 2 and said[1].startswith("Fault: Broker lab-b has been unreachable")


# ---- tools and sites ------------------------------------------------------------------------------

def tool_cards(page):
    return page.js("""return [...document.querySelectorAll('.tool')].map((one) => [
        one.querySelector('.name').textContent, one.dataset.state,
        one.querySelector('.state').textContent.replaceAll('\\u00a0', ' '),
        one.querySelector('.more').textContent])""")


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
    """From the gateway to the page; the quickest of three, as the machine may be busy."""
    page.open(gateway)
    page.js("""window.seen = [];
        new MutationObserver(() => window.seen.push(Date.now()))
            .observe(document.getElementById('feed-list'), {childList: true});""")
    delays = []
    for i in range(3):
        sent = time.time() * 1000
        gateway.message(*mock_cases.tool_event("enabled", i, "Ada Osei")[:2])
        page.wait_for("return window.seen.length > arguments[0]", i)
        delays.append(page.js("return window.seen[arguments[0]]", i) - sent)
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

NETWORK = ["ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED", "ERR_CONNECTION_RESET",
           "ERR_EMPTY_RESPONSE"]


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


# ---- hands, eyes, ears ----------------------------------------------------------------------------

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
    for case in ("fine", "broker-down", "dead-letters", "many-sites", "no-sites"):
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
    for scheme, case in (("light", "fine"), ("dark", "broker-down"), ("light", "dead-letters")):
        page.colours(scheme)
        gateway.set_case(case)
        page.open(gateway)
        for topic, payload, more in mock_cases.some_events():
            gateway.message(topic, payload, **more)
        page.wait_feed("María José Ruiz enabled Spin coater")
        time.sleep(0.5)
        page.driver.save_screenshot(str(folder / f"{case}-{size[0]}-{scheme}.png"))
        assert page.js("return document.documentElement.scrollWidth") <= size[0]


# ---- hostile texts --------------------------------------------------------------------------------

def evil_everywhere(value):
    """The same shape with hostile text wherever the API has text of others."""
    if isinstance(value, dict):
        return {key: evil_everywhere(inner) if key not in ("level", "overall", "code", "state")
                else inner for key, inner in value.items()}
    if isinstance(value, list):
        return [evil_everywhere(inner) for inner in value]
    return EVIL if isinstance(value, str) else value


def test_markup_in_texts_is_inert(page, gateway):
    gateway.set_case("dead-letters")
    state = gateway.state
    state.status = evil_everywhere(state.status)
    state.status["brokers"].append(mock_cases.broker(EVIL, up=False))
    state.status["reasons"].append({"code": EVIL, "level": EVIL, "text": EVIL})
    state.letters = [dict(evil_everywhere(letter), id=f"{EVIL}{i}", reason=reason)
                     for i, (letter, reason) in enumerate(zip(mock_cases.letters(),
                                                              (EVIL, "__proto__", "poison", None)))]
    topics = []
    for i, word in enumerate(("in_use", "idle")):
        body = dict(evil_everywhere(mock_cases.tool_state("lab", i, word)), state=word, user=EVIL)
        topics.append(mock_cases.topic(f"nemo/lab/tools/{i}/state", body))
    topics += [mock_cases.topic(f"nemo/lab/{EVIL}", EVIL), mock_cases.topic(
        "nemo/lab/areas/1/state", {"area_name": EVIL, "occupancy": 3, "capacity": EVIL})]
    for site in {site["site"] for site in state.status["sites"]}:
        state.topics[site] = topics
    page.open(gateway)
    page.wait_text("hero-text", EVIL[:30])
    page.wait_text("tools-list", EVIL)
    page.wait_text("letters-list", EVIL)
    gateway.message(f"nemo/lab/{EVIL}", EVIL, key=EVIL, type=EVIL, stream_id=EVIL, site=EVIL)
    gateway.message("nemo/lab/tools/1/event", {"event": "enabled", "tool_name": EVIL, "user": EVIL})
    page.wait_feed(f"{EVIL} enabled {EVIL}"[:200])
    page.js("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    page.wait_text("feed-list", "Stream id")
    page.wait_text("letters-list", "Said by the gateway")
    assert page.js("return window.pwned") is None
    assert page.js("return document.querySelectorAll('img, script, iframe, object').length") == 1
    assert page.js("return document.querySelector('#hero .light') !== null")


ODD = (None, 17, -1.5, "", "text", [], [None], {}, {"a": []}, True, 1e300)


def test_odd_values_do_not_stop_the_page(page, gateway):
    """Whatever stands in a payload or in a member of the status: the next event is shown."""
    page.open(gateway)
    for odd in ODD:
        body = {name: odd for name in ("tool_name", "user", "since", "next", "count", "occupancy",
                                       "capacity", "area_name", "items", "more", "sensor_name",
                                       "value", "until", "tasks", "problems")}
        for word in ("in_use", "idle", odd):
            gateway.message("nemo/lab/tools/1/state", dict(body, state=word))
        for name in ("tools/1/tasks", "tools/1/next", "areas/1/state", "facility/alerts",
                     "sensors/1/value", "interlocks/1/state", "resources/1/state"):
            gateway.message(f"nemo/lab/{name}", body)
        gateway.message("nemo/lab/tools/1/state", json.dumps(odd))
        gateway.state.tell("message", odd)
        gateway.state.tell("message", {name: odd for name in ("at", "site", "topic", "payload",
                                                              "qos", "dropped", "key", "retain")})
        gateway.state.tell("history", odd)
        gateway.state.tell("status", odd)
        for name in gateway.state.status:
            gateway.state.tell("status", dict(gateway.state.status_now(),
                                              **{name: odd if name != "version" else "0.1.0"}))
    gateway.message(*mock_cases.tool_event("enabled", 0, "René Müller")[:2])
    gateway.publish()
    page.wait_feed("René Müller enabled woollam")
    page.wait_text("hero-text", "All 3 sites are connected")
    assert page.find(".tool")


def test_policy_forbids_what_the_page_does_not_need(page):
    """The mock sends the gateway's policy; this shows that the browser honours it."""
    gateway = MockGateway("fine").start()
    try:
        page.expected.append("Content Security Policy")
        page.open(gateway)
        page.js("""const script = document.createElement('script');
            script.textContent = 'window.pwned = 1'; document.body.append(script);""")
        assert page.js("return window.pwned") is None
    finally:
        gateway.stop()
