"""Hostile and odd texts on the monitor page, against a mock of the gateway: they are shown, and do
nothing else."""

import json

import mock_cases
from mock_gateway import MockGateway

EVIL = "<img src=x onerror=\"window.pwned=1\">'\"</td><script>window.pwned=1</script>"


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
