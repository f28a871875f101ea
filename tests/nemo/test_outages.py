"""Scenarios 2 to 5: the gateway stops, the broker dies, the gateway is killed, Redis is away."""

import json
import threading
import time

import pytest
from harness import wait_until
from lab import order_faults

scenario = pytest.mark.scenario


def toggle(lab, rounds):
    """rounds of enable and disable, the tools in turn; each is one tool event."""
    lab.site.shell(f"""
for n in range({rounds}):
    tool = {lab.tools!r}[n % {len(lab.tools)}]
    enable(tool, {lab.users["captain"]}, {lab.project})
    disable(tool)
""")


def tool_events(lab):
    return [m for m in lab.messages() if m.topic.endswith("/event")]


@scenario(2, "order after an outage: gateway away for 20 pairs on 3 tools")
def test_order_after_an_outage(lab, seen):
    lab = lab()
    lab.snapshot()
    lab.wait_settled()
    assert lab.gateway.terminate() == 0
    received = len(lab.messages())
    for n in range(20):
        tool = lab.tools[n % 3]
        lab.browser.enable(tool, lab.users["captain"], lab.project)
        lab.browser.disable(tool)
    lab.browser.enable(lab.tools[0], lab.users["captain"], lab.project)  # a truth that is not idle
    lab.gateway.start()
    lab.wait_settled()
    wait_until(lambda: len(tool_events(lab)) == 41, 10, lambda: f"41 events, {len(tool_events(lab))}")
    for tool, count in zip(lab.tools, (15, 14, 12)):
        words = [json.loads(m.payload)["event"] for m in
                 lab.messages(lab.topic(f"tools/{tool}/event"))]
        assert words == (["enabled", "disabled"] * 8)[:count], (tool, words)
    faults, repeats, _ = order_faults(lab.messages()[received:])
    assert faults == 0
    assert lab.wrong_states() == []
    assert lab.state(lab.tools[0])["in_use"] is True and lab.state(lab.tools[2])["in_use"] is False
    seen(f"20 pairs and one that stays enabled: 41 of 41 events in time order, {repeats} twice, 3 of 3 "
         "last states true")


@scenario(3, "broker stalls, is killed, returns: 300 events meanwhile")
def test_broker_dies(lab, seen):
    # The broker writes down each change, or the subscriber's session would be gone with it.
    lab = lab(broker_changes={"puback_timeout": "2s"},
              broker={"extra": ["autosave_on_changes true", "autosave_interval 1"]})
    toggle(lab, 3)
    lab.wait_settled()
    wait_until(lambda: len(tool_events(lab)) == 6, 10)
    lab.broker.pause()
    toggle(lab, 150)
    time.sleep(3)
    lab.broker.kill()
    time.sleep(1)
    lab.broker.start()
    lab.wait_settled(40)
    ids = lambda: {json.loads(m.payload)["usage_id"] for m in tool_events(lab)}  # noqa: E731
    wait_until(lambda: len(ids()) == 153, 20, lambda: f"153 usages, {len(ids())} came")
    faults, repeats, different = order_faults(tool_events(lab))
    assert faults == 0
    assert different == 306
    assert lab.wrong_states() == []
    seen(f"300 of 300 arrived, in order per tool, {repeats} twice")


@scenario(4, "gateway killed (-9) ten times at 1,000 entries a second")
@pytest.mark.limit(240)
def test_gateway_killed(lab, seen):
    lab = lab(delivery={"lease_ttl": "1s"})
    lab.snapshot()
    lab.wait_settled()
    client, done = lab.redis.client(), threading.Event()
    written = []

    def write():  # 1,000 a second beside what NEMO writes itself: more than Django can save
        begun = time.monotonic()
        while not done.is_set():
            due = int((time.monotonic() - begun) * 1000)
            pipe = client.pipeline(transaction=False)
            for n in range(len(written), min(due, len(written) + 200)):
                pipe.xadd("nemo:{lab}:events", {"topic": f"load/{n % 50}", "key": f"load/{n % 50}",
                                                "payload": str(n)})
                written.append(n)
            pipe.execute()
            time.sleep(0.02)

    writer = threading.Thread(target=write)
    writer.start()
    begun = time.monotonic()
    try:
        for n in range(10):
            toggle(lab, 3)
            time.sleep(0.8)
            lab.gateway.kill9()
            lab.site.shell(f"enable({lab.tools[n % 3]}, {lab.users['captain']}, {lab.project})")
            lab.gateway.start()
            lab.site.shell(f"disable({lab.tools[n % 3]})")
        lab.site.shell(f"enable({lab.tools[1]}, {lab.users['li']}, {lab.project})")
    finally:
        done.set()
        writer.join()
    rate = len(written) / (time.monotonic() - begun)
    lab.wait_settled(60)
    numbers = lambda: {int(m.payload) for m in lab.messages()  # noqa: E731
                       if m.topic.startswith(lab.topic("load/"))}
    try:
        wait_until(lambda: len(numbers()) == len(written), 30, interval=0.5)
    except TimeoutError:
        pass
    lost = set(written) - numbers()
    faults, repeats, _ = order_faults(lab.messages())
    usages = {(json.loads(m.payload)["usage_id"], json.loads(m.payload)["event"])
              for m in tool_events(lab)}
    assert not lost
    assert len(usages) == 10 * 6 + 10 * 2 + 1
    assert faults == 0
    assert lab.wrong_states() == []
    seen(f"{len(written)} at {rate:.0f}/s and {len(usages)} tool events: 0 lost, 0 out of order, "
         f"{repeats} twice; 3 of 3 states as NEMO's API says")


@scenario(5, "Redis restarted")
def test_redis_restarted(lab, seen):
    lab = lab()
    tool = lab.tools[0]
    lab.browser.enable(tool, lab.users["captain"], lab.project)
    lab.wait_state(tool, "in_use")
    lab.redis.kill()
    lab.redis.start()
    begun = time.monotonic()
    lab.browser.disable(tool)
    lab.snapshot()
    lab.wait_state(tool, "idle", 15)
    assert lab.wrong_states() == []
    seen(f"right {time.monotonic() - begun:.1f} s after it was back, nothing restarted by hand")


@scenario(5, "Redis down while tools are used")
@pytest.mark.limit(500)
def test_redis_down(lab, seen, waits):
    lab = lab(tools=[f"Tool {n}" for n in range(6)])
    lab.snapshot()
    lab.wait_settled()
    seconds = waits(300, 40)
    lab.redis.kill()
    begun, slowest = time.monotonic(), 0.0
    for tool in lab.tools:
        lab.browser.enable(tool, lab.users["captain"], lab.project)
        slowest = max(slowest, lab.browser.seconds)
        if tool in lab.tools[:3]:
            lab.browser.disable(tool)
            slowest = max(slowest, lab.browser.seconds)
    while time.monotonic() - begun < seconds:
        time.sleep(0.2)
    lab.browser.disable(lab.tools[3])
    slowest = max(slowest, lab.browser.seconds)
    lab.redis.start()
    back = time.monotonic()
    lab.snapshot()
    for tool in lab.tools:
        lab.wait_state(tool, "in_use" if tool in lab.tools[4:] else "idle", 40)
    took = time.monotonic() - back
    assert slowest < 1.0
    assert lab.wrong_states() == []
    assert lab.gateway.running and len(lab.gateway.log_lines()) > 0
    seen(f"down {seconds:.0f} s: slowest request {slowest:.2f} s; all states right "
         f"{took:.1f} s after it was back, with the snapshot")
