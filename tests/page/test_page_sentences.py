"""What the monitor page says in each case, in English and German, against a mock of the gateway."""

import re
import time

import mock_cases
import pytest
from mock_gateway import PAGE
from page_steps import SOURCES

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
    "entries-refused": (
        "Broker lab-b refuses events of site lab; those of 2 tools or areas wait, and none is lost",
        "Broker lab-b lehnt Ereignisse des Standorts lab ab; die von 2 Geräten oder Bereichen warten, "
        "keines ist verloren"),
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
               "site.", "confirm.", "hero.", "feed.", "whose.")
    unused = [key for key in texts if key not in used and not key.startswith(dynamic)]
    assert unused == []


def test_codes_are_those_of_the_gateway():
    given = set()
    for line in (PAGE.parent / "admin_judge.c").read_text(encoding="utf-8").splitlines():
        if re.search(r"\bcode = ", line):
            given.update(re.findall(r'"([a-z-]+)"', line))
    assert given == set(mock_cases.CODES)
    readme = (PAGE.parents[1] / "README.md").read_text(encoding="utf-8")
    assert [code for code in mock_cases.CODES if f"`{code}`" not in readme] == []


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
    page.wait_text("hero-advice", "It has to be renewed")
    hour = 3_600_000
    for whose, ms, sentence in (
            ("broker", 120 * hour - 1000, "The certificate of broker lab-b expires in 5 days"),
            ("broker", 107 * hour, "The certificate of broker lab-b expires in 4 days"),
            ("broker", 47 * hour + 1000, "The certificate of broker lab-b expires in 47 hours"),
            ("broker-client", 72 * hour,
             "The certificate of nemogate for broker lab-b expires in 3 days"),
            ("redis", 72 * hour, "The certificate of Redis expires in 3 days"),
            ("redis-client", 72 * hour, "The certificate of nemogate for Redis expires in 3 days"),
            ("admin", 72 * hour, "The certificate of this page expires in 3 days")):
        state["reasons"][0].update(certificate=whose, expires=mock_cases.now() + ms)
        gateway.publish()
        page.wait_text("hero-text", sentence)
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
