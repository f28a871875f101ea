"""Scenario 11: two sites on one broker, each with its own Redis, NEMO and gateway."""

import json
import time

import pytest
from harness import Subscriber, wait_until

scenario = pytest.mark.scenario

PASSWORDS = {"a": "a-secret", "b": "b-secret", "watch": "watch-secret"}
RULES = """
user a
topic readwrite nemo/a/#
topic write nemogate/#
user b
topic readwrite nemo/b/#
topic write nemogate/#
user watch
topic read #
"""


def two_labs(lab, tmp_path):
    def credentials(site):
        path = tmp_path / f"{site}.password"
        path.write_text(PASSWORDS[site])
        return {"username": site, "password_file": str(path)}
    watch = {"username": "watch", "password": PASSWORDS["watch"]}
    a = lab(site="a", broker={"password": PASSWORDS, "acl": RULES}, subscriber=watch,
            broker_changes=credentials("a"))
    return a, lab(site="b", beside=a, subscriber=watch, broker_changes=credentials("b"))


@scenario(11, "two sites, one broker: nothing crosses")
def test_nothing_crosses(lab, tmp_path, seen):
    a, b = two_labs(lab, tmp_path)
    tool = a.tools[0]
    assert tool == b.tools[0] == 1
    spy = a.keep(Subscriber(a.things.tmp, a.broker.port, topics=("nemo/b/#", "nemo/a/#"),
                            tls=a.things.certs, username="a", password=PASSWORDS["a"])).start()
    a.browser.enable(tool, a.users["bob"], a.project)
    b.browser.enable(tool, b.users["bob"], b.project)
    a.wait_state(tool, "in_use")
    b.wait_state(tool, "in_use")
    a.browser.disable(tool)
    a.wait_state(tool, "idle")
    assert b.state(tool)["in_use"]
    assert {json.loads(m.payload or b"{}").get("site") for m in a.messages()
            if m.topic.startswith("nemo/a/")} == {"a"}
    # Whoever has site A's credentials and its stream cannot speak for B.
    a.redis.client().xadd("nemo:{a}:events", {"topic": "nemo/b/tools/1/state", "abs": "1",
                                              "payload": "forged", "key": "forged"})
    a.browser.enable(a.tools[1], a.users["bob"], a.project)
    a.wait_state(a.tools[1], "in_use")
    a.wait_settled(30)
    assert [fields["dead_reason"] for _, fields in a.dead()] != []
    assert not [m for m in a.messages() if m.payload == b"forged"]
    mine = {m.topic.split("/")[1] for m in spy.messages}
    assert mine == {"a"}
    seen(f"{len(a.messages())} messages, none crossed; with A's credentials {len(spy.messages)} of A "
         f"read, 0 of B; A's forged publish to B: dead letter ({a.dead()[0][1]['dead_reason']})")


@scenario(11, "two sites, one broker: A's Redis stands still, and is stopped")
def test_no_delay(lab, tmp_path, seen):
    a, b = two_labs(lab, tmp_path)

    def delay(lab, tool):
        begun = time.monotonic()
        lab.browser.enable(tool, lab.users["bob"], lab.project)
        lab.wait_state(tool, "in_use")
        return time.monotonic() - begun
    delay(b, b.tools[2])  # the first click opens connections
    with_a = delay(b, b.tools[0])
    a.redis.pause()
    without = delay(b, b.tools[1])
    a.browser.enable(a.tools[0], a.users["bob"], a.project)
    held = a.browser.seconds
    a.redis.resume()
    assert a.redis.terminate() == 0
    b.browser.disable(b.tools[0])
    b.wait_state(b.tools[0], "idle")
    stopped = delay(b, b.tools[0])
    a.redis.start()
    assert a.gateway.running
    a.tick()
    a.wait_state(a.tools[0], "in_use", 30)
    assert held < 1.0
    assert without < 2.0 and stopped < 2.0
    seen(f"B: {with_a * 1000:.0f} ms after the click with A, {without * 1000:.0f} ms while A's Redis "
         f"stands still, {stopped * 1000:.0f} ms while it is stopped; A's own request {held:.2f} s")
