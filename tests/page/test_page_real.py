"""The monitor page on a real gateway between a real Redis and a real broker: an event written to Redis
is seen, a broker that stops is told of, a dead letter is sent again, a restart is survived."""

import os

import mock_cases
from page_steps import NETWORK, feed_delays
from real_lab import needs_gateway

pytestmark = needs_gateway


def test_event_is_seen_within_a_second(page, labs):
    """From XADD to the page; the quickest of three, as the machine may be busy."""
    lab = labs()
    page.open(lab)
    delays = feed_delays(page, lambda i: lab.event("enabled", i, "René Müller"))
    for i in range(3):
        page.wait_feed(f"René Müller enabled {mock_cases.TOOLS[i]}")
    assert min(delays) < 1000, delays
    page.wait_text("hero-text", "The site is connected; the last event arrived ")


def test_tools_appear_and_stay_over_a_reload_of_the_page(page, labs):
    lab = labs()
    page.open(lab)
    lab.tool(0, "in_use", "René Müller")
    lab.tool(1, "down")
    page.wait_text("tools-list", "in use · René Müller")
    page.open(lab)
    page.wait_text("tools-list", "in use · René Müller")
    page.wait_text("tools-list", "out of order")


def test_broker_stops_and_the_sentence_changes(page, labs):
    lab = labs()
    page.open(lab)
    lab.event("enabled", 0, "René Müller")
    page.wait_text("hero-text", "The site is connected")
    lab.broker.kill()
    page.wait_text("hero-text", "Broker main has been unreachable", patience=30)
    lab.event("enabled", 1, "Ada Osei")
    page.wait_text("hero-text", "one event waits in Redis and is not lost", patience=30)
    page.wait_text("picture", "unreachable")
    lab.broker.start()
    page.wait_text("hero-text", "The site is connected", patience=60)
    page.wait_feed("Ada Osei enabled Sputter 2")


def test_redis_stops_and_the_sentence_changes(page, labs):
    lab = labs()
    page.open(lab)
    lab.event("enabled", 0, "René Müller")
    page.wait_text("hero-text", "The site is connected")
    lab.redis.kill()
    page.wait_text("hero-text", "Redis has been unreachable", patience=30)
    lab.redis.start()
    page.wait_for("return !document.getElementById('hero-text').textContent.includes('Redis has')",
                  patience=60)


def test_dead_letter_is_replayed(page, labs):
    """Refused by the broker's rules; once they are mended, sent again from the page."""
    lab = labs(admin={"write": True},
               broker={"acl": "topic write nemo/lab/tools/#\ntopic write nemogate/#"})
    page.open(lab)
    lab.write("secret/1", "hello", key="secret")
    with lab.others():  # or nemogate would take the refusals for the broker's state, and wait
        page.wait_text("letters-list", "The broker does not allow nemogate to write there",
                       patience=60)
    page.wait_text("hero-text", "One event", patience=30)
    with open(os.path.join(lab.broker.folder, "acl"), "w", encoding="utf-8") as acl:
        acl.write("topic write #\n")
    lab.broker.kill()
    lab.broker.start()
    page.wait_for("return !document.getElementById('hero-text').textContent.includes('unreachable')",
                  patience=60)
    page.click("#letters-list input")
    page.click_text("#letters-actions", "Send again (1)")
    page.click_text("#confirm-buttons", "Send again")
    page.wait_text("letters-result", "One event done.")
    page.wait_feed("nemo/lab/secret/1")
    page.wait_text("hero-text", "The site is connected", patience=30)
    assert lab.client.xlen("nemo:{lab}:dead") == 0


def test_without_write_the_page_only_shows(page, labs):
    lab = labs()
    lab.write("big", "x" * 5000)
    page.open(lab)
    page.wait_text("letters-list", "It is too large", patience=30)
    assert not page.visible("letters-bar") and page.visible("letters-readonly")


def test_restart_of_the_gateway_is_survived(page, labs):
    page.expected += NETWORK
    lab = labs()
    page.open(lab)
    lab.tool(0, "in_use", "René Müller")
    page.wait_text("tools-list", "in use · René Müller")
    lab.gateway.terminate()
    page.wait_text("hero-text", "Connection to nemogate lost, trying again", patience=30)
    page.wait_text("tools-list", "in use · René Müller")
    lab.gateway.start()
    lab.event("enabled", 1, "Ada Osei")
    page.wait_text("hero-text", "The site is connected", patience=60)


def test_token_of_the_real_gateway(page, labs, tmp_path):
    page.expected.append("401")
    token = tmp_path / "token"
    token.write_text("a-token-of-sufficient-length\n", encoding="utf-8")
    token.chmod(0o600)
    lab = labs(admin={"token_file": str(token)})
    page.open(lab, ready=False)
    page.wait_for("return document.getElementById('token').open")
    page.find("#token-input").send_keys("a-token-of-sufficient-length\n")
    page.wait_for("return !document.getElementById('content').hidden")
    lab.event("enabled", 0, "René Müller")
    page.wait_feed("René Müller enabled woollam")
    page.js("sessionStorage.clear()")


def test_hostile_event_is_inert(page, labs):
    evil = "<img src=x onerror=\"window.pwned=1\">"
    lab = labs()
    page.open(lab)
    lab.write("tools/9/event", {"event": "enabled", "tool_name": evil, "user": evil}, type=evil,
              key=evil, id=evil)
    lab.write(f"tools/{evil}/state", evil, retain="1")
    page.wait_feed(f"{evil} enabled {evil}")
    page.wait_feed(f"nemo/lab/tools/{evil}/state")
    assert page.js("return window.pwned") is None
    assert page.js("return document.querySelectorAll('img').length") == 0
